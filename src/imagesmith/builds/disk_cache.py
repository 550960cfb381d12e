"""Builds that resume from the cached disk of an earlier build: lookups in the overlay cache and new entries.

    launch              deferred: nothing boots yet        state: parent disk and the machine's options
    ExecuteComponents   the longest cached sequence of     state: + each component
                        components; the others run on top of it, and after each the disk is kept
    CollectImageMetadata, SanitizeInstance, CreateImage    state: + cleaned; the image of that state, by digest

Only a run that asks for the cache (resources/run_tags.py) reads or writes it. Any other change of the machine makes
its state unknown, and later steps neither read the cache nor write it.

Times are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from imagesmith import __version__
from imagesmith.artifacts.overlays import CachedOverlay, CachedState, DiskState, next_key, overlay_file
from imagesmith.builds.component_inputs import component_inputs, reason_not_to_keep, visible_variables
from imagesmith.builds.machine_source import planned
from imagesmith.builds.work import Work
from imagesmith.instances.machine.backing_chain import BackingChain
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.ssh_keys import MachineIdentity
from imagesmith.instances.protocol import Instance
from imagesmith.recipes.plan import BuildPlan, PlannedComponent
from imagesmith.values.arn import Arn
from imagesmith.values.names import sha256_hex


def is_requested(work: Work) -> bool:
    """Whether the run asked for the cache."""
    return planned(work).cache_seconds > 0


def first_state(work: Work, digest: str, options: MachineOptions, *, now: datetime) -> DiskState:
    """The state of a machine before any change."""
    inputs = {
        "parent": digest, "imagesmith": __version__, "entry": options.entry, "root size": options.root_gb,
        "volumes": [[volume.name, volume.size_gb] for volume in options.volumes],
        "user data": sha256_hex(options.user_data), "working directory": work.plan.working_directory,
        "owner": [work.plan.account, work.plan.region],
    }  # fmt: skip
    return DiskState(next_key("", inputs), now.timestamp())


@dataclass(frozen=True)
class Stage:
    """One component between the parent and the image."""

    component: PlannedComponent
    lineage: str
    inputs: Mapping[str, Any]
    key: str
    """Empty if this component, or an earlier one, cannot be cached."""
    environment: Mapping[str, str]
    """The variables of its processes: with a key, only variables in the key."""
    why: str = ""


def stages(
    plan: BuildPlan, state: DiskState, components: Sequence[PlannedComponent], environment: Mapping[str, str], *,
    now: datetime,
) -> list[Stage]:  # fmt: skip
    """The stages of the components in order, with their cache keys."""
    found = []
    key, why = state.key, ""
    for position, component in enumerate(components, 1):
        why = why or reason_not_to_keep(component)
        seen = environment if why else visible_variables(component, environment)
        inputs = {**component_inputs(component, seen, now=now), "what comes before it": key}
        key = "" if why else next_key(key, inputs)
        lineage = f"{plan.account}/{plan.region}/{plan.name}/{position}"
        found.append(Stage(component=component, lineage=lineage, inputs=inputs, key=key, environment=seen, why=why))
    return found


def resume(work: Work, machine: MachineInstance, stages: Sequence[Stage], *, now: datetime) -> int:
    """Resume a machine that has not started after the longest cached sequence; returns its number of components."""
    if machine.started or not stages:
        return 0
    max_age = planned(work).cache_seconds
    for count in range(len(stages), 0, -1):
        stage = stages[count - 1]
        found = work.worker_context.overlays.find(stage.key, max_age=max_age) if stage.key else None
        if found is None:
            continue
        identity = MachineIdentity.from_json(found.entry.values["identity"])
        machine.resume(BackingChain(machine.disk.parent, found.files), identity)
        machine.disk.state = DiskState(stage.key, found.entry.since, stage.key, found.entry.file)
        for position, item in enumerate(stages[:count], 1):
            work.log.line(
                "cache", f"component {position} of {len(stages)} ({_short(item.component.arn)}): cache hit"
            )
        work.log.line("cache", f"resuming from the cache of {_describe_age(found, now)}")
        return count
    return 0


def forget_state(instance: Instance) -> None:
    """Note that the caller may change an instance in ways that no key covers; containers are ignored."""
    if isinstance(instance, MachineInstance):
        instance.disk.state = None


def explain(work: Work, stages: Sequence[Stage], count: int) -> None:
    """Log why the first component that has to run is not in the cache."""
    if count < len(stages):
        stage = stages[count]
        max_age = planned(work).cache_seconds
        why = stage.why or work.worker_context.overlays.explain(
            stage.key, stage.lineage, stage.inputs, max_age=max_age
        )
        name = _short(stage.component.arn)
        work.log.line("cache", f"component {count + 1} of {len(stages)} ({name}): cache miss, {why}")


def keep_component(work: Work, machine: MachineInstance, stage: Stage, *, now: datetime) -> None:
    """Note the state after a component, and keep the current disk if the state has a key."""
    state = machine.disk.state
    if state is None or not stage.key:
        machine.disk.state = None
        return
    if state.below is None:
        machine.disk.state = replace(state, key=stage.key)
        return
    entry = CachedState(
        key=stage.key,
        before=state.below,
        lineage=stage.lineage,
        label=_short(stage.component.arn),
        inputs=stage.inputs,
        made=now.timestamp(),
        since=state.since,
        build=_build(work),
        file=overlay_file(stage.key),
        on=state.on,
        values={"identity": machine.disk.identity.to_json()},
    )
    with work.timed("cache"):
        overlay = machine.snapshot_disk(entry.file)
        kept = _store(work, entry, overlay)
    machine.disk.state = DiskState(stage.key, state.since, stage.key if kept else None, entry.file)


def find_values(work: Work, key: str) -> CachedOverlay | None:
    """The stored values of a state."""
    return work.worker_context.overlays.find(key, max_age=planned(work).cache_seconds)


def keep_values(work: Work, state: DiskState, name: str, values: Mapping[str, Any], *, now: datetime) -> None:
    """Store values of a state: its `image`, its `inventory`."""
    key = values_key(state.key, name)
    lineage = f"{work.plan.account}/{work.plan.region}/{work.plan.name}/{name}"
    entry = CachedState(
        key=key,
        before="",
        lineage=lineage,
        label=name,
        inputs={},
        made=now.timestamp(),
        since=state.since,
        build=_build(work),
        values=values,
    )
    _store(work, entry, None)


def values_key(key: str, name: str) -> str:
    return next_key(key, {"values": name})


def log_hit(work: Work, what: str, found: CachedOverlay, *, now: datetime) -> None:
    work.log.line("cache", f"{what}: from the cache of {_describe_age(found, now)}")


def _store(work: Work, entry: CachedState, overlay: Any) -> bool:
    try:
        if work.worker_context.overlays.keep(entry, overlay):
            return True
        reason = "another build is storing the same state, or the cache is too small"
    except OSError as error:
        reason = str(error)
    if overlay is not None:
        work.log.line("cache", f"warning: the state after {entry.label} is not cached: {reason}")
    return False


def _describe_age(found: CachedOverlay, now: datetime) -> str:
    hours = max(0.0, now.timestamp() - found.entry.since) / 3600
    return f"{found.entry.build} (at most {hours:.1f} h old)"


def _build(work: Work) -> str:
    return _short(work.plan.image_arn)


def _short(arn: str) -> str:
    return Arn.parse(arn).path
