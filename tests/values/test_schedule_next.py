"""The next fire time against a brute-force search, against walks over the clock, and against other libraries."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from pathlib import Path
from zoneinfo import TZPATH

import pytest
from aws_cron_expression_validator.validator import AWSCronExpressionValidator
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyawscron import AWSCron

from imagesmith.values.schedule import parse_schedule
from imagesmith.values.zones import zone_named
from testing.schedule_oracle import (
    END,
    START,
    ZONES,
    Meaning,
    brute_force_next,
    changes_of,
    fields,
    meanings,
    moments,
)

zones = st.sampled_from(ZONES)


@given(meanings(), zones, st.data())
@settings(max_examples=250, deadline=None)
def test_the_next_fire_time_is_that_of_brute_force(meaning: Meaning, zone: str, data: st.DataObject) -> None:
    """Any expression, zone and moment give what trying every minute of every day gives."""
    moment = data.draw(moments(zone))
    found = parse_schedule(meaning.expression, zone).next_after(moment)
    assert found == brute_force_next(meaning, moment, zone)


@given(fields(0, 59, wraps=True), fields(0, 23, wraps=True), zones.filter(changes_of), st.data())
@settings(max_examples=60, deadline=None)
def test_around_a_change_the_clock_itself_says_what_fires(
    minute: tuple[str, frozenset[int]], hour: tuple[str, frozenset[int]], zone: str, data: st.DataObject
) -> None:
    """Walk the instants around a change of offset: each wall time fires when it is first shown, never again."""
    change = data.draw(st.sampled_from(changes_of(zone)))
    schedule = parse_schedule(f"cron({minute[0]} {hour[0]} * * ? *)", zone)
    moment, end = change - timedelta(hours=50), change + timedelta(hours=50)
    assume(START + timedelta(days=2) < moment and end < END)
    shown, fires = set(), []
    local = zone_named(zone)
    step = timedelta(seconds=30 if zone == "Africa/Monrovia" else 60)
    while moment <= end:
        wall = moment.astimezone(local).replace(tzinfo=None)
        if wall.second == 0 and wall not in shown and wall.minute in minute[1] and wall.hour in hour[1]:
            shown.add(wall)
            fires.append(moment)
        moment += step
    # A wall time may have been shown before the walk began: by a day and a bit at most.
    fires = [fire for fire in fires if fire > change - timedelta(hours=25)]
    assert schedule.upcoming(change - timedelta(hours=25), len(fires)) == fires


@given(meanings(), zones, st.data())
@settings(max_examples=300, deadline=None)
def test_fire_times_rise_and_hold_until_they_come(meaning: Meaning, zone: str, data: st.DataObject) -> None:
    """The walk is strictly increasing, and any moment before a fire time and after the last one leads to it."""
    moment = data.draw(moments(zone))
    schedule = parse_schedule(meaning.expression, zone)
    walk = [moment, *schedule.upcoming(moment, 5)]
    for last, following in pairwise(walk):
        assert last < following
        seconds = int((following - last).total_seconds())
        between = last + timedelta(seconds=data.draw(st.integers(0, max(seconds - 1, 0))))
        assert schedule.next_after(between) == following
        assert schedule.next_after(following - timedelta(microseconds=1)) == following
    if len(walk) < 6:
        assert schedule.next_after(walk[-1] + timedelta(days=365)) is None


@given(
    st.integers(1, 10_000),
    st.sampled_from(["minute", "hour", "day"]),
    st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 10**10),
    st.data(),
)
def test_rates_rise_and_hold_until_they_come(
    count: int, unit: str, anchor: datetime, seconds: int, data: st.DataObject
) -> None:
    """Fire times of a rate lie whole periods after the anchor, and the answer is the first that is later."""
    rate = parse_schedule(f"rate({count} {unit}{'s' if count > 1 else ''})")
    period = timedelta(**{f"{unit}s": count})
    moment = anchor + timedelta(seconds=seconds)
    following = rate.next_after(moment, anchor)
    assert following is not None
    assert (following - anchor) % period == timedelta(0)
    assert following - period <= moment < following
    assert rate.upcoming(moment, 3, anchor) == [following, following + period, following + 2 * period]


def _pyawscron_reads(expression: str) -> bool:
    """What that library knows: no names with options of its own, no wrap-around, no list with a step in it."""
    inner = expression[5:-1]
    texts = inner.split(" ")
    wraps = re.search(r"([a-zA-Z]{3})-|-([a-zA-Z]{3})", inner) or any(
        int(first) > int(last) for first, last in re.findall(r"(\d+)-(\d+)", inner)
    )
    mixed = any("," in text and ("/" in text or "*" in text) for text in texts)
    return not wraps and not mixed and texts[4] != "L" and texts[2] not in ("LW", "L-30")


@given(meanings().filter(lambda meaning: _pyawscron_reads(meaning.expression)), moments("UTC"))
@settings(max_examples=200, deadline=None)
def test_pyawscron_agrees_in_utc(meaning: Meaning, moment: datetime) -> None:
    """An independent implementation gives the same instants wherever it gets to an answer at all."""
    try:
        theirs = AWSCron(meaning.expression[5:-1]).occurrence(moment).next()
    except Exception:  # it gives up after ten rounds, and stumbles over day 31 of a short month
        assume(False)
    found = parse_schedule(meaning.expression).next_after(moment)
    assert found == theirs


FIELDS = (
    (AWSCronExpressionValidator.minute_regex(), 60, "cron({} 0 * * ? *)"),
    (AWSCronExpressionValidator.hour_regex(), 24, "cron(0 {} * * ? *)"),
    (AWSCronExpressionValidator.day_of_month_regex(), 31, "cron(0 0 {} * ? *)"),
    (AWSCronExpressionValidator.month_regex(), 12, "cron(0 0 1 {} ? *)"),
    (AWSCronExpressionValidator.day_of_week_regex(), 7, "cron(0 0 ? * {} *)"),
    (AWSCronExpressionValidator.year_regex(), 230, "cron(0 0 1 1 ? {})"),
)


def _outside_our_grammar(text: str, size: int) -> bool:
    """What EventBridge's validator lets pass besides: open ranges, `L-n` weekdays, backward days, wide steps."""
    if re.search(r"\*-|-\*", text) or (size == 7 and "L-" in text):
        return True
    backward = any(int(first) > int(last) for first, last in re.findall(r"(\d+)-(\d+)", text))
    wide = any(int(step) > size for step in re.findall(r"/(\d+)", text))
    return wide or (backward and size in (31, 230))


