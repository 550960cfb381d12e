"""`imagesmith pipeline plan`: finds the pipeline in the store and judges it as a tick would."""

from __future__ import annotations

from datetime import datetime

from imagesmith.cli.context import CommandFailed
from imagesmith.cli.store import opened_store
from imagesmith.resources import pipelines
from imagesmith.resources.call import Call
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.managed import managed_content
from imagesmith.schedule.preview import PipelinePlan, plan_pipeline
from imagesmith.settings import Settings
from imagesmith.store import queries
from imagesmith.store.queries import Selection
from imagesmith.values.arn import Arn, ArnError, slug_of

_MOST_NAMES = 20


def plan_named(settings: Settings, name: str, *, now: datetime) -> PipelinePlan:
    """The plan of a pipeline by name or ARN. Raises CommandFailed."""
    arn = _arn(settings, name)
    with opened_store(settings) as tx:
        record = queries.get(tx, str(arn))
        if record is None or record.kind != pipelines.KIND:
            known = queries.page(tx, Selection(arn.owner, arn.region, pipelines.KIND), None, _MOST_NAMES)
            names = ", ".join(item.name for item in known) or "none"
            raise CommandFailed(f"there is no pipeline {name}", f"known pipelines: {names}")
        caller = Caller(arn.owner, arn.region, f"arn:{arn.partition}:iam::{arn.owner}:root", "", arn.partition)
        call = Call(
            operation="PlanPipeline", caller=caller, request={}, now=now, tx=tx, settings=settings,
            managed=managed_content(), page_secret=b"",
        )  # fmt: skip
        return plan_pipeline(call, record)


def _arn(settings: Settings, name: str) -> Arn:
    if not name.startswith("arn:"):
        return Arn(settings.partition, settings.region, settings.account, pipelines.KIND, slug_of(name))
    try:
        return Arn.parse(name)
    except ArnError as error:
        raise CommandFailed(f"{error}") from error
