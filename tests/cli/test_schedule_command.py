"""`imagesmith schedule next`: instants for machines, words and a caret for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result

from imagesmith.cli.schedule import schedule
from imagesmith.values.zone_data import zone_data


def run(*arguments: str) -> Result:
    return CliRunner().invoke(schedule, ["next", *arguments])


def test_json_is_a_list_of_utc_instants() -> None:
    """--json prints nothing but the list, with whole seconds and a Z; whose zones those are stands beside it."""
    result = run("cron(30 1 * * ? *)", "--timezone", "America/New_York", "-n", "3",
                 "--after", "2026-10-31T12:00Z", "--json")  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, f"time zones: {zone_data()}\n")
    assert json.loads(result.stdout) == ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z", "2026-11-03T06:30:00Z"]


def test_ten_times_from_now_unless_told_otherwise() -> None:
    """Without options ten times after this moment are listed, in UTC."""
    before = datetime.now(UTC)
    times = json.loads(run("cron(* * * * ? *)", "--json").stdout)
    assert len(times) == 10
    assert datetime.fromisoformat(times[0]) > before.replace(second=0, microsecond=0)


def test_people_get_words_and_local_time() -> None:
    """Without --json the rule is told in English and each time with the zone's clock."""
    result = run("cron(0 9 ? * mon *)", "--timezone", "Europe/Berlin", "--after", "2026-03-24", "-n", "1")
    assert result.stdout.splitlines() == [
        "At 09:00 on Monday (Europe/Berlin time).",
        "  2026-03-30T07:00:00Z  Mon 2026-03-30 09:00 CEST",
    ]


def test_a_rate_counts_from_after_or_from_its_anchor() -> None:
    """The anchor of a rate is the time of --after unless one is given; offsets of times are respected."""
    plain = run("rate(12 hours)", "--after", "2026-01-01T00:00+01:00", "-n", "2", "--json")
    anchored = run("rate(12 hours)", "--after", "2026-01-01", "--anchor", "2025-12-31T20:30Z", "-n", "1")
    assert json.loads(plain.stdout) == ["2026-01-01T11:00:00Z", "2026-01-01T23:00:00Z"]
    assert anchored.stdout.splitlines() == [
        "Every 12 hours, counted from the moment the schedule was created or last changed.",
        "  2026-01-01T08:30:00Z",
    ]


def test_the_time_zone_database_is_named_beside_the_answer() -> None:
    """Source and version, where a zone has a say; which of two copies is not used."""
    words = ("cron(0 12 15 12 ? 2026)", "--timezone", "America/Vancouver", "--after", "2026-11-01")
    for result in (run(*words), run(*words, "--json")):
        assert "2026-12-15T19:00:00Z" in result.stdout
        told = result.stderr.splitlines()
        assert told[0] == "hint: it never fires again: 2026 is its last year, and no times remain in it"
        assert told[1] == f"time zones: {zone_data()}" and zone_data().used.version in told[1]
    assert json.loads(result.stdout) == ["2026-12-15T19:00:00Z"]
    assert run("cron(0 12 15 12 ? *)", "--after", "2026-11-01").stderr == ""


def test_a_schedule_that_is_over_lists_nothing() -> None:
    """An expression that never fires again is no error: an empty list, or a sentence."""
    assert json.loads(run("cron(0 0 1 1 ? 2020)", "--after", "2026-01-01", "--json").stdout) == []
    result = run("cron(0 0 30 2 ? *)", "--after", "2026-01-01")
    assert result.exit_code == 0
    assert result.stderr == "hint: it never fires: no date fits its day, month and year together\n"
    assert result.stdout.splitlines()[1] == "No time after 2026-01-01T00:00:00Z."


@pytest.mark.parametrize(
    ("expression", "text", "column"),
    [
        ("cron(60 0 * * ? *)", "Minute values must be between 0 and 59", 5),
        ("cron(0 0 * * *)", "Unexpected end of expression", 14),
        ("cron(0 0 ? * tue#6 *)", "A numeric value between 1 and 5 must follow the '#' option", 16),
        ("cron(0\t0 * * ? *)", "Unexpected character: \t", 6),
        ("cron(0\n0 * * ? *)", "Unexpected character: \n", 6),
        ("rate(5 hour)", "The unit must be 'hours' when the value is 5", 7),
        ("0 0 * * ? *", "The expression must be a cron or rate expression", 0),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_bad_expression_gets_a_caret(expression: str, text: str, column: int, options: list[str]) -> None:
    """The error names the fault, shows the expression with a caret under the place, and exits with 2."""
    result = run(expression, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    complaint, shown, caret, hint = result.stderr.splitlines()
    assert complaint == f"error: {text}".replace("\t", "?").replace("\n", "?")
    assert shown == f"  {expression}".replace("\t", "?").replace("\n", "?")
    assert caret.index("^") == column + 2
    assert hint.startswith("hint: ")


def test_the_lenient_switch_is_an_option() -> None:
    """--lenient reads five fields."""
    assert run("cron(0 0 * * SUN)").exit_code == 2
    result = run("cron(0 0 * * SUN)", "--lenient", "--after", "2026-01-01", "-n", "1", "--json")
    assert json.loads(result.stdout) == ["2026-01-04T00:00:00Z"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cron(0 0 * * ? *)", "--timezone", "Europe/Belrin"], "Did you mean Europe/Berlin?"),
        (["cron(0 0 * * ? *)", "--timezone", "Mars"], "'Mars' is not a time zone"),
        (["cron(0 0 * * ? *)", "--after", "tomorrow"], "'tomorrow' is not a time"),
        (["cron(0 0 * * ? *)", "--after", "0001-01-01T00:00+14:00"], "is not a time"),
        (["cron(0 0 * * ? *)", "-n", "0"], "0 is not in the range"),
        (["cron(0 0 * * ? *)", "-n", "99999"], "99999 is not in the range"),
    ],
)
def test_a_bad_option_is_told(arguments: list[str], told: str) -> None:
    """A wrong zone, time or count exits with 2 and says what to write."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def test_help_shows_examples() -> None:
    """The help of the command holds expressions that can be pasted."""
    result = run("--help")
    assert result.exit_code == 0
    assert "imagesmith schedule next 'cron(0 12 LW * ? *)' --after 2026-01-01T00:00Z --json" in result.stdout


@pytest.mark.parametrize("name", ["Factory", "localtime"])
def test_a_zone_that_is_refused_is_not_what_was_meant(name: str) -> None:
    """The answer never asks for the very name that it refuses."""
    result = run("cron(0 0 * * ? *)", "--timezone", name)
    assert result.exit_code == 2
    assert f"Did you mean {name}?" not in result.stderr
