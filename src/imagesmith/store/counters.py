"""Counters that hand out numbers; a number is handed out once."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.tables import counters
from imagesmith.store.upsert import counting, for_dialect

_COUNT = counting(counters)


def next_number(tx: Connection, key: str) -> int:
    """Hand out the next number of a counter, starting at 1; numbers are not reused (spec/api.md 3.3)."""
    return int(tx.execute(for_dialect(tx, _COUNT), {"key": key, "value": 1}).scalar_one())


def raise_counter(tx: Connection, key: str, at_least: int) -> None:
    """Raise a counter, so that it never hands out a number up to `at_least` again."""
    row = tx.execute(sa.select(counters.c.value).where(counters.c.key == key)).first()
    if row is None:
        tx.execute(sa.insert(counters).values(key=key, value=at_least))
    elif int(row.value) < at_least:
        tx.execute(sa.update(counters).where(counters.c.key == key).values(value=at_least))


def counter(tx: Connection, key: str) -> int | None:
    row = tx.execute(sa.select(counters.c.value).where(counters.c.key == key)).first()
    return None if row is None else int(row.value)
