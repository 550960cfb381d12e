"""Removing what builds of a killed server left behind: containers, mounts, temporary files, control groups."""

from __future__ import annotations

from collections.abc import Iterable

from imagesmith.artifacts.storage import ContainerStorage, SweepReport
from imagesmith.instances.limits import leftover_groups, remove_group


def sweep_instances(storage: ContainerStorage, alive: Iterable[str] = ()) -> SweepReport:
    """Remove everything that does not belong to one of the named containers; call it before builds begin."""
    kept = frozenset(alive)
    report = storage.sweep(kept)
    for group in leftover_groups(storage.runroot.name):
        if not any(group.name.endswith(f"{storage.runroot.name}-{name}") for name in kept):
            remove_group(group)
    return report
