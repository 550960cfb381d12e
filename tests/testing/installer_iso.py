"""A bootable ISO with a program for UEFI that installs what it is told, and switches the machine off."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROGRAM = r"""
#include <efi.h>
#include <efilib.h>

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table)
{
    EFI_GUID guid = EFI_BLOCK_IO_PROTOCOL_GUID;
    EFI_HANDLE *handles;
    UINTN count, number;
    static UINT8 sectors[1024] __attribute__((aligned(4096)));

    InitializeLib(image, table);
    sectors[510] = 0x55;
    sectors[511] = 0xaa;
    CopyMem(sectors + 512, "EFI PART", 8);
    uefi_call_wrapper(BS->LocateHandleBuffer, 5, ByProtocol, &guid, NULL, &count, &handles);
    for (number = 0; WRITES && number < count; number++) {
        EFI_BLOCK_IO *disk;
        uefi_call_wrapper(BS->HandleProtocol, 3, handles[number], &guid, (VOID **)&disk);
        if (disk->Media->LogicalPartition || disk->Media->ReadOnly || disk->Media->RemovableMedia)
            continue;
        uefi_call_wrapper(disk->WriteBlocks, 5, disk, disk->Media->MediaId, (EFI_LBA)0, sizeof sectors, sectors);
        uefi_call_wrapper(disk->FlushBlocks, 1, disk);
    }
    Print(L"installed\n");
    uefi_call_wrapper(RT->ResetSystem, 4, EfiResetShutdown, EFI_SUCCESS, 0, NULL);
    return EFI_SUCCESS;
}
"""
"""Writes the signatures of a disk with partitions to every disk that is no medium."""

_SECTIONS = (
    ".text",
    ".sdata",
    ".data",
    ".rodata",
    ".dynamic",
    ".dynsym",
    ".rel",
    ".rela",
    ".rel.*",
    ".rela.*",
    ".reloc",
)


def installer_iso(folder: Path, *, writes: bool = True) -> Path:
    """An ISO whose program partitions the disk, or only ends."""
    folder.mkdir()
    source, boot, iso = folder / "program.c", folder / "tree/boot.img", folder / "installer.iso"
    source.write_text(PROGRAM)
    boot.parent.mkdir()
    _run(
        "gcc", "-I/usr/include/efi", "-I/usr/include/efi/x86_64", "-fpic", "-ffreestanding", "-fno-stack-protector",
        "-fshort-wchar", "-mno-red-zone", f"-DWRITES={int(writes)}", "-c", source, "-o", folder / "program.o",
    )  # fmt: skip
    _run(
        "ld", "-shared", "-Bsymbolic", "-L/usr/lib", "-T/usr/lib/elf_x86_64_efi.lds", "/usr/lib/crt0-efi-x86_64.o",
        folder / "program.o", "-o", folder / "program.so", "-lgnuefi", "-lefi",
    )  # fmt: skip
    sections = [word for name in _SECTIONS for word in ("-j", name)]
    target = ("--target=efi-app-x86_64", "--subsystem=10")
    _run("objcopy", *sections, *target, folder / "program.so", folder / "boot.efi")
    _run("mformat", "-i", boot, "-C", "-T", "2880", "::")
    _run("mmd", "-i", boot, "::EFI", "::EFI/BOOT")
    _run("mcopy", "-i", boot, folder / "boot.efi", "::EFI/BOOT/BOOTX64.EFI")
    _run(
        "xorriso", "-as", "mkisofs", "-quiet", "-V", "INSTALLER", "-eltorito-platform", "efi", "-b", boot.name,
        "-no-emul-boot", "-o", iso, boot.parent,
    )  # fmt: skip
    return iso


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)
