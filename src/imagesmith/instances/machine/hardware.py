"""Builds the command line of QEMU for one machine. Pure.

Every device is virtio, except on a machine that is installed, and only the host paths named here are opened; there
are no default devices. The serial console is QEMU's standard output; QMP is a socket in the machine's folder, which
QEMU sees as FOLDER.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Acceleration = Literal["kvm", "tcg"]
Firmware = Literal["bios", "uefi"]
Bus = Literal["virtio", "sata", "cd", "usb"]
"""How a disk is attached: every system has drivers for all but the first."""

PROGRAM = "qemu-system-x86_64"
FOLDER = "/machine"
"""Path of the machine's own folder inside QEMU's sandbox."""
SSH_PORT = 2222
"""On the loopback of the machine's network namespace, forwarded to port 22 of the guest."""
OWN_SSH_PORTS = {2223: 41022, 2224: 41023}
"""The same for the SSH servers of our own in the guest (way_in.py): ports that nobody else has there."""
GUEST_NETWORK = "10.0.3.0/24"
"""Differs from the network of slirp4netns outside, whose name server at 10.0.2.3 must stay reachable."""
UEFI_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
UEFI_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"

EMULATED_CPU = "max,avx=off,avx2=off,la57=off,svm=off,erms=off,fsrm=off,smap=off,mpx=off,pku=off"
"""Without AVX, which QEMU emulates since 7.2: with it, services of guests failed one after another because systemd
could not read its mount table. Five-level page tables and nested virtualisation only cost time, and so do:
erms, fsrm    guests then copy with `rep movsb`, which is emulated byte by byte
smap          every copy to or from a program toggles it twice, and each toggle leaves the translated code
mpx, pku      more registers to save at every context switch of the guest
All features of x86-64-v2 remain: some guests do not start without them."""
_TRANSLATION_MB = 512
"""Memory of TCG for translated code; its own choice would be a gigabyte."""
OVERHEAD_MB = _TRANSLATION_MB + 512
"""The most that QEMU itself takes beside the guest's memory."""


@dataclass(frozen=True)
class Drive:
    """A disk of the machine: a file in its folder."""

    name: str
    file: str
    format: Literal["qcow2", "raw"] = "qcow2"
    read_only: bool = False
    bus: Bus = "virtio"


@dataclass(frozen=True)
class Kernel:
    """A kernel to start without firmware: files in the machine's folder, and the kernel's arguments.

    When the guest resets, QEMU ends instead of starting the same kernel again.
    """

    file: str
    initrd: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The hardware of a machine. `strings` are files in its folder whose contents become SMBIOS strings."""

    cpus: int
    memory_mb: int
    drives: tuple[Drive, ...]
    strings: tuple[str, ...] = ()
    firmware: Firmware = "bios"
    outbound: bool = True
    interactive: bool = False
    """The serial console is a socket for a client such as `ami boot`; QEMU waits for the connection."""
    kernel: Kernel | None = None

    @property
    def installing(self) -> bool:
        """Whether an installer runs, for which there are no virtio drivers."""
        return any(drive.bus == "cd" for drive in self.drives)


def command_line(hardware: Hardware, acceleration: Acceleration) -> Sequence[str]:
    """The argv of QEMU; paths are those inside its sandbox."""
    return [
        PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,hpet=off,graphics=off",
        *_accelerator(acceleration), "-smp", str(hardware.cpus), "-m", f"{hardware.memory_mb}M",
        "-rtc", "base=utc", "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        *_firmware(hardware.firmware), *_kernel(hardware.kernel),
        "-chardev", _console(hardware.interactive), "-serial", "chardev:console",
        "-qmp", f"unix:{FOLDER}/qmp,server=on,wait=off",
        "-device", "virtio-rng-pci", *_network(hardware), *_for_installers(hardware.installing),
        *(word for index, drive in enumerate(hardware.drives) for word in _drive(drive, index)),
        *(word for name in hardware.strings for word in ("-smbios", f"type=11,path={FOLDER}/{name}")),
    ]  # fmt: skip


def _accelerator(acceleration: Acceleration) -> list[str]:
    if acceleration == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", f"tcg,thread=multi,tb-size={_TRANSLATION_MB}", "-cpu", EMULATED_CPU]


def _console(interactive: bool) -> str:
    if interactive:
        return f"socket,id=console,path={FOLDER}/console,server=on,wait=on"
    return "stdio,id=console,signal=off"


def _firmware(firmware: Firmware) -> list[str]:
    if firmware == "bios":
        return []
    return [
        "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={UEFI_CODE}",
        "-drive", f"if=pflash,unit=1,format=raw,file={FOLDER}/uefi-variables.fd",
    ]  # fmt: skip


def _kernel(kernel: Kernel | None) -> list[str]:
    if kernel is None:
        return []
    return [
        "-kernel", f"{FOLDER}/{kernel.file}", "-initrd", f"{FOLDER}/{kernel.initrd}", "-append", kernel.arguments,
        "-action", "reboot=shutdown",
    ]  # fmt: skip


def _for_installers(installing: bool) -> list[str]:
    """A screen that setup programs draw on, and the bus of the stick with the answers."""
    return ["-device", "VGA", "-device", "qemu-xhci"] if installing else []


def _network(hardware: Hardware) -> list[str]:
    # 10.0.3.2, QEMU's address for the loopback of its host, is the namespace's loopback: nothing listens there.
    options = f"user,id=network,net={GUEST_NETWORK},ipv6=off,restrict={'off' if hardware.outbound else 'on'}"
    ports = {SSH_PORT: 22, **OWN_SSH_PORTS}
    forwarded = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in ports.items())
    card = "e1000e" if hardware.installing else "virtio-net-pci"
    return ["-netdev", f"{options}{forwarded}", "-device", f"{card},netdev=network,romfile="]


def _drive(drive: Drive, index: int) -> list[str]:
    # A machine is disposable until its disk is copied, after the end of QEMU: no flush needs to be awaited.
    readonly = "on" if drive.read_only else "off"
    file = f"driver=file,node-name={drive.name}-file,filename={FOLDER}/{drive.file},cache.no-flush=on"
    node = f"driver={drive.format},node-name={drive.name},file={drive.name}-file,read-only={readonly}"
    trim = "" if drive.read_only else ",discard=unmap"
    # an installed disk comes before the installer that made it
    boot = f",bootindex={index + 1}" if index == 0 or drive.bus == "cd" else ""
    return [
        "-blockdev", f"{file},read-only={readonly}{trim}", "-blockdev", f"{node}{trim}",
        "-device", f"{_device(drive, index)},drive={drive.name},serial={drive.name}{boot}",
    ]  # fmt: skip


def _device(drive: Drive, index: int) -> str:
    match drive.bus:
        case "sata":
            return f"ide-hd,bus=ide.{index}"
        case "cd":
            return f"ide-cd,bus=ide.{index}"
        case "usb":
            return "usb-storage,removable=on"
        case "virtio":
            return "virtio-blk-pci"
