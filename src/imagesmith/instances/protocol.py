"""The operations of every kind of instance: container, machine, host (docs/design.md, Instances).

Code above this module does not depend on the kind, and assumes only a POSIX shell inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from imagesmith.instances.command import Command
from imagesmith.processes import Completed, OnOutput


class InstanceError(RuntimeError):
    """The instance could not perform the operation; the text names the operation and what to try."""


class CannotReboot(InstanceError):
    """This kind of instance has no way to restart (spec/components.md 9, rule 8)."""


@dataclass(frozen=True)
class Snapshot:
    """A state to which an instance can be restored; `reference` is interpreted by its own kind only."""

    kind: str
    reference: str


@runtime_checkable
class Instance(Protocol):
    """A disposable place where components run. Every call raises InstanceError when the instance itself fails."""

    @property
    def kind(self) -> str:
        """`container`, `machine` or `host`."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that commands inherit here (for a container: those of its image)."""
        ...

    def run(self, command: Command, on_output: OnOutput | None = None) -> Completed:
        """Run a program inside to its end; `on_output` receives its output while it runs."""
        ...

    def read(self, path: str, *, limit: int = 16 * 1024 * 1024) -> bytes:
        """The bytes of a file inside. Raises InstanceError if it is missing, not a file, or longer than `limit`."""
        ...

    def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Create or replace a file inside; its folder must exist."""
        ...

    def exists(self, path: str) -> bool: ...

    def push(self, local: Path, path: str) -> None:
        """Copy a file of the worker into the instance, streaming."""
        ...

    def pull(self, path: str, local: Path) -> None:
        """Copy a file of the instance to the worker, streaming."""
        ...

    def reboot(self) -> None:
        """Restart and wait until commands run again. Raises CannotReboot."""
        ...

    def checkpoint(self) -> Snapshot: ...

    def restore(self, snapshot: Snapshot) -> None: ...

    def close(self) -> None:
        """Remove the instance with its processes, mounts and files. Safe to call twice."""
        ...
