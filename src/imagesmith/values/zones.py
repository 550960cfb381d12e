"""Wall-clock times of IANA zones: the instant of a local time (spec/pipelines.md 2.4).

    spring gap        a wall time of no instant: it is skipped
    autumn overlap    a wall time of two instants: the first one counts

Both kinds come in odd sizes: half an hour at Lord Howe, seven hours at Vostok in 1994, a whole day where a
country changed sides of the date line. They never come closer together than days: the functions below rely on
at most one change of offset around a wall time, which a test checks over the whole installed database.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from imagesmith.values.recurrence import UnknownZone
from imagesmith.values.zone_data import packaged_zone

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]*")
_NOT_ZONES = re.compile(r"(posix|right)/.*|localtime|posixrules|Factory")
"""Files of a zone database that are not zone names: other epochs, and the machine's own zone."""


_MINUTE = timedelta(minutes=1)


def zone_named(name: str) -> ZoneInfo:
    """The zone of an IANA name, case as IANA writes it. Raises UnknownZone."""
    try:
        if _NAME.fullmatch(name) and not _NOT_ZONES.fullmatch(name):
            return packaged_zone(name) or ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass  # no such file, a folder, or a file that is not a zone: one answer for all
    raise UnknownZone(f"'{name}' is not a time zone of the IANA database; use a name such as Europe/Berlin or UTC")


def offsets_of(wall: datetime, zone: tzinfo) -> tuple[timedelta, timedelta]:
    """The offsets that a wall time (naive) has when read as the earlier and as the later of two.

    Equal at an ordinary time; rising in a gap, by its length; falling in an overlap, by its length.
    """
    # A zone needs only the bare fields of a datetime; attaching the zone first would copy it twice for nothing.
    first, second = zone.utcoffset(wall), zone.utcoffset(wall.replace(fold=1))
    assert first is not None and second is not None
    return first, second


def is_irregular(wall: datetime, zone: tzinfo) -> bool:
    """Whether `wall` lies in a gap or in an overlap."""
    first, second = offsets_of(wall, zone)
    return first != second


def end_of_irregular(wall: datetime, zone: tzinfo) -> datetime:
    """The first whole minute, as wall time, after the gap or overlap that `wall` lies in; always later than it."""
    first, second = offsets_of(wall, zone)
    # In a gap the larger offset is the new one, in an overlap it is the old one. Read with the larger offset, the
    # wall time lies before the change; read with the smaller, at or after it.
    larger, smaller = max(first, second), min(first, second)
    change = _change_between((wall - larger).replace(tzinfo=UTC), (wall - smaller).replace(tzinfo=UTC), zone)
    end = (change + larger).replace(tzinfo=None)
    if end.second:
        end = end.replace(second=0) + _MINUTE
    return max(end, wall + _MINUTE)


def _change_between(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Bisect for the instant at which the zone's offset changes in (before, after], to the minute if both are."""
    old = before.astimezone(zone).utcoffset()
    unit = timedelta(seconds=1) if before.second or after.second else _MINUTE
    low, high = 0, (after - before) // unit
    while high - low > 1:
        middle = (low + high) // 2
        if (before + middle * unit).astimezone(zone).utcoffset() == old:
            low = middle
        else:
            high = middle
    return before + high * unit
