"""An image enters a state: its record, the state of its pipeline's last run, and the event, in one transaction.

Every transition of a build is written here, so none is without its event (spec/api.md 5.1, 7.1); lifecycle actions
have no event. CREATING is told as PENDING, as the service does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.events.messages import image_state_changed
from imagesmith.store import queries
from imagesmith.store.events import put_event
from imagesmith.store.records import Record
from imagesmith.values.states import ImageStatus


def enter_state(tx: Connection, image: Record, state: Mapping[str, Any], *, moment: datetime) -> None:
    """Write an image in a new state.

    `image`: as it is stored, except for its document, which may have other changes. `state`: `{"status": ...}`, and
    for a failed image `reason` and `failureContext`.
    """
    document = {**image.document, "state": dict(state)}
    queries.replace(tx, replace(image, document=document, status=state["status"]))
    before, after = _told(image.status), _told(state["status"])
    if before != after:
        put_event(tx, image_state_changed(image, before, {**state, "status": after}, moment=moment))
    _follow(tx, image, state["status"])


def _told(status: str) -> str:
    return ImageStatus.PENDING if status == ImageStatus.CREATING else status


def _follow(tx: Connection, image: Record, status: str) -> None:
    """Update lastRunStatus if this is the newest image of its pipeline (spec/pipelines.md 1)."""
    pipeline = queries.get(tx, image.source) if image.source else None
    newest = queries.newest_of_source(tx, image.source) if pipeline else None
    if pipeline is not None and newest is not None and newest.arn == image.arn:
        queries.replace(tx, replace(pipeline, document={**pipeline.document, "lastRunStatus": status}))
