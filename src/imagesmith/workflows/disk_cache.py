"""A build that goes on where an earlier one was: what it asks of the cache of overlays, and what it leaves there.

    launch              deferred: nothing boots yet        state: parent disk and what the machine is told
    ExecuteComponents   the longest run of components      state: + each component
                        that is known; the others run on top of it, and after each the disk is kept
    CollectImageMetadata, SanitizeInstance, CreateImage    state: + cleaned; the image of that state, by digest

Only a run that asks for it (resources/run_tags.py) reads or writes any of this. Whatever else is done to the
machine makes its state unknown, and what follows is neither taken from the cache nor kept in it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from imagesmith import __version__
from imagesmith.artifacts.overlays import DiskState, Entry, Found, next_key, overlay_file
from imagesmith.instances.machine.disk_chain import DiskChain
from imagesmith.instances.machine.identity import Identity
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.recipes.plan import PlannedComponent
from imagesmith.values.names import sha256_hex
from imagesmith.workflows.machine import planned
from imagesmith.workflows.work import Work

_NEVER_THE_SAME: Final = ("context:uuid", "context:dateTime", "context:executionId")
_DAILY: Final = "context:date"


def wanted(work: Work) -> bool:
    """Whether the run asked for the cache."""
    return planned(work).cache_seconds > 0


def first_state(work: Work, digest: str, options: MachineOptions) -> DiskState:
    """The state of a machine that was only started."""
    inputs = {
        "parent": digest, "imagesmith": __version__, "entry": options.entry, "root size": options.root_gb,
        "volumes": [[volume.name, volume.size_gb] for volume in options.volumes],
        "user data": sha256_hex(options.user_data), "working directory": work.plan.working_directory,
        "owner": [work.plan.account, work.plan.region],
    }  # fmt: skip
    return DiskState(next_key("", inputs), time.time())


@dataclass(frozen=True)
class Stage:
    """One component on the way from the parent to the image."""

    component: PlannedComponent
    place: str
    inputs: Mapping[str, Any]
    key: str
    """Empty when it, or one before it, is never twice the same."""
    why: str = ""


def stages(
    work: Work, state: DiskState, components: Sequence[PlannedComponent], environment: Mapping[str, str]
) -> list[Stage]:
    """The keys of what the components make, one after the other."""
    found = []
    key, why = state.key, ""
    for position, component in enumerate(components, 1):
        changing = [word for word in _NEVER_THE_SAME if word in component.text]
        why = why or (f"{_short(component.arn)} uses {changing[0]}, which no two runs share" if changing else "")
        inputs = _inputs(component, environment, before=key)
        key = "" if why else next_key(key, inputs)
        place = f"{work.plan.account}/{work.plan.region}/{work.plan.name}/{position}"
        found.append(Stage(component, place, inputs, key, why))
    return found


def resume(work: Work, machine: MachineInstance, ways: Sequence[Stage]) -> int:
    """Let a machine that has not started go on after as many components as are known; gives how many."""
    if machine.started or not ways:
        return 0
    max_age = planned(work).cache_seconds
    for count in range(len(ways), 0, -1):
        stage = ways[count - 1]
        found = work.shop.overlays.find(stage.key, max_age=max_age) if stage.key else None
        if found is None:
            continue
        identity = Identity.from_json(found.entry.facts["identity"])
        machine.resume(DiskChain(machine.parent, found.files), identity)
        machine.state = DiskState(stage.key, found.entry.since, stage.key, found.entry.file)
        for position, item in enumerate(ways[:count], 1):
            work.log.line("cache", f"component {position} of {len(ways)}, {_short(item.component.arn)}: kept")
        work.log.line("cache", f"going on after what {_made(found)}")
        return count
    return 0


def explain(work: Work, ways: Sequence[Stage], count: int) -> None:
    """Say why the first component that has to run was not found."""
    if count < len(ways):
        stage = ways[count]
        max_age = planned(work).cache_seconds
        why = stage.why or work.shop.overlays.explain(stage.key, stage.place, stage.inputs, max_age=max_age)
        name = _short(stage.component.arn)
        work.log.line("cache", f"component {count + 1} of {len(ways)}, {name}: runs, for {why}")


def keep_component(work: Work, machine: MachineInstance, stage: Stage) -> None:
    """Note the state after a component, and keep the disk as it is now if it can be found again."""
    state = machine.state
    if state is None or not stage.key:
        machine.state = None
        return
    if state.below is None:
        machine.state = replace(state, key=stage.key)
        return
    entry = Entry(
        stage.key, state.below, stage.place, _short(stage.component.arn), stage.inputs, time.time(), state.since,
        _build(work), overlay_file(stage.key), state.on, {"identity": machine.identity.to_json()},
    )  # fmt: skip
    with work.timed("cache"):
        overlay = machine.freeze_disk(entry.file)
        kept = _keep(work, entry, overlay)
    machine.state = DiskState(stage.key, state.since, stage.key if kept else None, entry.file)


def find_facts(work: Work, key: str) -> Found | None:
    """What is known of a state."""
    return work.shop.overlays.find(key, max_age=planned(work).cache_seconds)


def keep_facts(work: Work, state: DiskState, name: str, facts: Mapping[str, Any]) -> None:
    """Note what is known of a state: its `image`, its `inventory`."""
    key = facts_key(state.key, name)
    place = f"{work.plan.account}/{work.plan.region}/{work.plan.name}/{name}"
    entry = Entry(key, "", place, name, {}, time.time(), state.since, _build(work), facts=facts)
    _keep(work, entry, None)


def facts_key(key: str, name: str) -> str:
    return next_key(key, {"facts": name})


def say_found(work: Work, what: str, found: Found) -> None:
    work.log.line("cache", f"{what}: what {_made(found)}")


def _keep(work: Work, entry: Entry, overlay: Any) -> bool:
    try:
        if work.shop.overlays.keep(entry, overlay):
            return True
        reason = "another build keeps the same meanwhile, or it does not fit into the cache"
    except OSError as error:
        reason = str(error)
    if overlay is not None:
        work.log.line("cache", f"warning: what follows {entry.label} is not kept: {reason}")
    return False


def _inputs(component: PlannedComponent, environment: Mapping[str, str], *, before: str) -> dict[str, Any]:
    used = {name: value for name, value in environment.items() if name in component.text}
    if _DAILY in component.text:
        used["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    return {
        "document": sha256_hex(component.text), "what comes before it": before,
        "parameter": {name: sha256_hex(value) for name, value in component.parameters.items()},
        "variable": used,
    }  # fmt: skip


def _made(found: Found) -> str:
    return f"{found.entry.build} made, at most {max(0.0, time.time() - found.entry.since) / 3600:.1f} h old"


def _build(work: Work) -> str:
    return _short(work.plan.image_arn)


def _short(arn: str) -> str:
    return arn.rpartition(":")[2].partition("/")[2]
