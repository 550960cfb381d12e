"""Which copy of the time zone database counts: the newest, whatever zoneinfo would take."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import tzdata

from imagesmith.values.endings import why_over
from imagesmith.values.recurrence import UnknownZone
from imagesmith.values.schedule import parse_schedule
from imagesmith.values.zone_data import Copy, choose, system_copy, zone_data
from imagesmith.values.zones import zone_named

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
ASK = """
from datetime import UTC, datetime
from imagesmith.values.schedule import parse_schedule
from imagesmith.values.zone_data import zone_data
found = parse_schedule("cron(0 12 15 12 ? 2026)", "America/Vancouver").next_after(datetime(2026, 11, 1, tzinfo=UTC))
print(found.isoformat(), zone_data().used.version or "-", zone_data().packaged)
"""


def rules_of(name: str) -> bytes:
    return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


def system(folder: Path, stamp: str, *, file: str = "tzdata.zi", rules: str = "Etc/GMT+1") -> Path:
    """A zone database in which Vancouver has the rules of another zone: noon there is 13:00 UTC."""
    place = folder / "America" / "Vancouver"
    place.parent.mkdir(parents=True)
    place.write_bytes(rules_of(rules))
    if stamp:
        (folder / file).write_text(stamp)
    return folder


def asked(path: str) -> str:
    """What a new process says, whose system copy is in the folder `path`."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, "PYTHONTZPATH": path}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_vancouver_stays_on_daylight_time() -> None:
    """By the rules of 2026 noon of 15 December is 19:00 UTC, however old the system's copy is."""
    schedule = parse_schedule("cron(0 12 15 12 ? 2026)", "America/Vancouver")
    assert schedule.next_after(NOW) == datetime(2026, 12, 15, 19, 0, tzinfo=UTC)


PACKAGE = f"2026-12-15T19:00:00+00:00 {tzdata.IANA_VERSION} True"


@pytest.mark.parametrize(
    ("stamp", "file", "expected"),
    [
        ("# version 2025b\n# ddeps backzone\n", "tzdata.zi", PACKAGE),
        ("2020a\n", "+VERSION", PACKAGE),
        ("# version 2099a\n", "tzdata.zi", "2026-12-15T13:00:00+00:00 2099a False"),
        ("2099b\n", "version", "2026-12-15T13:00:00+00:00 2099b False"),
        (tzdata.IANA_VERSION, "version", f"2026-12-15T13:00:00+00:00 {tzdata.IANA_VERSION} False"),
        ("", "", "2026-12-15T13:00:00+00:00 - False"),
        ("# version unknown\n", "tzdata.zi", "2026-12-15T13:00:00+00:00 - False"),
    ],
)
def test_a_process_takes_the_newest(tmp_path: Path, stamp: str, file: str, expected: str) -> None:
    """A folder that somebody chose counts without a version, and does not where an older one stands in it."""
    assert asked(str(system(tmp_path / "zones", stamp, file=file))) == expected


def test_without_a_system_copy_there_is_the_package(tmp_path: Path) -> None:
    """An empty search path, and one of folders that do not exist; the first that exists is looked at."""
    assert asked("") == asked(str(tmp_path / "missing")) == PACKAGE
    new = system(tmp_path / "new", "# version 2099a\n")
    assert asked(f"{tmp_path / 'missing'}{os.pathsep}{new}") == "2026-12-15T13:00:00+00:00 2099a False"


def test_variants_of_a_database_have_its_version(tmp_path: Path) -> None:
    """`posix` and `right` stand inside the folder that says it."""
    (tmp_path / "tzdata.zi").write_text("# version 2031c\n")
    for name in ("posix", "right"):
        (tmp_path / name).mkdir()
        assert system_copy([str(tmp_path / name)]) == Copy(str(tmp_path / name), "2031c")
    assert system_copy([str(tmp_path / "none")]) is None


VERSIONS = ["", "2025b", "2025z", "2025za", "2026a", "2026f"]


