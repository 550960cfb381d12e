"""The start condition of a pipeline on what the store holds: the inputs of the next build against the baseline.

The baseline is what the newest image that reached AVAILABLE was made of: its recipe copy names every component and
the parent as resolved, and the recipe itself, which never changes, names them as written (spec/pipelines.md 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.resources.runs import RECIPE_MEMBERS, ResolvedRun
from imagesmith.schedule.decide import Check, check_dependencies
from imagesmith.schedule.dependencies import Change, Dependency, Inputs
from imagesmith.settings import Schedules
from imagesmith.store import queries, schedules
from imagesmith.store.records import Record


@dataclass(frozen=True)
class Baseline:
    """What an image was made of."""

    image_arn: str
    inputs: Inputs
    recipe_created: str
    """Tells a recipe from one that was made later under the same ARN."""


def check_condition(tx: Connection, pipeline: Record, resolved: ResolvedRun, *, policy: Schedules) -> Check:
    """Whether a dependency moved on since the newest AVAILABLE image of the pipeline, and which."""
    current = current_inputs(resolved)
    baseline = baseline_of(tx, pipeline.arn)
    if baseline is None:
        return check_dependencies(None, current, policy=policy)
    if baseline.inputs.recipe == current.recipe and baseline.recipe_created != _created(resolved.recipe.document):
        slug, version = resolved.recipe.slug, resolved.recipe.version
        change = Change("recipe", slug, f"{version} of {baseline.recipe_created}", f"{version} made anew")
        return Check(True, str(change), (change,))
    return check_dependencies(baseline.inputs, current, policy=policy)


def current_inputs(resolved: ResolvedRun) -> Inputs:
    """What a build that starts now would be made of."""
    built = [planned.arn for planned, _ in resolved.components]
    return Inputs(resolved.recipe.arn, _dependencies(resolved.recipe.document, resolved.parent.reference, built))


def baseline_of(tx: Connection, pipeline_arn: str) -> Baseline | None:
    """The inputs of the newest image that reached AVAILABLE; None when there is none."""
    image = schedules.newest_built(tx, pipeline_arn)
    copy = None if image is None else _recipe_copy(image)
    if image is None or copy is None:
        return None
    built = [entry["componentArn"] for entry in copy.get("components", ())]
    recipe = queries.get(tx, copy["arn"])
    # A recipe that is gone cannot be the current one; that another one is used now is the change to tell.
    written = copy if recipe is None else recipe.document
    inputs = Inputs(copy["arn"], _dependencies(written, copy["parentImage"], built))
    return Baseline(image.arn, inputs, _created(copy))


def _dependencies(written: Mapping[str, Any], parent: str, components: list[str]) -> tuple[Dependency, ...]:
    references = [entry["componentArn"] for entry in written.get("components", ())]
    # lengths differ only for a recipe that was made anew under the same ARN, which counts as a change by itself
    pairs = zip(references, components, strict=False)
    return (
        Dependency("base", written["parentImage"], parent),
        *(Dependency("component", reference, built) for reference, built in pairs),
    )


def _recipe_copy(image: Record) -> Mapping[str, Any] | None:
    for member in RECIPE_MEMBERS:
        copy = image.document.get(member.removesuffix("Arn"))
        if copy is not None:
            found: Mapping[str, Any] = copy
            return found
    return None


def _created(recipe: Mapping[str, Any]) -> str:
    return str(recipe.get("dateCreated", ""))
