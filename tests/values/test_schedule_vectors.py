"""The specification's own table of expressions, zones and fire times, and its lists of what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from imagesmith.values.schedule import Cron, Rate, ScheduleError, UnknownZone, parse_schedule

VECTORS = """
cron(0 10 * * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-01T10:00:00Z, 2026-01-02T10:00:00Z, 2026-01-03T10:00:00Z
cron(0 0 * * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-02T00:00:00Z, 2026-01-03T00:00:00Z, 2026-01-04T00:00:00Z
cron(15 12 * * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-01T12:15:00Z, 2026-01-02T12:15:00Z, 2026-01-03T12:15:00Z
cron(0 10 ? * 2-6 *) | 2026-01-01T00:00Z | UTC | 2026-01-01T10:00:00Z, 2026-01-02T10:00:00Z, 2026-01-05T10:00:00Z
cron(0 18 ? * mon-fri *) | 2026-01-01T00:00Z | UTC | 2026-01-01T18:00:00Z, 2026-01-02T18:00:00Z, 2026-01-05T18:00:00Z
cron(0 8 1 * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-01T08:00:00Z, 2026-02-01T08:00:00Z, 2026-03-01T08:00:00Z
cron(30 22 ? * tue#2 *) | 2026-01-01T00:00Z | UTC | 2026-01-13T22:30:00Z, 2026-02-10T22:30:00Z, 2026-03-10T22:30:00Z
cron(0 12 L * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-31T12:00:00Z, 2026-02-28T12:00:00Z, 2026-03-31T12:00:00Z
cron(0 12 3W * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-02T12:00:00Z, 2026-02-03T12:00:00Z, 2026-03-03T12:00:00Z
cron(0 12 1W * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-01T12:00:00Z, 2026-02-02T12:00:00Z, 2026-03-02T12:00:00Z
cron(0 12 31W * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-30T12:00:00Z, 2026-03-31T12:00:00Z, 2026-05-29T12:00:00Z
cron(0 12 LW * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-30T12:00:00Z, 2026-02-27T12:00:00Z, 2026-03-31T12:00:00Z
cron(0 6 ? * 6L *) | 2026-01-01T00:00Z | UTC | 2026-01-30T06:00:00Z, 2026-02-27T06:00:00Z, 2026-03-27T06:00:00Z
cron(0/20 9 */10 * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-01T09:00:00Z, 2026-01-01T09:20:00Z, 2026-01-01T09:40:00Z
cron(0 0 ? jan,jul sun#1 *) | 2026-01-01T00:00Z | UTC | 2026-01-04T00:00:00Z, 2026-07-05T00:00:00Z, 2027-01-03T00:00:00Z
cron(5 4 29 2 ? *) | 2026-01-01T00:00Z | UTC | 2028-02-29T04:05:00Z, 2032-02-29T04:05:00Z
cron(0 3 ? * sat-mon *) | 2026-01-01T00:00Z | UTC | 2026-01-03T03:00:00Z, 2026-01-04T03:00:00Z, 2026-01-05T03:00:00Z
cron(0 22-2/2 1 * ? *) | 2026-01-01T00:00Z | UTC | 2026-01-01T02:00:00Z, 2026-01-01T22:00:00Z, 2026-02-01T00:00:00Z
cron(0 0 1 1 ? 2027-2028) | 2026-01-01T00:00Z | UTC | 2027-01-01T00:00:00Z, 2028-01-01T00:00:00Z
cron(0 0 1 1 ? 2020) | 2026-01-01T00:00Z | UTC |
cron(30 2 * * ? *) | 2026-03-07T12:00Z | America/New_York | 2026-03-09T06:30:00Z, 2026-03-10T06:30:00Z, 2026-03-11T06:30:00Z
cron(30 1 * * ? *) | 2026-10-31T12:00Z | America/New_York | 2026-11-01T05:30:00Z, 2026-11-02T06:30:00Z, 2026-11-03T06:30:00Z
cron(0 9 ? * mon *) | 2026-03-20T00:00Z | Europe/Berlin | 2026-03-23T08:00:00Z, 2026-03-30T07:00:00Z, 2026-04-06T07:00:00Z
cron(0 0 ? * tue#5 *) | 2026-01-01T00:00Z | UTC | 2026-03-31T00:00:00Z, 2026-06-30T00:00:00Z, 2026-09-29T00:00:00Z
"""  # noqa: E501

REJECTED = (
    "cron(0 0 * * *)", "cron(0 10 * * ?)", "cron(0 0 * * SUN)", "cron(0 0 * * * *)", "cron(0 0 ? * ? *)",
    "cron(60 0 * * ? *)", "cron(0 24 * * ? *)", "cron(0 0 32 * ? *)", "cron(0 0 ? * 8 *)", "cron(0 0 ? * 0 *)",
    "cron(0 0 ? * tue#6 *)", "cron(0 0 * 13 ? *)", "cron(0 0 * * ? 1969)", "cron( 0 0 * * ? *)",
    "cron(0 0  * * ? *)", "0 0 * * ? *", "rate(1 hours)", "rate(5 hour)", "rate(0 days)", "rate(1 week)",
    "rate(1.5 hours)",
)  # fmt: skip

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.mark.parametrize("line", VECTORS.strip().splitlines())
def test_a_vector_of_the_specification_fires_when_it_says(line: str) -> None:
    """Each expression of the table gives its fire times, in order, and ends where the table ends."""
    expression, after, zone, expected = (part.strip() for part in line.split("|"))
    wanted = [instant(text) for text in expected.split(", ") if text]
    schedule = parse_schedule(expression, zone)
    assert schedule.upcoming(instant(after), max(len(wanted), 1)) == wanted


@pytest.mark.parametrize("expression", REJECTED)
def test_an_expression_of_the_rejected_list_is_refused(expression: str) -> None:
    """Every expression of the rejected list raises ScheduleError."""
    with pytest.raises(ScheduleError):
        parse_schedule(expression)


@pytest.mark.parametrize(
    ("expression", "period"),
    [
        ("rate(1 minute)", timedelta(minutes=1)),
        ("rate(1 hour)", timedelta(hours=1)),
        ("rate(5 hours)", timedelta(hours=5)),
        ("rate(30 days)", timedelta(days=30)),
    ],
)
def test_a_rate_counts_from_its_anchor(expression: str, period: timedelta) -> None:
    """Fire k comes at anchor + k * period, the anchor itself being none, and always strictly later."""
    rate, anchor = parse_schedule(expression), datetime(2026, 1, 1, 7, 30, tzinfo=UTC)
    assert rate.upcoming(anchor, 3, anchor) == [anchor + period, anchor + 2 * period, anchor + 3 * period]
    assert rate.next_after(anchor + 2 * period, anchor) == anchor + 3 * period
    assert rate.next_after(anchor + 2 * period - timedelta(seconds=1), anchor) == anchor + 2 * period
    assert rate.next_after(anchor - timedelta(days=400), anchor) == anchor + period


def test_a_rate_without_anchor_is_a_mistake_of_the_caller() -> None:
    """Asking a rate for its next instant without an anchor raises ValueError."""
    with pytest.raises(ValueError, match="anchor"):
        parse_schedule("rate(1 hour)").next_after(NEW_YEAR)


def test_a_rate_ignores_the_zone_but_not_a_wrong_one() -> None:
    """The same instants come out of any zone, yet a zone that does not exist is refused."""
    berlin = parse_schedule("rate(2 hours)", "Europe/Berlin")
    assert berlin.next_after(NEW_YEAR, NEW_YEAR) == NEW_YEAR + timedelta(hours=2)
    with pytest.raises(UnknownZone):
        parse_schedule("rate(2 hours)", "Europe/Atlantis")


def test_a_rate_beyond_the_calendar_never_fires() -> None:
    """A period that no date can hold gives None, not an overflow."""
    for expression in ("rate(999999999999999999 days)", "rate(9999999 days)"):
        assert parse_schedule(expression).next_after(NEW_YEAR, NEW_YEAR) is None


def test_a_moment_without_zone_is_refused() -> None:
    """A naive datetime raises ValueError instead of meaning this machine's zone."""
    for expression in ("cron(0 10 * * ? *)", "rate(1 hour)"):
        with pytest.raises(ValueError, match="no time zone"):
            parse_schedule(expression).next_after(datetime(2026, 1, 1), NEW_YEAR)  # noqa: DTZ001, RUF100


def test_instants_are_utc_whatever_the_zone_of_the_question() -> None:
    """A moment in any offset gives the same answer, and the answer is in UTC."""
    schedule = parse_schedule("cron(0 10 * * ? *)", "Asia/Tokyo")
    tokyo = NEW_YEAR.astimezone(timezone(timedelta(hours=9)))
    assert schedule.next_after(tokyo) == schedule.next_after(NEW_YEAR) == datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
    answer = schedule.next_after(tokyo)
    assert answer is not None and answer.tzinfo is UTC


def test_the_calendar_has_its_first_and_last_year() -> None:
    """Nothing fires before 1970 or after 2199, from whatever moment one asks."""
    schedule = parse_schedule("cron(59 23 * * ? *)")
    assert schedule.next_after(datetime.min.replace(tzinfo=UTC)) == datetime(1970, 1, 1, 23, 59, tzinfo=UTC)
    assert schedule.next_after(datetime(2199, 12, 31, tzinfo=UTC)) == datetime(2199, 12, 31, 23, 59, tzinfo=UTC)
    assert schedule.next_after(datetime(2199, 12, 31, 23, 59, tzinfo=UTC)) is None
    assert schedule.next_after(datetime.max.replace(tzinfo=UTC)) is None


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_first_and_last_year_are_those_of_the_zone(zone: str) -> None:
    """The years of an expression are wall-clock years, also at both ends of the calendar."""
    schedule = parse_schedule("cron(0 0 1 1 ? *)", zone)
    first = schedule.next_after(datetime(1900, 1, 1, tzinfo=UTC))
    last = schedule.upcoming(datetime(2198, 6, 1, tzinfo=UTC), 5)[-1]
    assert isinstance(schedule, Cron) and first is not None
    assert first.astimezone(schedule.zone).replace(tzinfo=None) == datetime(1970, 1, 1)  # noqa: DTZ001, RUF100
    assert last.astimezone(schedule.zone).replace(tzinfo=None) == datetime(2199, 1, 1)  # noqa: DTZ001, RUF100


@pytest.mark.parametrize(
    "expression",
    ["cron(0 0 30 2 ? *)", "cron(0 0 31 4,6,9,11 ? *)", "cron(0 0 29 2 ? 2100)", "cron(0 0 30W 2 ? *)",
     "cron(0 0 L-30 2,4 ? *)", "cron(0 0 ? 2 mon#5 2001)"],
)  # fmt: skip
def test_a_date_that_no_calendar_has_never_fires(expression: str) -> None:
    """Such an expression is valid, never fires, and its explanation says so."""
    schedule = parse_schedule(expression)
    assert schedule.next_after(datetime(1970, 1, 1, tzinfo=UTC)) is None
    assert schedule.explain().endswith("it never fires.")


def test_seventy_years_ahead_is_one_question() -> None:
    """The leap day of 2096 is found from any earlier moment."""
    schedule = parse_schedule("cron(0 0 29 2 ? 2096)")
    assert schedule.upcoming(NEW_YEAR, 3) == [datetime(2096, 2, 29, tzinfo=UTC)]


def test_both_kinds_are_values() -> None:
    """Two readings of one expression are equal and hash alike; another zone is another schedule."""
    assert parse_schedule("cron(0 1 * * ? *)") == parse_schedule("cron(0 1 * * ? *)", "UTC")
    assert hash(parse_schedule("cron(0 1 * * ? *)")) == hash(parse_schedule("cron(0 1 * * ? *)", "UTC"))
    assert parse_schedule("cron(0 1 * * ? *)") != parse_schedule("cron(0 1 * * ? *)", "Europe/Berlin")
    assert parse_schedule("rate(5 hours)") == Rate("rate(5 hours)", 5, "hour")


@pytest.mark.parametrize(
    "zone",
    ["", "Mars/Olympus", "europe/berlin", "Europe", "../etc/passwd", "/etc/localtime", "localtime", "posixrules",
     "right/UTC", "posix/UTC", "Factory", "tzdata.zi", "UTC\0", "U" * 5000, "Zürich", "UTC "],
)  # fmt: skip
def test_a_name_that_is_no_zone_is_refused(zone: str) -> None:
    """Only names of the IANA database pass; files, folders and other spellings do not."""
    with pytest.raises(UnknownZone):
        parse_schedule("cron(0 1 * * ? *)", zone)


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("cron(30 2 ? 3 sunL *)", "Europe/Berlin"),
        ("cron(* 2 ? 3 sunL *)", "Europe/Berlin"),
        ("cron(*/10 2 ? 3 sun#2 *)", "America/New_York"),
        ("cron(0-29 2 ? 10 sun#1 *)", "Australia/Lord_Howe"),
        ("cron(* * 30 12 ? 2011)", "Pacific/Apia"),
    ],
)
def test_wall_times_that_gaps_always_swallow_never_fire(expression: str, zone: str) -> None:
    """A schedule made of skipped times only ends, although the same expression fires in UTC."""
    since = datetime(2011, 1, 1, tzinfo=UTC)
    assert parse_schedule(expression, zone).next_after(since) is None
    assert parse_schedule(expression).next_after(since) is not None


@pytest.mark.parametrize(
    ("zone", "after", "wanted"),
    [
        ("Pacific/Apia", "2011-12-29T12:00Z", ["2011-12-30T09:58Z", "2011-12-30T09:59Z", "2011-12-30T10:00Z"]),
        ("Africa/Monrovia", "1972-01-07T00:43Z", ["1972-01-07T00:43:30Z", "1972-01-07T00:45Z"]),
        ("Antarctica/Vostok", "1994-01-31T16:58:30Z", ["1994-01-31T16:59Z", "1994-02-01T00:00Z"]),
    ],
)
def test_odd_changes_of_the_clock(zone: str, after: str, wanted: list[str]) -> None:
    """A skipped day, a change off the minute, and seven hours told twice each fire every wall minute once."""
    schedule = parse_schedule("cron(* * * * ? *)", zone)
    start = instant(wanted[0]) - timedelta(seconds=30)
    assert instant(after) <= start
    assert schedule.upcoming(start, len(wanted)) == [instant(text) for text in wanted]
