"""Preview of a tick: whether a pipeline would build now, and why, by the same rules and without writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from imagesmith.artifacts.tags import TagState
from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError
from imagesmith.resources.parent_warnings import parent_warning
from imagesmith.resources.resolved_runs import ResolvedRun, resolve_run
from imagesmith.resources.roles import planned_role
from imagesmith.schedule.dependencies import Dependency
from imagesmith.schedule.start_condition import Baseline, baselines, check_condition, current_inputs
from imagesmith.store import schedules
from imagesmith.store.records import Record
from imagesmith.values.endings import why_over
from imagesmith.values.names import iso_instant
from imagesmith.values.schedule import UnknownZone, parse_schedule
from imagesmith.values.states import PipelineStatus


@dataclass(frozen=True)
class PlannedInput:
    """One input of a planned build."""

    role: Literal["recipe", "base", "component"]
    reference: str
    """As written in the recipe, or for a recipe in the pipeline."""
    resolved: str
    baseline: str = ""
    """The resolution of this reference for the newest AVAILABLE image; empty without one."""


@dataclass(frozen=True)
class PipelinePlan:
    """The decision of a tick now."""

    pipeline_arn: str
    builds: bool
    reason: str
    status: str
    next_run: str
    """Empty without one."""
    baseline_image: str
    inputs: tuple[PlannedInput, ...]
    """Empty when a reference cannot be resolved; the reason names it."""
    hint: str = ""
    """A problem of the schedule itself, such as that it never fires; empty without one."""
    warnings: tuple[str, ...] = ()
    """Problems that would make the build fail, such as a parent that the catalog of AMIs lacks."""


def plan_pipeline(
    call: Call, record: Record, *, tags: Mapping[str, TagState] = MappingProxyType({})
) -> PipelinePlan:
    """Plan a pipeline as if its schedule fired now; `call` needs to read only; `tags`: see start_condition."""
    baseline = baselines(call.tx, [record.arn]).get(record.arn)
    try:
        resolved = resolve_run(call, record.document)
        planned_role(call, record.document.get("executionRole", ""))
    except ApiError as error:
        return _plan(call, record, False, f"a run cannot be started: {error.message}", baseline=baseline)
    builds, reason = _verdict(call, record, baseline, resolved, tags=tags)
    inputs = _inputs(record, resolved, baseline, tags)
    warning = parent_warning(call, resolved.parent.reference)
    planned = _plan(call, record, builds, reason, baseline=baseline, inputs=inputs)
    return replace(planned, warnings=(warning,)) if warning else planned


def _verdict(
    call: Call,
    record: Record,
    baseline: Baseline | None,
    resolved: ResolvedRun,
    *,
    tags: Mapping[str, TagState],
) -> tuple[bool, str]:
    schedule = record.document.get("schedule")
    if schedule is None:
        cascade = " or its base is rebuilt" if call.settings.schedules.cascade else ""
        return False, f"the pipeline has no schedule: it builds when it is started{cascade}"
    if record.document["status"] != PipelineStatus.ENABLED:
        return False, "the pipeline is DISABLED: it builds when it is started"
    policy = call.settings.schedules
    if policy.overlap == "skip" and schedules.is_building(call.tx, record.arn):
        return False, "a build of this pipeline is still running (overlap = skip)"
    if schedule["pipelineExecutionStartCondition"] == "EXPRESSION_MATCH_ONLY":
        return True, "it builds at every tick (EXPRESSION_MATCH_ONLY)"
    check = check_condition(baseline, resolved, policy=policy, tags=tags)
    return check.build, check.reason


def _plan(
    call: Call,
    record: Record,
    builds: bool,
    reason: str,
    *,
    baseline: Baseline | None,
    inputs: tuple[PlannedInput, ...] = (),
) -> PipelinePlan:
    following = schedules.next_fires(call.tx, [record.arn]).get(record.arn)
    return PipelinePlan(
        record.arn, builds, reason,
        status=record.document["status"],
        next_run="" if following is None else iso_instant(following),
        baseline_image="" if baseline is None else baseline.image_arn,
        inputs=inputs,
        hint=_hint(call, record),
    )  # fmt: skip


def _hint(call: Call, record: Record) -> str:
    schedule = record.document.get("schedule")
    if schedule is None:
        return ""
    try:
        rule = parse_schedule(schedule["scheduleExpression"], schedule["timezone"], lenient=True)
    except UnknownZone as error:
        return str(error)
    reason = why_over(rule, call.now)
    return f"{schedule['scheduleExpression']}: {reason}" if reason else ""


def _inputs(
    record: Record, resolved: ResolvedRun, baseline: Baseline | None, tags: Mapping[str, TagState]
) -> tuple[PlannedInput, ...]:
    document = record.document
    written = str(document.get("containerRecipeArn") or document["imageRecipeArn"])
    before = {} if baseline is None else {_key(item): item.resolved for item in baseline.inputs.dependencies}
    current = current_inputs(resolved, baseline, tags=tags)
    if resolved.parent.reference not in tags:  # an old digest is not comparable with a tag that was not looked up
        before = {key: text for key, text in before.items() if not text.startswith("sha256:")}
    return (
        PlannedInput("recipe", written, current.recipe, "" if baseline is None else baseline.inputs.recipe),
        *(
            PlannedInput(item.role, item.reference, item.resolved, before.get(_key(item), ""))
            for item in current.dependencies
        ),
    )


def _key(item: Dependency) -> tuple[str, str]:
    return item.role, item.reference
