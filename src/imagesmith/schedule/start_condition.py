"""The start condition of a pipeline: compares the inputs of the next build with the stored baseline.

The baseline holds the inputs of the newest image that reached AVAILABLE: its recipe copy names every component and
the parent as resolved, and the recipe itself, which never changes, names them as written (spec/pipelines.md 4). The
outcome of the build holds the digest of a registry tag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.engine import Connection

from imagesmith.artifacts.tags import TagState
from imagesmith.recipes.parents import is_moving_tag
from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError
from imagesmith.resources.resolution import resolve
from imagesmith.resources.resolved_runs import ResolvedRun
from imagesmith.resources.run_members import RECIPE_MEMBERS, recipe_member
from imagesmith.schedule.decide import Check, check_dependencies
from imagesmith.schedule.dependencies import Change, Dependency, Inputs
from imagesmith.settings import Schedules
from imagesmith.store import queries, schedules, stored_builds
from imagesmith.store.records import Record

_FOR_UPDATES: Final = "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"


@dataclass(frozen=True)
class Baseline:
    """The inputs of an image."""

    image_arn: str
    inputs: Inputs
    recipe_created: str
    """Distinguishes a recipe from a later one with the same ARN."""


def has_condition(pipeline: Mapping[str, Any]) -> bool:
    """Whether the schedule of a pipeline builds only for updates."""
    schedule = pipeline.get("schedule", {})
    return bool(schedule.get("pipelineExecutionStartCondition") == _FOR_UPDATES)


def moving_tag(call: Call, pipeline: Mapping[str, Any]) -> str:
    """The registry tag in the dependency condition of a pipeline; empty without one."""
    if not has_condition(pipeline):
        return ""
    member = recipe_member(pipeline)
    try:
        parent = resolve(call, pipeline[member], path=member, kind=RECIPE_MEMBERS[member]).document["parentImage"]
    except ApiError:  # the tick reports the error
        return ""
    return str(parent) if is_moving_tag(parent) else ""


def check_condition(
    baseline: Baseline | None,
    resolved: ResolvedRun,
    *,
    policy: Schedules,
    tags: Mapping[str, TagState] = MappingProxyType({}),
) -> Check:
    """Check whether dependencies changed since the newest AVAILABLE image of the pipeline, and which.

    `tags` holds the current states of registry tags; a missing tag counts as unchanged.
    """
    current = current_inputs(resolved, baseline, tags=tags)
    check = _compare(baseline, current, resolved, policy=policy)
    unknown = tags.get(resolved.parent.reference, TagState()).problem
    if check.build or not unknown:
        return check
    return replace(check, reason=f"{check.reason} that is known; {unknown}")


def _compare(baseline: Baseline | None, current: Inputs, resolved: ResolvedRun, *, policy: Schedules) -> Check:
    if baseline is None:
        return check_dependencies(None, current, policy=policy)
    if baseline.inputs.recipe == current.recipe and baseline.recipe_created != _created(resolved.recipe.document):
        slug, version = resolved.recipe.slug, resolved.recipe.version
        change = Change("recipe", slug, f"{version} of {baseline.recipe_created}", f"{version} recreated")
        return Check(True, str(change), (change,))
    return check_dependencies(baseline.inputs, current, policy=policy)


def current_inputs(
    resolved: ResolvedRun, baseline: Baseline | None, *, tags: Mapping[str, TagState] = MappingProxyType({})
) -> Inputs:
    """The inputs of a build that starts now; see check_condition()."""
    built = [planned.arn for planned, _ in resolved.components]
    parent = resolved.parent.reference
    digests = tags.get(parent, TagState()).digests
    if digests:
        before = "" if baseline is None else baseline.inputs.dependencies[0].resolved
        parent = before if before in digests else digests[0]
    return Inputs(resolved.recipe.arn, _dependencies(resolved.recipe.document, parent, built))


def baselines(tx: Connection, pipeline_arns: Sequence[str]) -> dict[str, Baseline]:
    """The inputs of each pipeline's newest AVAILABLE image; pipelines without one are left out."""
    images = schedules.newest_built(tx, pipeline_arns)
    copies = {arn: _recipe_copy(image) for arn, image in images.items()}
    recipes = queries.get_many(tx, list({copy["arn"] for copy in copies.values() if copy is not None}))
    return {
        arn: _baseline(tx, images[arn], copy, recipes.get(copy["arn"]))
        for arn, copy in copies.items()
        if copy is not None
    }


def _baseline(tx: Connection, image: Record, copy: Mapping[str, Any], recipe: Record | None) -> Baseline:
    parent = copy["parentImage"]
    if is_moving_tag(parent):
        build = stored_builds.get_build(tx, image.arn)
        parent = (build.outcome.parent_digest if build else "") or parent
    built = [entry["componentArn"] for entry in copy.get("components", ())]
    # A deleted recipe cannot be the current one; the change of the recipe is the update to report.
    written = copy if recipe is None else recipe.document
    return Baseline(image.arn, Inputs(copy["arn"], _dependencies(written, parent, built)), _created(copy))


def _dependencies(written: Mapping[str, Any], parent: str, components: list[str]) -> tuple[Dependency, ...]:
    references = [entry["componentArn"] for entry in written.get("components", ())]
    # lengths differ only for a recipe that was created again under the same ARN, which counts as a change
    pairs = zip(references, components, strict=False)
    return (
        Dependency("base", written["parentImage"], parent),
        *(Dependency("component", reference, built) for reference, built in pairs),
    )


def parent_of(image: Record) -> str:
    """The resolved parent of an image; empty when its document does not name it."""
    return str((_recipe_copy(image) or {}).get("parentImage", ""))


def _recipe_copy(image: Record) -> Mapping[str, Any] | None:
    for member in RECIPE_MEMBERS:
        copy = image.document.get(member.removesuffix("Arn"))
        if copy is not None:
            found: Mapping[str, Any] = copy
            return found
    return None


def _created(recipe: Mapping[str, Any]) -> str:
    return str(recipe.get("dateCreated", ""))
