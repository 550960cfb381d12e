"""Selects KVM only where a guest really ran under it.

`/dev/kvm` may open, make a machine and then hang for ever, or interpret each instruction of the guest more slowly
than QEMU's emulator translates it (incomplete nested virtualisation). So:

    unknown --probe: a boot sector under KVM must end QEMU in time, not later than an emulated one--> kvm | tcg
    kvm     --a first real guest prints nothing on its console in time, or KVM stops it--> tcg (`distrust`)

The verdict is kept in a file, with its reason, for this boot of the host and this QEMU; `imagesmith doctor` shows
it.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from imagesmith import processes
from imagesmith.files import READABLE, write_atomically
from imagesmith.instances.machine.hardware import PROGRAM, Acceleration
from imagesmith.processes import Completed

DEVICE = Path("/dev/kvm")
_PROBE_SECONDS = 15.0
_SLOWER = 3.0
"""KVM that takes so many times as long as emulation interprets the guest; a real one is faster."""
_SUCCESS = 0x2A
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# 16-bit code at 0x7c00: mov al, 0x2a; out 0xf4, al; hlt. isa-debug-exit makes (value << 1) | 1 the exit status.
_CODE = bytes([0xB0, _SUCCESS, 0xE6, 0xF4, 0xF4])


@dataclass(frozen=True)
class Verdict:
    """The accelerator of machines on this host, and the reason."""

    acceleration: Acceleration
    reason: str
    host: str = ""
    """The boot of the host and the QEMU for which it holds."""
    proven: bool = False
    """A real guest has run under it."""


class Accelerator:
    """Decides once and keeps the verdict in `folder/accelerator.json`."""

    def __init__(
        self, folder: Path, *, wanted: Literal["auto", "kvm", "tcg"] = "auto", device: Path = DEVICE
    ) -> None:
        self._file = folder / "accelerator.json"
        self._wanted = wanted
        self._device = device

    def verdict(self) -> Verdict:
        """The accelerator to use; probes if no verdict for this boot of the host exists."""
        if self._wanted != "auto":
            return Verdict(self._wanted, "the settings say so", proven=True)
        known = self._read()
        if known is not None and known.host == _host():
            return known
        return self._keep(probe(self._device))

    def distrust(self, reason: str) -> Verdict:
        """Record that a guest did not run under KVM: from now on machines are emulated."""
        return self._keep(Verdict("tcg", reason))

    def trust(self, verdict: Verdict) -> None:
        """Record that a guest ran under KVM."""
        if not verdict.proven:
            self._keep(Verdict(verdict.acceleration, verdict.reason, proven=True))

    def _read(self) -> Verdict | None:
        try:
            return Verdict(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _keep(self, verdict: Verdict) -> Verdict:
        kept = Verdict(verdict.acceleration, verdict.reason, _host(), verdict.proven)
        if self._wanted == "auto":
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(asdict(kept)), mode=READABLE)
        return kept


def probe(device: Path = DEVICE) -> Verdict:
    """Run a boot sector under KVM and emulated; only its exit status in time, and soon enough, allows KVM."""
    if not device.exists():
        return Verdict("tcg", f"there is no {device}: machines are emulated, which is about ten times slower")
    try:
        accelerated = _run_boot_sector("kvm")
        if accelerated.timed_out:
            hung = f"a boot sector hung under KVM for {_PROBE_SECONDS:.0f} s"
            return Verdict("tcg", f"{device} opens, but {hung}: machines are emulated")
        if not _succeeded(accelerated):
            why = accelerated.tail(1) or accelerated.ending
            return Verdict("tcg", f"QEMU cannot use KVM: {why}: machines are emulated")
        emulated = _run_boot_sector("tcg")
    except FileNotFoundError:
        return Verdict("tcg", f"{PROGRAM} is not installed")
    return compare(accelerated.seconds, emulated.seconds if _succeeded(emulated) else None)


def compare(accelerated: float, emulated: float | None) -> Verdict:
    """The verdict on a KVM under which a boot sector took `accelerated` seconds.

    `emulated`: seconds of the same boot sector without KVM, measured right after it; None if it failed.
    """
    if emulated is not None and accelerated > _SLOWER * emulated:
        times = f"{accelerated:.1f} s under KVM and {emulated:.1f} s emulated"
        return Verdict("tcg", f"a boot sector took {times}: machines are emulated")
    return Verdict("kvm", "a boot sector ran under KVM")


def _run_boot_sector(acceleration: Acceleration) -> Completed:
    """Run QEMU until the boot sector ends it. Raises FileNotFoundError if QEMU is not installed."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-kvm-") as folder:
        disk = Path(folder) / "probe.raw"
        disk.write_bytes(_CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(512 * 63))
        argv = [
            PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-m", "16M",
            "-accel", acceleration, *(("-cpu", "host") if acceleration == "kvm" else ()),
            "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive", f"if=ide,format=raw,file={disk}",
        ]  # fmt: skip
        return processes.run(argv, timeout=_PROBE_SECONDS, limit=4096)


def _succeeded(done: Completed) -> bool:
    return done.returncode == _SUCCESS << 1 | 1


def _host() -> str:
    """This boot of the host, and this QEMU."""
    from shutil import which

    program = which(PROGRAM)
    stamp = Path(program).stat().st_mtime_ns if program else 0
    return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {stamp}"
