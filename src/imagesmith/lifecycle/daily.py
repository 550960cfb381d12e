"""The time of day at which lifecycle policies run. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta


def next_daily(run_at: str, *, after: datetime) -> datetime:
    """The next instant of `HH:MM` in UTC that is later than `after`."""
    moment = after.astimezone(UTC)
    today = datetime.combine(moment.date(), time.fromisoformat(run_at), tzinfo=UTC)
    return today if today > moment else today + timedelta(days=1)