@pytest.mark.parametrize(("one", "other"), list(itertools.product(VERSIONS, VERSIONS)))
def test_the_later_version_counts(one: str, other: str) -> None:
    """Letters after z are two; what says no version is older, but where its folder was chosen."""
    found = choose(Copy("system", one), Copy("package", other), chosen=False)
    older = not one or VERSIONS.index(one) < VERSIONS.index(other)
    assert found.packaged is older and found.used.source == ("package" if older else "system")
    assert choose(Copy("system", ""), Copy("package", other), chosen=True).packaged is False
    assert choose(None, Copy("package", other), chosen=False).packaged
    assert not choose(Copy("system", one), None, chosen=False).packaged


def test_zones_are_those_of_the_copy_in_use() -> None:
    """Every zone is told by the rules of that copy, has its name, and is the same at every look."""
    names = set(resources.files("tzdata").joinpath("zones").read_text().split()) - {"Factory"}
    assert len(names) > 500
    for name in names:
        with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
            expected = ZoneInfo.from_file(file) if zone_data().packaged else ZoneInfo(name)
        zone = zone_named(name)
        assert zone is zone_named(name) and zone.key == name
        moments = [NOW + timedelta(days=30 * month) for month in range(24)]
        assert [moment.astimezone(zone).utcoffset() for moment in moments] == [
            moment.astimezone(expected).utcoffset() for moment in moments
        ]


@pytest.mark.parametrize("name", ["leapseconds", "America", "zone.tab", "No/Such", "__init__", "tzdata.zi"])
def test_other_files_of_the_package_are_no_zones(name: str) -> None:
    """One answer for all, as for names that neither copy has."""
    with pytest.raises(UnknownZone):
        zone_named(name)


def test_a_zone_that_the_package_lacks_is_looked_for_in_the_system(tmp_path: Path) -> None:
    """As zoneinfo does it the other way round."""
    old = system(tmp_path / "old", "# version 2020a\n")
    (old / "Own").mkdir()
    (old / "Own" / "Zone").write_bytes(rules_of("Etc/GMT+3"))
    zoneinfo.reset_tzpath(to=[str(old)])
    ZoneInfo.clear_cache()
    try:
        assert zone_named("Own/Zone").utcoffset(datetime(2026, 1, 1)) == timedelta(hours=-3)
        assert zone_named("America/Vancouver").utcoffset(datetime(2026, 1, 1)) != timedelta(hours=-1)
    finally:
        zoneinfo.reset_tzpath()
        ZoneInfo.clear_cache()


@pytest.mark.parametrize(
    ("expression", "zone", "reason"),
    [
        ("cron(0 0 30 2 ? *)", "UTC", "it never fires: no date fits"),
        ("cron(0 0 31 apr,jun ? *)", "UTC", "it never fires: no date fits"),
        ("cron(0 0 29 2 ? 2027)", "UTC", "it never fires: no date fits"),
        ("cron(0 0 1 1 ? 2020)", "UTC", "it never fires again: 2020 is its last year"),
        ("cron(0 0 1 1 ? 2019,2026)", "UTC", "it never fires again: 2026 is its last year"),
        ("cron(30 2 ? 3 sunL 2027)", "Europe/Berlin", "it never fires again: the clocks of Europe/Berlin skip"),
        ("cron(0 0 1 1 ? 2027)", "UTC", ""),
        ("cron(0 0 29 2 ? *)", "UTC", ""),
        ("cron(* * * * ? *)", "Europe/Berlin", ""),
        ("rate(1 day)", "UTC", ""),
        ("rate(1000000000 days)", "UTC", "it never fires: its first time is after the year 9999"),
    ],
)
def test_a_schedule_that_is_over_says_why(expression: str, zone: str, reason: str) -> None:
    """A day that no month has, years that passed, times that clocks skip, a period longer than the calendar."""
    told = why_over(parse_schedule(expression, zone), NOW)
    assert told.startswith(reason) and bool(told) is bool(reason)
