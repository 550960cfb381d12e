"""What the instructions of one build share: its storage, limits, time, log and folders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.copying.copiers import Copiers
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.instances.command import NetworkKind
from imagesmith.instances.limits import ResourceLimits
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.processes import Cancellation, OnOutput

_POLL_SECONDS: Final = 0.1


class CacheMountLocks:
    """One lock for each cache of mounts: commands that use one run in turn, whatever their stages do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @contextmanager
    def held(self, names: Collection[str], *, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the locks of these caches; `wait` is called while others have them, and raises to give up."""
        with ExitStack() as stack:
            for name in sorted(names):
                with self._lock:
                    lock = self._locks.setdefault(name, threading.Lock())
                while not lock.acquire(timeout=_POLL_SECONDS):
                    wait()
                stack.callback(lock.release)
            yield


class LateNamespace:
    """The user namespace of a build, made when the first instruction needs it: one whose instructions all come from
    the cache needs none. Thread-safe."""

    def __init__(self, make: Callable[[], BuildNamespace]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: BuildNamespace | None = None

    def get(self) -> BuildNamespace:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        """End it, if there is one."""
        with self._lock:
            if self._made is not None:
                self._made.close()


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
    copiers: Copiers
    late_namespace: LateNamespace
    work: Path
    """A folder of its own beside the storage."""
    caches: CacheMountLocks
    at_once: int = 1
    """The most stages that are carried out at the same time."""
    rules: LayerRules | None = None
    """Of a reproducible build: each instruction that writes files has a layer of its own."""

    @property
    def namespace(self) -> BuildNamespace:
        """Of all its stages: files keep their owners from one to another. Raises StorageError."""
        return self.late_namespace.get()

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