@pytest.mark.parametrize(("pattern", "size", "template"), FIELDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_the_other_validator_accepts_is_accepted(
    pattern: str, size: int, template: str, data: st.DataObject
) -> None:
    """Whatever EventBridge's validator lets pass in a field parses here too, apart from what our grammar lacks."""
    text = data.draw(st.from_regex(pattern, fullmatch=True)).strip()
    if text != "?" and not _outside_our_grammar(text, size):
        AWSCronExpressionValidator.validate(template.format(text)[5:-1])
        parse_schedule(template.format(text))


@given(meanings())
@settings(max_examples=300, deadline=None)
def test_what_is_accepted_passes_the_other_validator(meaning: Meaning) -> None:
    """Whatever parses here passes EventBridge's validator, apart from the operators it does not know."""
    inner = meaning.expression[5:-1]
    _, _, day, _, weekday, _ = inner.split(" ")
    assume("L-" not in day and "/" not in weekday and not re.search(r"\b0[1-7]\b", weekday))
    AWSCronExpressionValidator.validate(inner)


@given(meanings(), st.sampled_from(["UTC", "Europe/Berlin"]))
def test_every_expression_is_explained(meaning: Meaning, zone: str) -> None:
    """The words are one or two sentences, name the zone, and differ where the schedules differ."""
    told = parse_schedule(meaning.expression, zone).explain()
    assert told.startswith(("At ", "Every ")) and told.endswith(".")
    assert f"({zone}" in told


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("cron(0 10 * * ? *)", "At 10:00 every day (UTC)."),
        ("cron(0 18 ? * mon-fri *)", "At 18:00 on Monday to Friday (UTC)."),
        ("cron(0/20 9 */10 * ? *)", "At 09:00, 09:20 and 09:40 on days 1, 11, 21 and 31 of the month (UTC)."),
        ("cron(* * ? * sat-mon *)", "Every minute on Sunday, Monday and Saturday (UTC)."),
        ("cron(*/15 8-18 LW * ? *)",
         "Every 15 minutes of the hours 8 to 18 on the last day from Monday to Friday of the month (UTC)."),
        ("cron(5,7 * 15W * ? *)",
         "At minutes 5 and 7 of every hour on the day from Monday to Friday nearest to day 15 of the month (UTC)."),
        ("cron(0 0 ? jan,jul sun#1 2027-2028)",
         "At 00:00 on the first Sunday of the month in January and July in the years 2027 and 2028 (UTC)."),
        ("cron(0 6 L-1 * ? *)", "At 06:00 1 day before the last day of the month (UTC)."),
        ("cron(0 6 ? 2 6L 2030)", "At 06:00 on the last Friday of the month in February in the year 2030 (UTC)."),
        ("cron(*/7 5 L * ? *)",
         "At minutes 0 to 56 in steps of 7 of the hour 5 on the last day of the month (UTC)."),
        ("rate(1 minute)", "Every minute, counted from the moment the schedule was created or last changed."),
        ("rate(5 hours)", "Every 5 hours, counted from the moment the schedule was created or last changed."),
    ],
)  # fmt: skip
def test_the_words_of_an_expression(expression: str, words: str) -> None:
    """Each kind of rule has its own plain wording."""
    assert parse_schedule(expression).explain() == words


def _changes_in(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(instant, offset before, offset after) of the 64-bit block of a zone file (RFC 8536)."""
    header = struct.Struct(">4s1s15x6l")
    _, _, isut, isstd, leap, times, types, chars = header.unpack_from(data)
    second = header.size + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
    _, _, isut, isstd, leap, times, types, chars = header.unpack_from(data, second)
    at = second + header.size
    instants = struct.unpack_from(f">{times}q", data, at)
    indexes = data[at + times * 8 : at + times * 9]
    offsets = [struct.unpack_from(">l", data, at + times * 9 + 6 * index)[0] for index in range(types)]
    before = offsets[0]
    for instant, index in zip(instants, indexes, strict=True):
        if offsets[index] != before:
            yield instant, before, offsets[index]
        before = offsets[index]


def _zone_files() -> Iterator[tuple[str, bytes]]:
    package = resources.files("tzdata")
    for name in package.joinpath("zones").read_text().split():
        yield name, package.joinpath("zoneinfo", *name.split("/")).read_bytes()
        for folder in TZPATH:
            if (file := Path(folder, name)).is_file():
                yield name, file.read_bytes()


def test_no_zone_changes_twice_within_days() -> None:
    """The search relies on one change of offset around a wall time: true of every zone since 1970."""
    for name, data in _zone_files():
        recent = [change for change in _changes_in(data) if change[0] > START.timestamp() - 10 * 86400]
        for (first, _, _), (second, _, _) in pairwise(recent):
            assert second - first > 4 * 86400, name
