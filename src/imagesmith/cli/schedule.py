"""`imagesmith schedule`: explains expressions, and lists the next runs of this account's pipelines."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zoneinfo import available_timezones

import click

from imagesmith.cli.context import data_dir_option, json_option, settings_of
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.values.endings import why_over
from imagesmith.values.schedule import Cron, Schedule, ScheduleError, UnknownZone, parse_schedule
from imagesmith.values.zone_data import zone_data

if TYPE_CHECKING:
    from imagesmith.schedule.agenda import Appointment

_MOST = 10_000
_FIELDS_HINT = (
    "six fields: minute hour day-of-month month day-of-week year; one of the two day fields is '?', "
    "as in cron(0 10 ? * mon-fri *)"
)
_RATE_HINT = "rate(<number> <unit>): rate(1 hour), rate(5 hours), rate(30 days)"


class BadExpression(click.ClickException):
    """An expression that cannot be read; shown with a caret under the wrong character. Exit status 2."""

    exit_code = 2

    def __init__(self, expression: str, error: ScheduleError) -> None:
        super().__init__(error.text)
        self.expression = expression
        self.column = error.column

    def show(self, file: IO[Any] | None = None) -> None:
        echo(f"error: {_printable(self.message)}", fg="red", err=file is None, file=file)
        echo(f"  {_printable(self.expression)}\n  {' ' * self.column}^", err=file is None, file=file)
        echo(f"hint: {self._hint()}", err=file is None, file=file)

    def _hint(self) -> str:
        if self.expression.startswith("cron("):
            return _FIELDS_HINT
        if self.expression.startswith("rate("):
            return _RATE_HINT
        return f"write cron(...) with {_FIELDS_HINT}, or {_RATE_HINT}"


def _printable(text: str) -> str:
    """The text without cursor movements of a terminal, in the same length."""
    return "".join(character if character.isprintable() else "?" for character in text)


class Instant(click.ParamType[datetime]):
    """An ISO 8601 time; without an offset it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"'{value}' is not a time; write 2026-01-31T18:00:00Z or 2026-01-31", param, ctx)


@click.group(cls=PlainGroup)
def schedule() -> None:
    """Explain schedule expressions; list the next runs."""


@schedule.command("next")
@click.argument("expression")
@click.option("--timezone", metavar="ZONE", help="IANA time zone of a cron expression.  [default: UTC]")
@click.option(
    "-n", "--count", type=click.IntRange(1, _MOST), default=10, show_default=True, help="Number of times to list."
)
@click.option("--after", type=Instant(), help="List times strictly after this one.  [default: now]")
@click.option(
    "--anchor", type=Instant(), help="Start of the first interval of a rate.  [default: the time of --after]"
)
@click.option("--lenient", is_flag=True, help="Accept five fields, and '*' in both day fields.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of UTC instants.")
def next_times(
    expression: str,
    timezone: str | None,
    *,
    count: int,
    after: datetime | None,
    anchor: datetime | None,
    lenient: bool,
    as_json: bool,
) -> None:
    """Describe EXPRESSION in words and list the next times it fires.

    \b
    Examples:
      imagesmith schedule next 'cron(0 10 * * ? *)'
      imagesmith schedule next 'cron(30 2 ? * sunL *)' --timezone Europe/Berlin -n 3
      imagesmith schedule next 'cron(0 12 LW * ? *)' --after 2026-01-01T00:00Z --json
      imagesmith schedule next 'rate(12 hours)' --anchor 2026-01-01T08:30Z

    The exit status is 2 when the expression or the zone is wrong. Standard error shows why no further
    time follows and which time zone database was used, also with --json.
    """
    try:
        parsed = parse_schedule(expression, timezone, lenient=lenient)
    except ScheduleError as error:
        raise BadExpression(expression, error) from error
    except UnknownZone as error:
        raise click.BadParameter(f"{error}{_similar_zone(timezone or '')}", param_hint="--timezone") from error
    start = after or datetime.now(UTC).replace(microsecond=0)
    instants = parsed.upcoming(start, count, anchor or start)
    if reason := why_over(parsed, instants[-1] if instants else start):
        echo(f"hint: {reason}", err=True)
    if as_json:
        echo(json.dumps([_instant(moment) for moment in instants]))
    else:
        _show_times(parsed, start, instants)
    if isinstance(parsed, Cron) and parsed.timezone != "UTC":
        # not in the answer, which programs read
        echo(f"time zones: {zone_data()}", err=True)


def _show_times(parsed: Schedule, start: datetime, instants: Sequence[datetime]) -> None:
    echo(parsed.explain())
    if not instants:
        echo(f"No time after {_instant(start)}.")
    for moment in instants:
        echo(f"  {_instant(moment)}{_local(moment, parsed)}")


@schedule.command("list")
@click.option(
    "--hours", type=click.IntRange(1, 24 * 366), default=24, show_default=True, help="Hours to look ahead."
)
@click.option(
    "-n", "--count", type=click.IntRange(1, _MOST), default=200, show_default=True, help="Number of lines."
)
@data_dir_option
@json_option
def list_schedules(hours: int, count: int, data_dir: Path, as_json: bool) -> None:
    """List the pipelines that fire in the next day, the earliest first.

    \b
    Examples:
      imagesmith schedule list --data-dir ./data
      imagesmith schedule list --hours 168 --json --data-dir ./data

    Times are UTC; "runs" is how often a pipeline fires in that time. Reads the store, so no server needs to run.
    """
    settings = settings_of(data_dir)
    now = datetime.now(UTC)
    # imported late: `schedule next` is arithmetic, and needs no database
    from imagesmith.cli.store import opened_store
    from imagesmith.schedule.agenda import agenda

    with opened_store(settings) as tx:
        found = agenda(
            tx, settings.account, settings.region, now=now, until=now + timedelta(hours=hours), most=count
        )
    Listing(
        columns=("next run", "in", "runs", "pipeline", "starts", "expression", "zone"),
        rows=(
            (
                _instant(item.instants[0]), _distance(item.instants[0] - now), str(len(item.instants)), item.name,
                "always" if item.condition == "EXPRESSION_MATCH_ONLY" else "on updates", item.expression,
                item.timezone,
            )
            for item in found
        ),
        documents=[_appointment(item) for item in found],
        empty=f"no pipeline fires in the next {hours} hours",
    ).show(as_json=as_json)  # fmt: skip


def _appointment(item: Appointment) -> Mapping[str, Any]:
    return {
        "pipelineArn": item.pipeline_arn,
        "name": item.name,
        "scheduleExpression": item.expression,
        "timezone": item.timezone,
        "pipelineExecutionStartCondition": item.condition,
        "runs": [_instant(moment) for moment in item.instants],
    }


def _distance(span: timedelta) -> str:
    """`now`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes = math.ceil(span.total_seconds() / 60)
    if minutes <= 0:
        return "now"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _instant(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _local(moment: datetime, parsed: Schedule) -> str:
    """The same instant in the schedule's zone."""
    if not isinstance(parsed, Cron):
        return ""
    return moment.astimezone(parsed.zone).strftime("  %a %Y-%m-%d %H:%M %Z")


def _similar_zone(name: str) -> str:
    names = {zone.lower(): zone for zone in available_timezones()}
    similar = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    # `Factory` and `localtime` are in the list of zones, but not valid for a schedule.
    found = names[similar[0]] if similar else name
    return f". Did you mean {found}?" if found != name else ""
