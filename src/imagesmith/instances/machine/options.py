"""What a machine is asked to be: its hardware, how it is entered, and what it may know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imagesmith.instances.machine.hardware import Firmware
from imagesmith.instances.machine.metadata import InstanceFacts

Entry = Literal["cloud-init", "credentials"]


@dataclass(frozen=True)
class Volume:
    """A disk beside the root, empty."""

    name: str
    size_gb: int


@dataclass(frozen=True)
class MachineOptions:
    """What one machine is made of."""

    cpus: int = 2
    memory_mb: int = 1024
    root_gb: int = 0
    """Size of the root disk; 0 keeps that of the parent. It never shrinks."""
    volumes: tuple[Volume, ...] = ()
    entry: Entry = "cloud-init"
    user_data: bytes = b""
    firmware: Firmware = "bios"
    boot_seconds: float = 900.0
    outbound: bool = True
    password: str = ""
    """Of root, at the console; empty for none."""
    interactive: bool = False
    """Its console is for somebody to connect to: see MachineInstance.start."""
    quick: bool = False
    """It may start and run commands in ways that only save time, as machines that a build works in do."""
    facts: InstanceFacts | None = None
    """For the instance metadata service; without them there is none."""
