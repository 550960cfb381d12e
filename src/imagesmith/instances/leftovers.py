"""Removes the remains of builds of a killed server: containers, mounts, temporary files, control groups.

For commands without a server (`component run`); what the start of a server or worker removes is in
WorkerContext.remove_leftovers, builds/worker_context.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from imagesmith.artifacts.storage import ContainerStorage, Leftovers
from imagesmith.instances.limits import ControlGroups, leftover_groups
from imagesmith.instances.orphans import end_orphans


def remove_left_instances(storage: ContainerStorage, alive: Iterable[str] = ()) -> Leftovers:
    """Remove everything that does not belong to one of the named containers; call it before builds start."""
    kept = frozenset(alive)
    end_orphans()
    report = storage.remove_leftovers(kept)
    for group in leftover_groups(storage.key):
        if not any(group.name.endswith(f"{storage.key}-{name}") for name in kept):
            ControlGroups((group,), ()).remove()
    return report
