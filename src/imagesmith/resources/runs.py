"""Starting a run, for pipelines and single images.

A run is started in one transaction: every reference is resolved into a build plan, the build number is taken, the
image is written as PENDING, and the engine is notified after the commit. If the process dies in between, the
next start enqueues PENDING images (docs/design.md, How data flows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from imagesmith.recipes.plan import BuildPlan
from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.image_documents import pending_image
from imagesmith.resources.resolved_runs import ResolvedRun, resolve_run
from imagesmith.resources.roles import planned_role
from imagesmith.resources.run_plans import RunOrder, make_plan
from imagesmith.store import counters, queries, stored_builds
from imagesmith.store.numbers import Numbers
from imagesmith.store.records import Build, Record


@dataclass(frozen=True)
class PreparedRun:
    """A run that has its number but is not stored yet."""

    image: Record
    plan: BuildPlan


def start_run(call: Call, order: RunOrder) -> Record:
    """Resolve, number, store and enqueue one build; returns the PENDING image. Raises ApiError."""
    prepared = prepare_run(call, order, resolve_run(call, order.members))
    store_runs(call, [prepared])
    return prepared.image


def store_runs(call: Call, prepared: Sequence[PreparedRun]) -> None:
    """Write images and plans; the engine is notified after the commit."""
    queries.insert_many(call.tx, [run.image for run in prepared])
    stored_builds.put_builds(call.tx, [Build(run.image.arn, run.plan.to_json()) for run in prepared])
    if call.builds is not None and prepared:
        arns = [run.image.arn for run in prepared]
        call.afterwards(EffectKind.START, ", ".join(arns), partial(call.builds.start_many, arns))


def prepare_run(
    call: Call, order: RunOrder, resolved: ResolvedRun, *, numbers: Numbers | None = None
) -> PreparedRun:
    """Take the build number and make the records of a run; `resolved` comes from this unit of work.

    `numbers`: the source of the number when many runs are prepared. Raises ApiError.
    """
    role = planned_role(call, order.members.get("executionRole", ""))
    recipe = resolved.recipe
    key = f"{call.account}/{call.region}/image/{recipe.slug}/{recipe.version}"
    build = counters.next_number(call.tx, key) if numbers is None else numbers.next(key)
    plan = make_plan(call, order, resolved, build=build, role=role)
    return PreparedRun(pending_image(call, order, resolved, plan), plan)
