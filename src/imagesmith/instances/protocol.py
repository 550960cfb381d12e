"""What every kind of instance can do: container, machine, host (docs/design.md, Instances).

Nothing above this module knows which kind it drives, and nothing is assumed inside but a POSIX shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from imagesmith.processes import Completed, OnOutput


class InstanceError(RuntimeError):
    """Something an instance was asked for cannot be had; the text says what and what to try."""


class CannotReboot(InstanceError):
    """This kind of instance has no way to restart (spec/components.md 9, rule 8)."""


@dataclass(frozen=True)
class Snapshot:
    """A state of an instance that it can go back to; `reference` means something to its own kind only."""

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

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: bytes | None = None,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        limit: int = 1024 * 1024,
    ) -> Completed:
        """Run a program inside to its end; `env` is added to `environment`; `timeout` (seconds) kills its group."""
        ...

    def read(self, path: str, *, limit: int = 16 * 1024 * 1024) -> bytes:
        """The bytes of a file inside. Raises InstanceError when it is missing, no file, or longer than `limit`."""
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
        """Remove the instance and everything it holds: processes, mounts, files. Safe to call twice."""
        ...
