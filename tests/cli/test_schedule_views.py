"""Commands that show what schedules did: `pipeline logs`, `event list`, and `parameter`, which they depend on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from imagesmith.cli.context import CommandFailed
from imagesmith.cli.event import event
from imagesmith.cli.parameter import parameter
from imagesmith.cli.pipeline import pipeline
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from testing.clock_support import ACCOUNT, NOON, OWN, REGION, Factory, SetClock

HOUR = timedelta(hours=1)


@pytest.fixture
def told(tmp_path: Path, now: SetClock) -> Iterator[Factory]:
    """A data directory whose pipeline `pipe` has run on two days and was disabled by its second failure."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.toml").write_text(f'account = "{ACCOUNT}"\nregion = "{REGION}"\n')
    database = Database(f"sqlite:///{data / 'imagesmith.sqlite'}")
    upgrade(database)
    factory = Factory(database, data, clock=now)
    factory.recipe()
    factory.infrastructure()
    factory.pipeline("cron(0 12 * * ? *)", failures=2)
    for day in (1, 2):
        (image,) = factory.tick_at(NOON + day * 24 * HOUR)
        factory.finish(image, "FAILED")
    yield factory
    database.close()


def run(factory: Factory, command: click.Command, *arguments: str) -> Result:
    arguments = (*arguments, "--data-dir", str(factory.settings.data_dir))
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_the_log_is_told_over_several_days(told: Factory) -> None:
    """Oldest first; -n counts from the end, across the files of the days; --json is an object a line."""
    lines = run(told, pipeline, "logs", "pipe").stdout.splitlines()
    assert [line.split(" ")[1] for line in lines] == ["tick", "run", "run"] * 2
    assert lines[0].startswith("2026-11-24T12:00:00.000Z tick | build: scheduled for 2026-11-24T12:00:00Z")
    assert run(told, pipeline, "logs", "pipe", "-n", "4").stdout.splitlines() == lines[-4:]
    last = json.loads(run(told, pipeline, "logs", "pipe", "-n", "1", "--json").stdout)
    assert last["stage"] == "run" and last["text"].endswith("the pipeline is disabled (limit 2)")


@pytest.mark.parametrize("name", ["nope", "arn:nonsense", f"{OWN}:image/pipe/1.0.0"])
def test_a_log_that_does_not_exist_is_a_sentence(told: Factory, name: str) -> None:
    """An unknown pipeline, a broken ARN, the ARN of something else."""
    with pytest.raises(CommandFailed, match=r"no log of a pipeline nope|not an ARN|not the ARN of a pipeline"):
        run(told, pipeline, "logs", name)


def test_the_event_of_the_disabling_is_listed(told: Factory) -> None:
    """In words, and with --json as the event bus would carry it."""
    shown = run(told, event, "list").stdout
    assert "Image Pipeline Automatically Disabled" in shown and "consecutive-failures 2" in shown
    assert "previous-state PENDING, state FAILED disk full" in shown
    details = [item["detail"] for item in json.loads(run(told, event, "list", "--json").stdout)]
    failed = {"previous-state": {"status": "PENDING"}, "state": {"status": "FAILED", "reason": "disk full"}}
    assert details.count({"consecutive-failures": "2"}) == 1 and details.count(failed) == 2 and len(details) == 3


def test_parameters_are_put_read_listed_and_deleted(told: Factory) -> None:
    """A value takes the place of the one before; what is not there is an error that names it."""
    assert run(told, parameter, "list").stdout == "no parameters yet\n"
    for value in ("ami-0123456789abcdef0", "ami-0fedcba9876543210"):
        assert run(told, parameter, "put", "/golden/debian-12", value).exit_code == 0
    assert run(told, parameter, "get", "/golden/debian-12").stdout == "ami-0fedcba9876543210\n"
    assert "/golden/debian-12" in run(told, parameter, "list").stdout
    (item,) = json.loads(run(told, parameter, "list", "--json").stdout)
    assert (item["name"], item["value"]) == ("/golden/debian-12", "ami-0fedcba9876543210")
    assert run(told, parameter, "delete", "/golden/debian-12").exit_code == 0
    for command in ("get", "delete"):
        with pytest.raises(CommandFailed, match="there is no parameter /golden/debian-12"):
            run(told, parameter, command, "/golden/debian-12")


@pytest.mark.parametrize(("name", "value"), [("a b", "x"), ("", "x"), ("a", ""), ("a", "x" * 4097), ("a", "x\n")])
def test_a_bad_parameter_is_refused(told: Factory, name: str, value: str) -> None:
    """Names of other characters, values that are empty, too long or not one printable line."""
    assert run(told, parameter, "put", name, value).exit_code == 2
    assert run(told, parameter, "list").stdout == "no parameters yet\n"
