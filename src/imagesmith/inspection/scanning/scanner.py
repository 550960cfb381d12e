"""The interface of all scanners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.scanning.findings import Finding
from imagesmith.processes import Cancellation


@dataclass(frozen=True)
class ScanTarget:
    """The image under scan: its inventory, and an OCI layout folder that holds only this image."""

    inventory: Inventory
    layout: Path


@dataclass(frozen=True)
class ScanReport:
    """`findings` worst first; `notes` are sentences for the log, such as the parts that were not checked."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


class ScanFailed(RuntimeError):
    """A scan that could not run: states the reason and the remedy. The image itself is not at fault."""


class ScanTimedOut(ScanFailed):
    """A scan that did not end within its time."""


class Scanner(Protocol):
    """Finds known vulnerabilities in an image."""

    @property
    def name(self) -> str: ...

    def scan(self, target: ScanTarget, cancellation: Cancellation) -> ScanReport:
        """Raises ScanFailed, ScanTimedOut, Cancelled."""
        ...
