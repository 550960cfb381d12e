"""A zone database that is really another one after a restart: the files of a zone are those of a new release."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

from testing.clock_support import Factory, MakeFactory

Install = Callable[[str, str], None]


@pytest.fixture
def install_rules(tmp_path: Path) -> Iterator[Install]:
    """Let a zone have the rules of another one from now on, as an upgrade of the package does."""

    def install(zone: str, rules: str) -> None:
        place = tmp_path / "zoneinfo" / zone
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(resources.files("tzdata").joinpath("zoneinfo", *rules.split("/")).read_bytes())
        zoneinfo.reset_tzpath(to=[str(tmp_path / "zoneinfo")])
        zoneinfo.ZoneInfo.clear_cache()

    yield install
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.fixture
def berlin(factory: Factory) -> str:
    """A pipeline that fires at nine in Berlin; by the rules of today that is 08:00 UTC."""
    arn = factory.pipeline("cron(0 9 * * ? *)", zone="Europe/Berlin")
    assert factory.next_run(arn) == "2026-11-24T08:00:00.000Z"
    return arn


def restarted(make_factory: MakeFactory, now: datetime) -> Factory:
    """Another server on the same database, which has done what a start does first."""
    factory = make_factory()
    factory.clock.now = now  # type: ignore[attr-defined]
    factory.scheduler.recompute()
    return factory


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def test_a_zone_that_moved_west_fires_later(make_factory: MakeFactory, berlin: str, install_rules: Install) -> None:
    """Nine in Berlin is now 09:00 UTC: nothing at 08:00, once at 09:00, and so on."""
    install_rules("Europe/Berlin", "Europe/London")
    server = restarted(make_factory, at(24, 7))
    assert server.next_run(berlin) == "2026-11-24T09:00:00.000Z"
    assert server.tick_at(at(24, 8)) == []
    assert len(server.tick_at(at(24, 9))) == 1
    assert server.next_run(berlin) == "2026-11-25T09:00:00.000Z"


def test_a_zone_that_moved_east_fires_earlier(
    make_factory: MakeFactory, berlin: str, install_rules: Install
) -> None:
    """Nine in Berlin is now 03:30 UTC: a server that starts a quarter of an hour later still runs it, once."""
    install_rules("Europe/Berlin", "Asia/Kolkata")
    server = restarted(make_factory, at(24, 3, 45))
    assert len(server.tick_at(at(24, 3, 45))) == 1
    assert [instant for instant, _ in server.runs(berlin)] == [at(24, 3, 30)]
    assert server.tick_at(at(24, 8)) == []
    assert server.next_run(berlin) == "2026-11-25T03:30:00.000Z"


def test_what_new_rules_place_before_the_grace_is_skipped(
    make_factory: MakeFactory, berlin: str, install_rules: Install
) -> None:
    """At seven the instant of 03:30 is too old to be caught up; the log says so."""
    install_rules("Europe/Berlin", "Asia/Kolkata")
    server = restarted(make_factory, at(24, 7))
    assert server.tick_at(at(24, 7)) == []
    assert "missed the tick of 2026-11-24T03:30:00Z by 3 h 30 min" in server.log(berlin)
    assert server.next_run(berlin) == "2026-11-25T03:30:00.000Z"


def test_rules_that_change_back_run_nothing_twice(
    make_factory: MakeFactory, berlin: str, install_rules: Install
) -> None:
    """An instant that ran by the new rules stays run when the old ones are installed again."""
    install_rules("Europe/Berlin", "Asia/Kolkata")
    server = restarted(make_factory, at(24, 3, 30))
    assert len(server.tick_at(at(24, 3, 30))) == 1
    install_rules("Europe/Berlin", "Europe/Berlin")
    server = restarted(make_factory, at(24, 3, 30) + timedelta(minutes=5))
    assert server.next_run(berlin) == "2026-11-24T08:00:00.000Z"
    assert server.tick_at(at(24, 3, 40)) == []
    assert len(server.tick_at(at(24, 8))) == 1


def zones_like(folder: Path, version: str, rules: str) -> str:
    """A database in which Berlin has the rules of another zone, as the copy of a system has them."""
    place = folder / "Europe" / "Berlin"
    place.parent.mkdir(parents=True)
    place.write_bytes(resources.files("tzdata").joinpath("zoneinfo", *rules.split("/")).read_bytes())
    (folder / "tzdata.zi").write_text(f"# version {version}\n")
    zoneinfo.reset_tzpath(to=[str(folder)])
    zoneinfo.ZoneInfo.clear_cache()
    return str(folder)


@pytest.mark.usefixtures("install_rules")
def test_a_newer_copy_of_the_system_arms_anew_and_an_older_one_does_not(
    make_factory: MakeFactory, berlin: str, tmp_path: Path
) -> None:
    """At the start after the upgrade; where the system's copy is older than the package, nothing moves."""
    zones_like(tmp_path / "old", "2020a", "Europe/London")
    assert restarted(make_factory, at(24, 7)).next_run(berlin) == "2026-11-24T08:00:00.000Z"
    zones_like(tmp_path / "new", "2099a", "Europe/London")
    assert restarted(make_factory, at(24, 7)).next_run(berlin) == "2026-11-24T09:00:00.000Z"


@pytest.mark.usefixtures("install_rules")
def test_a_server_says_that_newer_zones_were_installed_while_it_ran(
    make_factory: MakeFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once an hour: it fires by those that it began with until it is restarted."""
    folder = zones_like(tmp_path / "zones", "2020a", "Europe/London")
    server = restarted(make_factory, at(24, 7))
    server.tick_at(at(24, 7))
    assert "is installed" not in caplog.text
    (Path(folder) / "tzdata.zi").write_text("# version 2099a\n")
    server.tick_at(at(24, 7, 30))
    assert "is installed" not in caplog.text
    server.tick_at(at(24, 8))
    assert f"2099a of {folder} is installed: restart this server" in caplog.text


def test_a_pipeline_is_armed_by_the_rules_of_this_year(factory: Factory) -> None:
    """Vancouver keeps daylight time in the winter of 2026: copies older than that say 20:00 UTC."""
    arn = factory.pipeline("cron(0 12 15 12 ? 2026)", zone="America/Vancouver")
    assert factory.next_run(arn) == "2026-12-15T19:00:00.000Z"
