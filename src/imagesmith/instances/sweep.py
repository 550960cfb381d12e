"""Removes the remains of builds of a killed server: containers, mounts, temporary files, control groups.

For commands without a server (`component run`); the sweep of a server's or worker's start is WorkerContext.sweep in
builds/worker_context.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from imagesmith.artifacts.storage import ContainerStorage, SweepReport
from imagesmith.instances.limits import ControlGroups, leftover_groups
from imagesmith.instances.orphans import end_orphans


def sweep_instances(storage: ContainerStorage, alive: Iterable[str] = ()) -> SweepReport:
    """Remove everything that does not belong to one of the named containers; call it before builds start."""
    kept = frozenset(alive)
    end_orphans()
    report = storage.sweep(kept)
    for group in leftover_groups(storage.key):
        if not any(group.name.endswith(f"{storage.key}-{name}") for name in kept):
            ControlGroups((group,), ()).remove()
    return report
