"""The outbox: events are rows, written in the transaction that made true what they tell."""

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
    """One thing that happened (spec/api.md 7.1)."""

    id: str
    account: str
    region: str
    time: datetime
    detail_type: str
    resources: tuple[str, ...]
    """ARNs that it is about."""
    detail: Mapping[str, Any]


def put_event(tx: Connection, event: Event) -> None:
    """Store an event; one with the same id is the same event and is stored once."""
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
            row.id, row.account, row.region, from_microseconds(row.time), row.detail_type,
            tuple(row.resources), row.detail,
        )
        for row in rows
    ]  # fmt: skip


def forget_events_before(tx: Connection, moment: datetime) -> None:
    tx.execute(sa.delete(events).where(events.c.time < microseconds(moment)))
