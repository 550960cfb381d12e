"""What the instructions of one build share: its storage, limits, time, log and folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.copying.copier import FileCopier
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.network import NetworkKind
from imagesmith.processes import Cancellation, OnOutput


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """Of one build."""

    storage: ContainerStorage
    name: str
    """Its containers and sandboxes are named after it."""
    limits: ResourceLimits
    network: NetworkKind
    timeout: float
    """Seconds of the whole build."""
    until: float
    """When it is over, on `clock`."""
    clock: Callable[[], float]
    now: Callable[[], datetime]
    cancellation: Cancellation | None
    on_output: OnOutput | None
    copier: FileCopier
    work: Path
    """A folder of its own beside the storage."""

    @property
    def seconds_left(self) -> float:
        return max(self.until - self.clock(), 0.001)

    def tell(self, line: str) -> None:
        """A line of the log."""
        if self.on_output is not None:
            self.on_output("stdout", f"{line}\n".encode(errors="replace"))

    def check(self) -> None:
        """Raises Cancelled, and DockerfileFailed when the time is over."""
        if self.cancellation is not None:
            self.cancellation.check()
        if self.clock() >= self.until:
            raise DockerfileFailed(f"is over the time of the whole build, {self.timeout:.0f} s")
