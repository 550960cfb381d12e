"""Effects of a finished run on its pipeline, and on pipelines that build on its image (spec/pipelines.md 6)."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.engine import Connection

from imagesmith.events.messages import pipeline_disabled
from imagesmith.store import queries, schedules
from imagesmith.store.cascades import put_cascade
from imagesmith.store.events import put_event
from imagesmith.store.records import Record
from imagesmith.values.names import parse_instant
from imagesmith.values.run_counts import RunEffect, Trigger, after_run, failure_limit
from imagesmith.values.states import ImageStatus, PipelineStatus


def count_run(
    tx: Connection, pipeline: Record, result: ImageStatus, *, trigger: Trigger, stamp: str, image_arn: str = ""
) -> RunEffect:
    """Write the effects of a run's end on its pipeline, and on pipelines that build on its image.

    A pipeline that becomes disabled is disarmed, with an event.
    """
    document = dict(pipeline.document)
    schedule = document.get("schedule")
    effect = after_run(
        int(document.get("consecutiveFailures", 0)), result,
        trigger=trigger,
        enabled=document.get("status") == PipelineStatus.ENABLED,
        limit=failure_limit(
            (schedule or {}).get("autoDisablePolicy", {}).get("failureCount"), has_schedule=schedule is not None
        ),
    )  # fmt: skip
    document["consecutiveFailures"] = effect.consecutive_failures
    if effect.disable:
        document |= {"status": PipelineStatus.DISABLED, "dateUpdated": stamp}
        schedules.disarm(tx, [pipeline.arn])
        put_event(tx, pipeline_disabled(pipeline, effect.consecutive_failures, moment=parse_instant(stamp)))
    if result == ImageStatus.AVAILABLE and image_arn:
        put_cascade(tx, image_arn, parse_instant(stamp))
    if document != pipeline.document:
        queries.replace(tx, replace(pipeline, document=document, status=document.get("status", "")))
    return effect
