"""What a machine says on its serial console: kept in bounds, watched for a panic, shown when something fails."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from imagesmith.streams import Tail

_KEPT = 64 * 1024
_FILE_BYTES = 8 * 1024 * 1024
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1bc|[\x00-\x08\x0b-\x1f]")
_PANIC = re.compile(rb"Kernel panic - not syncing[^\r\n]*(?=[\r\n])")
_MAINTENANCE = re.compile(rb"You are in emergency mode|Give root password for maintenance|\(initramfs\)")
_NO_BOOT = re.compile(rb"No bootable device|Boot failed: not a bootable disk|grub rescue>")


class Console:
    """The last output of one machine; `file` gets the first megabytes of it."""

    def __init__(self, file: Path | None = None) -> None:
        self._tail = Tail(_KEPT)
        self._lock = threading.Lock()
        self._file = file
        self._written = 0
        self.last = time.monotonic()
        self.bytes = 0
        self.trouble = ""
        """Why it will never come up, once the console says so."""

    def add(self, chunk: bytes) -> None:
        """Take what the machine wrote."""
        with self._lock:
            self.last = time.monotonic()
            self.bytes += len(chunk)
            self._tail.add(chunk)
            if not self.trouble:
                self.trouble = _trouble(self._tail.value()[-4096 - len(chunk) :])
            if self._file is not None and self._written < _FILE_BYTES:
                with self._file.open("ab") as file:
                    self._written += file.write(chunk)

    def restart(self) -> None:
        """A new start of the machine: what it said before is over."""
        with self._lock:
            self.trouble = ""
            self.bytes = 0
            self._tail = Tail(_KEPT)

    def lines(self, count: int = 25) -> str:
        """The last lines, without the escape sequences of a terminal."""
        with self._lock:
            text = _ESCAPES.sub(b"", self._tail.value()).decode(errors="replace")
        kept = [line.rstrip() for line in text.splitlines() if line.strip()]
        return "\n".join(kept[-count:])


def _trouble(data: bytes) -> str:
    found = _PANIC.search(data)
    if found:
        return f"the guest's kernel panicked: {found[0].decode(errors='replace')}"
    if _MAINTENANCE.search(data):
        return "the guest stopped in its emergency shell"
    if _NO_BOOT.search(data):
        return "the disk does not boot: the firmware or the boot loader found no system on it"
    return ""
