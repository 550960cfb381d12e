"""The outbox: events are rows, written in the transaction of the change that they report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.tables import events
from imagesmith.store.upsert import for_dialect, inserts_if_absent

_PUT = inserts_if_absent(events)


@dataclass(frozen=True)
class Event:
    """One event (spec/api.md 7.1)."""

    id: str
    account: str
    region: str
    time: datetime
    detail_type: str
    resources: tuple[str, ...]
    """ARNs of the resources that it concerns."""
    detail: Mapping[str, Any]


def put_event(tx: Connection, event: Event) -> None:
    """Store an event; an id that is stored already is not stored again."""
    values = {
        "id": event.id, "account": event.account, "region": event.region, "detail_type": event.detail_type,
        "time": microseconds(event.time), "resources": list(event.resources), "detail": dict(event.detail),
    }  # fmt: skip
    tx.execute(for_dialect(tx, _PUT), values)


def newest_events(tx: Connection, account: str, region: str, limit: int) -> list[Event]:
    """The last events of an account and region, newest first."""
    query = sa.select(events).where(events.c.account == account, events.c.region == region)
    rows = tx.execute(query.order_by(events.c.time.desc(), events.c.id.desc()).limit(limit))
    return [
        Event(
            id=row.id,
            account=row.account,
            region=row.region,
            time=from_microseconds(row.time),
            detail_type=row.detail_type,
            resources=tuple(row.resources),
            detail=row.detail,
        )
        for row in rows
    ]


def forget_events_before(tx: Connection, moment: datetime) -> None:
    tx.execute(sa.delete(events).where(events.c.time < microseconds(moment)))
