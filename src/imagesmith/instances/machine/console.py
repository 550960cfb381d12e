"""The output of a machine's serial console: bounded, watched for a panic, shown in failures."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from imagesmith.streams import Tail

_KEPT = 64 * 1024
_FILE_BYTES = 8 * 1024 * 1024
_ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1bc|[\x00-\x08\x0b-\x1f]")
_PANIC = re.compile(rb"Kernel panic - not syncing[^\r\n]*(?=[\r\n])")
_MAINTENANCE = re.compile(rb"You are in emergency mode|Give root password for maintenance|\(initramfs\)")
_CONFIGURED = re.compile(rb"Cloud-init v\. \S+ finished at")
_NO_BOOT = re.compile(rb"No bootable device|Boot failed: not a bootable disk|grub rescue>")


class Console:
    """The last output of one machine; `file` gets the first megabytes of it."""

    def __init__(self, file: Path | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._tail = Tail(_KEPT)
        self._lock = threading.Lock()
        self._file = file
        self._written = 0
        self._now = now
        self.last = now()
        """When it was written to last."""
        self.bytes = 0
        self.trouble = ""
        """Why the machine will never come up, once the console shows it."""
        self.configured: float | None = None
        """When cloud-init last printed that it has finished."""

    def add(self, chunk: bytes) -> None:
        """Add output of the machine."""
        with self._lock:
            self.last = self._now()
            self.bytes += len(chunk)
            self._tail.add(chunk)
            recent = self._tail.value()[-4096 - len(chunk) :]
            if not self.trouble:
                self.trouble = _trouble(recent)
            if _CONFIGURED.search(recent[-256 - len(chunk) :]):
                self.configured = self.last
            if self._file is not None and self._written < _FILE_BYTES:
                with self._file.open("ab") as file:
                    self._written += file.write(chunk)

    def restart(self) -> None:
        """Reset the state for a new start of the machine."""
        with self._lock:
            self.trouble = ""
            self.configured = None
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
