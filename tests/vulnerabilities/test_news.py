"""New advisories and images that were built before: one event for each image, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.osv import read_osv
from imagesmith.store import inventories, queries
from imagesmith.store.database import Database
from imagesmith.store.events import newest_events
from imagesmith.store.findings import put_findings
from imagesmith.store.vex import VexStatement, VexStatus, put_statements, remove_statement
from imagesmith.vulnerabilities import news as news_module
from imagesmith.vulnerabilities.news import News, match_new_advisories
from testing.advisories import advisory
from testing.fleet import ACCOUNT, NOW, REGION, SCOPE, deb, image_arn, pipeline_arn, put_image

FIRST = "CVE-2026-0001"
LATER = datetime(2026, 11, 29, tzinfo=UTC)


def bring(advisories: AdvisoryDatabase, *documents: dict[str, Any], source: str = "test") -> None:
    records = [item for document in documents if (item := read_osv(document)) is not None]
    advisories.replace(source, records, NOW)


def about(id: str, name: str = "bash", fixed: str = "6", severity: str = "HIGH", **more: Any) -> dict[str, Any]:
    found = advisory("Debian:12", name, fixed, database_specific={"severity": severity})
    return {**found, "id": id, **more}


def update(advisories: AdvisoryDatabase, database: Database) -> dict[str, list[str]]:
    """Image -> its news."""
    found: News = match_new_advisories(advisories, database, lambda: LATER)
    return {item.image_arn: sorted(item.vulnerabilities) for item in found.images}


def events(database: Database) -> list[tuple[str, tuple[str, ...], dict[str, Any]]]:
    with database.read() as tx:
        found = newest_events(tx, ACCOUNT, REGION, 100)
    return [(item.detail_type, item.resources, dict(item.detail)) for item in found]


def test_an_image_that_is_newly_affected_has_one_event(advisories: AdvisoryDatabase, database: Database) -> None:
    """It has the resources and counts of AWS's event, and names the vulnerabilities, worst first."""
    put_image(database, "web", [deb("bash", "5"), deb("curl", "8")])
    put_image(database, "safe", [deb("bash", "7")])
    bring(
        advisories,
        about("CVE-2026-0001"),
        about("CVE-2026-0002", "curl", "9", "CRITICAL"),
        about("CVE-2026-0003", "zip"),
    )
    assert update(advisories, database) == {image_arn("web"): ["CVE-2026-0001", "CVE-2026-0002"]}
    assert events(database) == [
        (
            "EC2 Image Builder CVE Detected",
            (image_arn("web"), pipeline_arn("web")),
            {
                "resource-id": image_arn("web"),
                "finding-severity-counts": {"all": 2, "critical": 1, "high": 1, "medium": 0},
                "vulnerability-ids": ["CVE-2026-0002", "CVE-2026-0001"],
            },
        )
    ]
    assert update(advisories, database) == {}
    assert len(events(database)) == 1


REPEATED: tuple[tuple[str, Callable[[AdvisoryDatabase], None], dict[str, list[str]]], ...] = (
    ("the same feed", lambda a: bring(a, about("CVE-2026-0001")), {}),
    ("another description", lambda a: bring(a, about("CVE-2026-0001", details="more words")), {}),
    ("the same in another feed", lambda a: bring(a, about("CVE-2026-0001"), source="other"), {}),
    ("a wider range", lambda a: bring(a, about(FIRST, fixed="7")), {image_arn("late"): [FIRST]}),
    (
        "one more record",
        lambda a: bring(a, about("CVE-2026-0001"), about("CVE-2026-0009")),
        {image_arn("web"): ["CVE-2026-0009"]},
    ),
    (
        "the withdrawal of it",
        lambda a: bring(a, {"id": FIRST, "modified": "2026-02-01", "withdrawn": "2026-02-01"}, about("X", "zip")),
        {},
    ),
)  # fmt: skip


@pytest.mark.parametrize(("again", "expected"), [row[1:] for row in REPEATED], ids=[row[0] for row in REPEATED])
def test_only_what_is_new_is_news(
    again: Callable[[AdvisoryDatabase], None],
    expected: dict[str, list[str]],
    advisories: AdvisoryDatabase,
    sqlite_database: Database,
) -> None:
    """An import replaces every record of its source; what a comparison reads decides."""
    put_image(sqlite_database, "web", [deb("bash", "5")])
    put_image(sqlite_database, "late", [deb("bash", "6")])
    bring(advisories, about("CVE-2026-0001"))
    assert update(advisories, sqlite_database) == {image_arn("web"): ["CVE-2026-0001"]}
    again(advisories)
    assert update(advisories, sqlite_database) == expected


@pytest.mark.parametrize("status", ["DELETED", "FAILED", "CANCELLED"])
def test_what_cannot_run_has_no_news(status: str, advisories: AdvisoryDatabase, sqlite_database: Database) -> None:
    """Images that failed or were deleted are on no machine."""
    put_image(sqlite_database, "web", [deb("bash", "5")], status=status)
    bring(advisories, about("CVE-2026-0001"))
    assert update(advisories, sqlite_database) == {} and events(sqlite_database) == []


def test_what_the_scan_of_a_build_found_is_no_news(advisories: AdvisoryDatabase, sqlite_database: Database) -> None:
    """The finding was announced with the build."""
    put_image(sqlite_database, "web", [deb("bash", "5")])
    with sqlite_database.write(SCOPE) as tx:
        finding = {"vulnerability_id": "CVE-2026-0001", "severity": "HIGH"}
        put_findings(
            tx, image_arn("web"), "", account=ACCOUNT, region=REGION, observed=NOW, documents=[finding]
        )  # fmt: skip
    bring(advisories, about("CVE-2026-0001"), about("CVE-2026-0002"))
    assert update(advisories, sqlite_database) == {image_arn("web"): ["CVE-2026-0002"]}


