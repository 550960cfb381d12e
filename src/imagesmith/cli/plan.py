"""`imagesmith pipeline plan`: finds the pipeline in the store and evaluates it as a tick would."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.engine import Connection

from imagesmith.artifacts.tags import RegistryTags, TagState
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.store import opened_store
from imagesmith.resources import pipelines
from imagesmith.resources.call import Call
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.managed import managed_content
from imagesmith.schedule.preview import PipelinePlan, plan_pipeline
from imagesmith.schedule.start_condition import moving_tag
from imagesmith.settings import Settings
from imagesmith.store import queries
from imagesmith.store.queries import Selection
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn, ArnError, slug_of

_MOST_NAMES = 20


def plan_named(settings: Settings, name: str, *, now: datetime) -> PipelinePlan:
    """The plan of a pipeline by name or ARN. Raises CommandFailed."""
    arn = pipeline_arn(settings, name)
    tags: Mapping[str, TagState] = {}
    if settings.schedules.container_tag_updates:
        with opened_store(settings) as tx:
            tag = moving_tag(_call(tx, settings, arn, now), _record(tx, arn, name).document)
        # queried outside the transaction, as the clock does
        tags = RegistryTags(settings.locate).look_up([tag] if tag else [])
    with opened_store(settings) as tx:
        return plan_pipeline(_call(tx, settings, arn, now), _record(tx, arn, name), tags=tags)


def _record(tx: Connection, arn: Arn, name: str) -> Record:
    record = queries.get(tx, str(arn))
    if record is None or record.kind != pipelines.KIND:
        known = queries.page(tx, Selection(arn.owner, arn.region, pipelines.KIND), None, _MOST_NAMES)
        names = ", ".join(item.name for item in known) or "none"
        raise CommandFailed(f"there is no pipeline {name}", f"known pipelines: {names}")
    return record


def _call(tx: Connection, settings: Settings, arn: Arn, now: datetime) -> Call:
    caller = Caller.owner(arn.owner, arn.region, arn.partition)
    return Call(
        operation="PlanPipeline", caller=caller, request={}, now=now, tx=tx, settings=settings,
        managed=managed_content(settings.managed_images), page_secret=b"",
    )  # fmt: skip


def pipeline_arn(settings: Settings, name: str) -> Arn:
    """The ARN of a pipeline by its name or ARN. Raises CommandFailed."""
    if not name.startswith("arn:"):
        return Arn(
            partition=settings.partition,
            region=settings.region,
            owner=settings.account,
            kind=pipelines.KIND,
            slug=slug_of(name),
        )
    try:
        arn = Arn.parse(name)
    except ArnError as error:
        raise CommandFailed(f"{error}") from error
    if arn.kind != pipelines.KIND:
        raise CommandFailed(f"{name} is not the ARN of a pipeline")
    return arn
