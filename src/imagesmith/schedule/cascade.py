"""Cascades: when an image becomes AVAILABLE, the pipelines with this base are started (`schedules.cascade`).

    image AVAILABLE --> row in `cascades`, in the same transaction
          tick --> dependents(): pipelines that may use the image, read only
               --> follow(): in batches, in the scope of the image:
                       skip    its base resolves to another image by now, it has this image, it would go in a circle
                       build   type SCHEDULED, but not a run of the schedule: a failure does not count
               --> the row is removed

A server that dies in between leaves the row, and the next one recognises the pipelines that have the image. Recipes
with a fixed base never follow, and neither do DISABLED pipelines; a schedule is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy.engine import Connection

from imagesmith.build_logs import pipeline_log
from imagesmith.resources import pipelines
from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.errors import ApiError
from imagesmith.resources.pipelines import PipelineRun
from imagesmith.schedule.dependencies import Change, resolves_to
from imagesmith.schedule.resolver import Resolver
from imagesmith.schedule.start_condition import parent_of
from imagesmith.store import cascades, queries, schedules
from imagesmith.store.numbers import Numbers
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn
from imagesmith.values.states import UNSUCCESSFUL_IMAGE, ImageStatus, PipelineStatus

_LONGEST_CHAIN = 100
"""Greatest length of a chain of base images that is searched for a circle."""


def dependents(tx: Connection, image_arn: str) -> list[str]:
    """ENABLED pipelines whose recipe, as written, may use an image; `tx` needs to read only."""
    image = Arn.parse(image_arn)
    found = cascades.parents_like(tx, image.owner, image.region, f":image/{image.slug}/")
    recipes = {arn for arn, parent in found if not _is_fixed(parent) and resolves_to(parent, image_arn)}
    fragments = sorted({f":{arn.kind}/{arn.slug}/" for arn in map(Arn.parse, recipes)})
    listed = cascades.enabled_pipelines(tx, image.owner, image.region, fragments) if fragments else []
    return [pipeline for pipeline, recipe in listed if recipe in recipes or Arn.parse(recipe).has_wildcard]


def follow(call: Call, image_arn: str, arns: Sequence[str]) -> list[PipelineRun]:
    """Start the pipelines of one batch of dependents() that are to be built on the image now."""
    image = queries.get(call.tx, image_arn)
    if image is None or image.status != ImageStatus.AVAILABLE:
        return []
    resolver, numbers = Resolver(call), Numbers(call.tx)
    records = queries.get_many(call.tx, arns)
    started = [_follow(call, image, records[arn], resolver, numbers) for arn in arns if arn in records]
    runs = [run for run in started if run is not None]
    numbers.save()
    pipelines.store_pipeline_runs(call, runs)
    return runs


def _follow(
    call: Call, image: Record, pipeline: Record, resolver: Resolver, numbers: Numbers
) -> PipelineRun | None:
    if pipeline.document["status"] != PipelineStatus.ENABLED or pipeline.arn == image.source:
        return None
    try:
        resolved = resolver.resolve(pipeline.document)
        newest = queries.newest_of_source(call.tx, pipeline.arn)
        if resolved.parent.reference != image.arn or (newest is not None and _has(newest, image.arn)):
            return None
        problem = _problem(call, image, pipeline)
        if problem:
            _skip(call, image, pipeline, problem)
            return None
        change = Change("base", image.slug, _base_of(call.tx, pipeline), _format_version(image.arn))
        return pipelines.prepare_pipeline_run(
            call, pipeline, resolved,
            tags=pipeline.document.get("imageTags", {}), build_type="SCHEDULED", counted=False,
            numbers=numbers, because=("cascade", f"build: {change}, of {image.source}"),
        )  # fmt: skip
    except ApiError as error:
        _skip(call, image, pipeline, f"no image could be started: {error.message}")
        return None


def _problem(call: Call, image: Record, pipeline: Record) -> str:
    """The reason why a pipeline must not follow; empty when it may."""
    if pipeline.arn in _makers(call.tx, image):
        return "it would start a loop: that image is built on an image of this pipeline"
    if call.settings.schedules.overlap == "skip" and schedules.is_building(call.tx, pipeline.arn):
        return "a build of this pipeline is still running (overlap = skip)"
    return ""


def _skip(call: Call, image: Record, pipeline: Record, why: str) -> None:
    settings, now = call.settings, call.now
    line = f"skip: {image.arn} is AVAILABLE: {why}"
    call.afterwards(
        EffectKind.PIPELINE_LOG,
        pipeline.arn,
        lambda: pipeline_log.append_lines(settings, pipeline, ("cascade", line), now=now),
    )


def _makers(tx: Connection, image: Record) -> Iterator[str]:
    """The pipelines of an image, of its base, of the base's base, and so on."""
    current: Record | None = image
    for _ in range(_LONGEST_CHAIN):
        if current is None:
            return
        yield current.source
        current = queries.get(tx, parent_of(current))


def _has(built: Record, image_arn: str) -> bool:
    """Whether the newest image of a pipeline is built, or is being built, on an image."""
    return built.status not in (*UNSUCCESSFUL_IMAGE, ImageStatus.DELETED) and parent_of(built) == image_arn


def _base_of(tx: Connection, pipeline: Record) -> str:
    """Version and build of the base of a pipeline's newest AVAILABLE image, as a Change shows them."""
    newest = schedules.newest_built(tx, [pipeline.arn]).get(pipeline.arn)
    parent = "" if newest is None else parent_of(newest)
    return _format_version(parent) if parent.startswith("arn:") else parent or "nothing"


def _format_version(image_arn: str) -> str:
    arn = Arn.parse(image_arn)
    return f"{arn.version}/{arn.build}"


def _is_fixed(parent: str) -> bool:
    return Arn.parse(parent).build not in (None, "x")
