"""Options of a machine: its hardware, how it is entered, and what its metadata service answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imagesmith.instances.machine.hardware import Firmware
from imagesmith.instances.machine.metadata import GuestMetadata

Entry = Literal["cloud-init", "credentials"]


@dataclass(frozen=True)
class Volume:
    """A disk beside the root, empty."""

    name: str
    size_gb: int


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """The options of one machine."""

    cpus: int = 2
    memory_mb: int = 1024
    root_gb: int = 0
    """Size of the root disk; 0 keeps the size of the parent. It never shrinks."""
    volumes: tuple[Volume, ...] = ()
    entry: Entry = "cloud-init"
    user_data: bytes = b""
    firmware: Firmware = "bios"
    boot_seconds: float = 900.0
    outbound: bool = True
    password: str = ""
    """Password of root at the console; empty for none."""
    interactive: bool = False
    """Its console waits for a client: see MachineInstance.start."""
    fast_boot: bool = False
    """It may use time-saving ways to start and to run commands, as the machines of a build phase do."""
    metadata: GuestMetadata | None = None
    """For the instance metadata service; None: no service."""
