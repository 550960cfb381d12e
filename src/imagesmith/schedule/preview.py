"""Would a pipeline build if its schedule fired now, and why: the same rules as a tick, without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError
from imagesmith.resources.roles import planned_role
from imagesmith.resources.runs import ResolvedRun, resolve_run
from imagesmith.schedule.dependencies import Dependency
from imagesmith.schedule.start_condition import Baseline, baseline_of, check_condition, current_inputs
from imagesmith.store import schedules
from imagesmith.store.records import Record


@dataclass(frozen=True)
class PlannedInput:
    """One thing a build would be made of."""

    role: Literal["recipe", "base", "component"]
    reference: str
    """As the recipe, or for a recipe the pipeline, writes it."""
    resolved: str
    baseline: str = ""
    """What the newest AVAILABLE image took for the same reference; empty: nothing."""


@dataclass(frozen=True)
class PipelinePlan:
    """What a tick would do now."""

    pipeline_arn: str
    builds: bool
    reason: str
    status: str
    next_run: str
    """Empty: none."""
    baseline_image: str
    inputs: tuple[PlannedInput, ...]
    """Empty when something cannot be resolved; the reason says what."""


def plan_pipeline(call: Call, record: Record) -> PipelinePlan:
    """Judge a pipeline as if its schedule fired now; `call` needs to read only."""
    baseline = baseline_of(call.tx, record.arn)
    try:
        resolved = resolve_run(call, record.document)
        planned_role(call, record.document.get("executionRole", ""))
    except ApiError as error:
        return _plan(record, False, f"a run cannot be started: {error.message}", baseline, ())
    builds, reason = _verdict(call, record, resolved)
    return _plan(record, builds, reason, baseline, _inputs(record, resolved, baseline))


def _verdict(call: Call, record: Record, resolved: ResolvedRun) -> tuple[bool, str]:
    schedule = record.document.get("schedule")
    if schedule is None:
        return False, "the pipeline has no schedule: it builds when it is started"
    if record.document["status"] != "ENABLED":
        return False, "the pipeline is DISABLED: it builds when it is started"
    policy = call.settings.schedules
    if policy.overlap == "skip" and schedules.is_building(call.tx, record.arn):
        return False, "a build of this pipeline is still running (overlap = skip)"
    if schedule["pipelineExecutionStartCondition"] == "EXPRESSION_MATCH_ONLY":
        return True, "it builds at every tick (EXPRESSION_MATCH_ONLY)"
    check = check_condition(call.tx, record, resolved, policy=policy)
    return check.build, check.reason


def _plan(
    record: Record, builds: bool, reason: str, baseline: Baseline | None, inputs: tuple[PlannedInput, ...]
) -> PipelinePlan:
    document = record.document
    image = "" if baseline is None else baseline.image_arn
    return PipelinePlan(
        record.arn, builds, reason, document["status"], document.get("dateNextRun", ""), image, inputs
    )


def _inputs(record: Record, resolved: ResolvedRun, baseline: Baseline | None) -> tuple[PlannedInput, ...]:
    document = record.document
    written = str(document.get("containerRecipeArn") or document["imageRecipeArn"])
    before = {} if baseline is None else {_key(item): item.resolved for item in baseline.inputs.dependencies}
    current = current_inputs(resolved)
    return (
        PlannedInput("recipe", written, current.recipe, "" if baseline is None else baseline.inputs.recipe),
        *(
            PlannedInput(item.role, item.reference, item.resolved, before.get(_key(item), ""))
            for item in current.dependencies
        ),
    )


def _key(item: Dependency) -> tuple[str, str]:
    return item.role, item.reference
