"""Installs an operating system from an ISO on an empty disk: nobody enters the machine, which switches itself off.

    root.qcow2       SATA, empty at first; tried first by the firmware, so restarts continue on it
    installer.iso    the CD of the machine
    answers.img      a stick with the files that answer the installer's questions

Installers ask for a key before they start from a CD, so the key is pressed until the installer runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith import processes
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.cached_disk import CachedDisk
from imagesmith.instances.machine.cloud_init import write_fat
from imagesmith.instances.machine.hardware import UEFI_VARIABLES, Drive
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.power_sequence import PowerSequence, PowerSupply
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.timer import SYSTEM_TIMER, Timer
from imagesmith.processes import Cancellation

_GIB: Final = 1024**3
_POLL_SECONDS: Final = 1.0
_END_SECONDS: Final = 10.0
_KEY_SECONDS: Final = 90.0
"""Firmware and the question for a key are over by then, emulated as well."""
_TOOL_SECONDS: Final = 120.0
_HEAD_SECTORS: Final = 2
_PARTITIONED: Final = (b"\x55\xaa", b"EFI PART")
"""The end of the first sector of a disk with partitions, and the begin of its second one with GPT."""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is installed, and with what."""

    iso: Path
    answers: Mapping[str, bytes]
    """Files of the stick."""
    options: MachineOptions
    seconds: float
    """The longest that it may take."""


class _EmptyDisk(CachedDisk):
    """The files of a machine that has no parent."""

    def __init__(self, folder: Path, installation: Installation) -> None:
        super().__init__(folder, folder / "installer.iso", installation.options)
        self._installation = installation

    def create(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        try:
            os.link(self._installation.iso, self.parent)
        except OSError:  # another file system
            shutil.copyfile(self._installation.iso, self.parent)
        size = self._installation.options.root_gb * _GIB
        self._image(["create", "-q", "-f", "qcow2", str(self.path), str(size)])
        shutil.copyfile(UEFI_VARIABLES, self.folder / "uefi-variables.fd")
        write_fat(self.folder / "answers.img", self._installation.answers, label="answers")

    def drives(self) -> tuple[Drive, ...]:
        return (
            Drive("root", self.path.name, bus="sata"),
            Drive("installer", self.parent.name, "raw", read_only=True, bus="cd"),
            Drive("answers", "answers.img", "raw", bus="usb"),
        )


def install(
    folder: Path,
    installation: Installation,
    *,
    accelerator: Accelerator,
    limits: ResourceLimits,
    cancellation: Cancellation | None = None,
    on_line: Callable[[str], None] = lambda _: None,
    timer: Timer = SYSTEM_TIMER,
) -> Path:
    """Run an installer in `folder` until it switches the machine off; returns the disk that it filled.

    Raises InstanceError, Cancelled.
    """
    disk = _EmptyDisk(folder, installation)
    supply = PowerSupply(options=installation.options, accelerator=accelerator, limits=limits, timer=timer)
    loop = LoopThread(f"machine-{folder.name}")
    power = PowerSequence(disk, supply, loop=loop, say=on_line)
    power.cancellation = cancellation
    try:
        disk.create()
        power.boot(lambda: _until_off(power, timer, installation.seconds))
        power.switch_off()
        _require_partitions(disk.path)
    finally:
        power.close()
        loop.close()
    return disk.path


def _until_off(power: PowerSequence, timer: Timer, seconds: float) -> None:
    """Wait until the machine has switched itself off. Raises InstanceError, Cancelled, GuestDoesNotRun."""
    started = timer.now()
    while not power.emulator.wait(_POLL_SECONDS):
        passed = timer.now() - started
        if passed > seconds:
            raise power.failure(f"did not end its installation within {seconds:.0f} s")
        try:
            power.check()
            if passed < _KEY_SECONDS:
                power.emulator.execute("send-key", {"keys": [{"type": "qcode", "data": "ret"}]})
        except InstanceError:
            # it may be about to end: its control socket is gone before its process is, and switch_off says how
            if not power.emulator.wait(_END_SECONDS):
                raise


def _require_partitions(disk: Path) -> None:
    """Refuse a disk that nothing was installed on. Raises InstanceError."""
    head = disk.with_name("head.raw")
    try:
        processes.check(
            ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=512", f"count={_HEAD_SECTORS}", f"if={disk}",
             f"of={head}"],
            what="reading the installed disk", timeout=_TOOL_SECONDS,
        )  # fmt: skip
        found = head.read_bytes()
    except (processes.ProcessFailed, OSError) as error:
        raise InstanceError(f"the installed disk cannot be read: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            head.unlink()
    mark, table = _PARTITIONED
    if found[510:512] != mark or found[512:520] != table:
        raise InstanceError(
            "the machine switched itself off, and its disk has no partitions: the ISO must install a system "
            "without questions, on the first SATA disk"
        )