def states(database: Database, *about: str, status: VexStatus = VexStatus.NOT_AFFECTED, name: str = FIRST) -> None:
    """Store a verdict about each of these packages in all images."""
    items = [
        VexStatement(
            id=package, vulnerability=name, product="*", package=package, status=status, impact="unused",
            author="ann", stated=NOW,
        )
        for package in about
    ]  # fmt: skip
    with database.write(SCOPE) as tx:
        put_statements(tx, ACCOUNT, REGION, items)


BASH, STATIC = "pkg:deb/debian/bash", "pkg:deb/debian/bash-static"
SETTLED: tuple[tuple[str, tuple[str, ...], VexStatus, str, list[str]], ...] = (
    ("every package", (BASH, STATIC), VexStatus.NOT_AFFECTED, FIRST, ["CVE-2026-0002"]),
    ("every package, fixed", (BASH, STATIC), VexStatus.FIXED, FIRST, ["CVE-2026-0002"]),
    ("one of two packages", (BASH,), VexStatus.NOT_AFFECTED, FIRST, [FIRST, "CVE-2026-0002"]),
    ("another vulnerability", (BASH, STATIC), VexStatus.NOT_AFFECTED, "CVE-2026-9", [FIRST, "CVE-2026-0002"]),
    ("a verdict that settles nothing", (BASH, STATIC), VexStatus.AFFECTED, FIRST, [FIRST, "CVE-2026-0002"]),
)


@pytest.mark.parametrize(
    ("packages", "status", "name", "expected"), [row[1:] for row in SETTLED], ids=[row[0] for row in SETTLED]
)
def test_what_a_verdict_settles_is_no_news(
    packages: tuple[str, ...],
    status: VexStatus,
    name: str,
    expected: list[str],
    advisories: AdvisoryDatabase,
    database: Database,
) -> None:
    """No event names it and nothing is built again; a verdict about one package of two is not enough."""
    put_image(database, "web", [deb("bash", "5"), deb("bash-static", "5", "bash"), deb("curl", "8")])
    states(database, *packages, status=status, name=name)
    bring(advisories, about(FIRST), about("CVE-2026-0002", "curl", "9"))
    assert update(advisories, database) == {image_arn("web"): expected}
    assert [detail["vulnerability-ids"] for _, _, detail in events(database)] == [expected]
    assert update(advisories, database) == {}


def test_an_image_in_which_all_is_settled_has_no_event(
    advisories: AdvisoryDatabase, sqlite_database: Database
) -> None:
    """That it is affected is stored: it is no news after the verdict was removed either."""
    put_image(sqlite_database, "web", [deb("bash", "5")])
    states(sqlite_database, BASH)
    bring(advisories, about(FIRST))
    assert update(advisories, sqlite_database) == {} and events(sqlite_database) == []
    with sqlite_database.write(SCOPE) as tx:
        number = inventories.inventory_number(tx, image_arn("web"))
        assert number is not None and inventories.exposures_of(tx, [number]) == {(number, FIRST)}
        assert remove_statement(tx, ACCOUNT, REGION, BASH)
    bring(advisories, about(FIRST, severity="LOW"))
    assert update(advisories, sqlite_database) == {}


def test_a_killed_update_is_continued_and_announces_nothing_twice(
    advisories: AdvisoryDatabase, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after the first of two transactions: the next update has the other image alone."""
    monkeypatch.setattr(news_module, "_IMAGES", 1)
    for name in ("a", "b"):
        put_image(sqlite_database, name, [deb("bash", "5")])
    bring(advisories, about("CVE-2026-0001"))
    times = iter([LATER])
    with pytest.raises(StopIteration):
        match_new_advisories(advisories, sqlite_database, lambda: next(times))
    assert [resources[0] for _, resources, _ in events(sqlite_database)] == [image_arn("a")]
    assert update(advisories, sqlite_database) == {image_arn("b"): ["CVE-2026-0001"]}
    assert len(events(sqlite_database)) == 2


def test_an_import_during_an_update_is_not_taken_as_compared(
    advisories: AdvisoryDatabase, sqlite_database: Database
) -> None:
    """The numbers of records are used again by the next import of a source."""
    put_image(sqlite_database, "web", [deb("bash", "5")])
    bring(advisories, about("CVE-2026-0001", "zip"))
    with advisories.reader() as reader:
        compared = reader.unmatched(10)
    bring(advisories, about("CVE-2026-0002"))
    advisories.mark_matched(compared)
    assert update(advisories, sqlite_database) == {image_arn("web"): ["CVE-2026-0002"]}


def test_an_image_without_a_known_system_is_counted(
    advisories: AdvisoryDatabase, sqlite_database: Database
) -> None:
    """The update says that it was not compared; one without packages is none."""
    put_image(sqlite_database, "web", [deb("bash", "5")], system=None)
    put_image(sqlite_database, "scratch", [], system=None)
    bring(advisories, about("CVE-2026-0001"))
    found = match_new_advisories(advisories, sqlite_database, lambda: LATER)
    assert (found.unknown, found.images) == (1, [])
    with sqlite_database.write(SCOPE) as tx:
        queries.delete(tx, image_arn("web"))
    assert match_new_advisories(advisories, sqlite_database, lambda: LATER).unknown == 0
