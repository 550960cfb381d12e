"""Installations from an ISO: a real machine starts a real installer, which fills the disk or does not."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from imagesmith.artifacts.disks import examine
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.hardware import Drive, Hardware, command_line
from imagesmith.instances.machine.installation import Installation, install
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.windows_answers import answer_file
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled
from testing.installer_iso import installer_iso
from testing.machines import left_over

pytestmark = pytest.mark.tool

UNATTEND = {"u": "urn:schemas-microsoft-com:unattend"}


def run(tmp_path: Path, iso: Path, *, seconds: float = 250, cancellation: Cancellation | None = None) -> Path:
    options = MachineOptions(cpus=1, memory_mb=256, root_gb=64, firmware="uefi")
    return install(
        tmp_path / "machines/install",
        Installation(iso=iso, answers={"Autounattend.xml": b"<x/>"}, options=options, seconds=seconds),
        accelerator=Accelerator(tmp_path, wanted="tcg"), limits=ResourceLimits(), cancellation=cancellation,
    )  # fmt: skip


def test_an_installer_fills_the_disk_and_ends(tmp_path: Path) -> None:
    """The disk has the wanted size and what the installer wrote; nothing runs on."""
    disk = run(tmp_path, installer_iso(tmp_path / "iso"))
    assert examine(disk).virtual_size == 64 * 1024**3
    assert b"EFI PART" in disk.read_bytes()
    assert left_over(tmp_path) == [str(disk.parent)]


def test_an_installation_has_an_end(tmp_path: Path) -> None:
    """A medium that never switches the machine off is ended, and a cancelled one at once."""
    endless = tmp_path / "endless.iso"
    endless.write_bytes(bytes(4096))
    with pytest.raises(InstanceError, match="did not end its installation within 2 s"):
        run(tmp_path, endless, seconds=2)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        run(tmp_path, endless, cancellation=cancellation)


def test_an_installer_finds_devices_that_it_has_drivers_for() -> None:
    """No virtio disk and network card; the installed disk is tried before the medium."""
    drives = (
        Drive("root", "root.qcow2", bus="sata"),
        Drive("installer", "installer.iso", "raw", read_only=True, bus="cd"),
        Drive("answers", "answers.img", "raw", bus="usb"),
    )  # fmt: skip
    argv = command_line(Hardware(cpus=1, memory_mb=512, drives=drives, firmware="uefi"), "tcg")
    text = " ".join(argv)
    assert "virtio-blk" not in text and "virtio-net" not in text and "e1000e" in text
    assert "ide-hd,bus=ide.0,drive=root,serial=root,bootindex=1" in argv
    assert "ide-cd,bus=ide.1,drive=installer,serial=installer,bootindex=2" in argv
    assert "usb-storage,removable=on,drive=answers,serial=answers" in argv


def test_the_answers_name_the_edition_and_end_with_sysprep() -> None:
    """Setup asks nothing: one disk, the wanted index, no account; the last step switches the machine off."""
    root = ElementTree.fromstring(answer_file(image_index=3))
    assert [item.get("pass") for item in root] == ["windowsPE", "oobeSystem", "auditUser"]
    assert [item.text for item in root.iterfind(".//u:MetaData/u:Value", UNATTEND)] == ["3"]
    assert [item.text for item in root.iterfind(".//u:InstallTo/u:PartitionID", UNATTEND)] == ["3"]
    paths = [str(item.text) for item in root.iterfind(".//u:RunSynchronousCommand/u:Path", UNATTEND)]
    assert "BypassTPMCheck" in paths[0]
    assert paths[-1] == r"C:\Windows\System32\Sysprep\sysprep.exe /generalize /oobe /shutdown /quiet"
