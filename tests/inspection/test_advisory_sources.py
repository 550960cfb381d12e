"""One document from several sources: the last modified counts, also one that withdraws, whatever came first."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.advisories import Advisory, AdvisoryRecord, Affected, instant
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.feeds import import_advisories
from imagesmith.inspection.scanning.findings import Finding
from imagesmith.inspection.scanning.osv import read_osv
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.processes import Cancellation
from testing.advisories import NOW
from testing.scan_samples import GHSA

SYSTEM = OsRelease()
OTHER = {**GHSA, "id": "GHSA-other", "aliases": []}


def jinja(version: str = "3.1.2") -> Package:
    return Package("Jinja2", version, "", "Jinja2", kind="pypi", location="srv/Jinja2.dist-info/METADATA")


def scan(database: AdvisoryDatabase, package: Package | None = None) -> tuple[Finding, ...]:
    target = ScanTarget(Inventory(SYSTEM, (package or jinja(),)), Path("/nowhere"))
    return EmbeddedScanner(database).scan(target, Cancellation()).findings


def imported(folder: Path, *sources: tuple[str, list[dict[str, Any]]]) -> AdvisoryDatabase:
    database = AdvisoryDatabase(folder / "data")
    for name, documents in sources:
        (folder / name).write_text(json.dumps(documents))
        import_advisories(database, str(folder / name), NOW, on_line=lambda _: None)
    return database


def fixed_in(version: str, modified: str, **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": version}]
    affected = [{**GHSA["affected"][0], "ranges": [{"type": "ECOSYSTEM", "events": events}], "versions": []}]
    return {**GHSA, "affected": affected, "modified": modified, **more}


WITHDRAWN = fixed_in("3.1.3", "2026-05-01T00:00:00Z", withdrawn="2026-05-01T00:00:00Z")


@pytest.mark.parametrize("first", [True, False])
def test_a_withdrawn_advisory_of_another_source_is_gone(tmp_path: Path, *, first: bool) -> None:
    """Alone in a file, imported before or after what it withdraws."""
    sources = [("a.json", [fixed_in("3.1.3", "2026-01-01T00:00:00Z"), OTHER]), ("b.json", [WITHDRAWN])]
    database = imported(tmp_path, *(reversed(sources) if first else sources))
    assert [item.vulnerability_id for item in scan(database)] == ["GHSA-other"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "withdrawn",
    [
        fixed_in("3.1.3", "2026-01-01T00:00:00Z", withdrawn="2026-01-01T00:00:00Z"),
        fixed_in("3.1.3", "2026-01-01T00:00:00Z", withdrawn="2025-01-01T00:00:00Z"),
        fixed_in("3.1.3", "2025-06-01T00:00:00Z", withdrawn="2026-05-01T00:00:00Z"),
        {"id": GHSA["id"], "withdrawn": "2026-05-01T00:00:00Z"},
    ],
)
def test_a_withdrawal_counts_from_its_own_instant(
    tmp_path: Path, withdrawn: dict[str, Any], *, first: bool
) -> None:
    """Also of a document that was not modified after what it withdraws, or that does not say when it was."""
    sources = [("a.json", [fixed_in("3.1.3", "2026-01-01T00:00:00Z"), OTHER]), ("b.json", [withdrawn])]
    database = imported(tmp_path, *(reversed(sources) if first else sources))
    assert [item.vulnerability_id for item in scan(database)] == ["GHSA-other"]


def test_an_advisory_that_is_modified_after_its_withdrawal_holds_again(tmp_path: Path) -> None:
    """The later document says so; and importing the source again without the withdrawal brings the old one back."""
    old, new = fixed_in("3.1.3", "2026-01-01T00:00:00Z"), fixed_in("3.1.4", "2026-06-01T00:00:00Z")
    database = imported(tmp_path, ("a.json", [old]), ("b.json", [WITHDRAWN]), ("c.json", [new]))
    assert [item.packages[0].fixed_version for item in scan(database)] == ["3.1.4"]
    database = imported(tmp_path, ("c.json", [OTHER]))
    assert [item.vulnerability_id for item in scan(database)] == ["GHSA-other"]
    database = imported(tmp_path, ("b.json", [OTHER]))
    assert [item.packages[0].fixed_version for item in scan(database, jinja())] == ["3.1.3", "3.1.3"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_last_modified_counts_in_every_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Instants are compared as instants: a fraction of a second, an offset, and none at all."""
    documents = [
        fixed_in("3.0.0", "2026-03-01T12:00:00Z"),
        fixed_in("3.1.3", "2026-03-01T12:00:00.5Z"),
        fixed_in("3.2.0", "2026-03-01T13:00:00+02:00"),
    ]
    database = imported(tmp_path, *((f"{number}.json", [documents[number]]) for number in order))
    assert [item.packages[0].fixed_version for item in scan(database)] == ["3.1.3"]


def test_a_document_twice_in_one_source_counts_once(tmp_path: Path) -> None:
    """Such as in a folder with an old and a new archive."""
    old, new = fixed_in("3.1.9", "2026-01-01T00:00:00Z"), fixed_in("3.1.3", "2026-02-01T00:00:00Z")
    database = imported(tmp_path, ("a.json", [new, old]))
    assert [item.packages[0].fixed_version for item in scan(database)] == ["3.1.3"]


def test_a_later_document_that_names_no_package_ends_an_older_one(tmp_path: Path) -> None:
    """It says that none is affected; one without a date says nothing."""
    old = fixed_in("3.1.3", "2026-01-01T00:00:00Z")
    empty = {"id": old["id"], "affected": []}
    database = imported(tmp_path, ("a.json", [old, OTHER]), ("b.json", [empty, OTHER]))
    assert len(scan(database)) == 2
    database = imported(tmp_path, ("b.json", [{**empty, "modified": "2026-02-01T00:00:00Z"}, OTHER]))
    assert [item.vulnerability_id for item in scan(database)] == ["GHSA-other"]


def test_only_what_withdraws_or_warns_is_worth_an_import(tmp_path: Path) -> None:
    """A file of withdrawals is one; a file that names no package is refused, and says what to give."""
    (tmp_path / "a.json").write_text(json.dumps([WITHDRAWN]))
    (tmp_path / "b.json").write_text(json.dumps([{"id": "X-1", "modified": "2026-02-01T00:00:00Z"}]))
    database = AdvisoryDatabase(tmp_path / "data")
    done = import_advisories(database, str(tmp_path / "a.json"), NOW, on_line=lambda _: None)
    assert (done.advisories, done.skipped, done.withdrawn) == (0, 1, 1)
    with pytest.raises(AdvisoriesError, match="contains no advisories"):
        import_advisories(database, str(tmp_path / "b.json"), NOW, on_line=lambda _: None)


@pytest.mark.parametrize(
    ("installed", "listed", "hit"),
    [
        ("1.0", ["1.0.0"], True), ("1.0.0", ["1"], True), ("1.0rc1", ["1.0.rc1"], True), ("1.0", ["1.0.1"], False),
        ("1.0", ["v1.0"], True), ("1.0", ["1.0.post1", "nonsense"], False), ("weird", ["weird"], True),
        ("weird", ["other"], False),
    ],
)  # fmt: skip
def test_listed_versions_are_compared_as_versions(
    tmp_path: Path, installed: str, listed: list[str], *, hit: bool
) -> None:
    """Python writes one version in several ways; a text that is no version is only itself."""
    affected = [{"package": {"ecosystem": "PyPI", "name": "jinja2"}, "versions": listed}]
    database = imported(tmp_path, ("a.json", [{**GHSA, "affected": affected}]))
    assert bool(scan(database, jinja(installed))) is hit


@pytest.mark.parametrize(
    ("members", "ecosystem", "name"),
    [
        ({"related": ["CVE-2024-22195"]}, "AlmaLinux:9", "CVE-2024-22195"),
        ({"related": ["CVE-2024-22195", "ALSA-2024:1"]}, "AlmaLinux:9", "CVE-2024-22195"),
        ({"related": ["CVE-2024-22195", "CVE-2024-22196"]}, "AlmaLinux:9", "ALSA-1"),
        ({"upstream": ["CVE-2024-22195"]}, "Rocky Linux:9", "CVE-2024-22195"),
        ({"upstream": ["CVE-2024-22195"], "related": ["CVE-2024-22196"]}, "Mageia:9", "CVE-2024-22195"),
        ({"aliases": ["CVE-2024-22195"]}, "PyPI", "CVE-2024-22195"),
        ({"related": ["CVE-2024-22195"]}, "PyPI", "ALSA-1"),
        ({"related": [None, 5]}, "AlmaLinux:9", "ALSA-1"),
    ],
)  # fmt: skip
def test_the_cve_that_an_advisory_is_about(members: dict[str, Any], ecosystem: str, name: str) -> None:
    """By `aliases` and `upstream`; by `related` where a distribution knows no better place; all are shown."""
    entry = {"package": {"ecosystem": ecosystem, "name": "jinja2"}, "versions": ["1"]}
    record = read_osv({"id": "ALSA-1", "modified": "2026-01-01T00:00:00Z", "affected": [entry], **members})
    assert record is not None and record.advisory is not None
    assert record.advisory.id == name
    every = {str(item) for items in members.values() for item in items}
    assert {record.advisory.id, *record.advisory.related} == {"ALSA-1", *every}


def test_a_database_of_an_older_version_is_read_and_brought_up_to_date(tmp_path: Path) -> None:
    """What was imported before stays until the same source is imported again."""
    database = AdvisoryDatabase(tmp_path)
    with sqlite3.connect(database.path) as old:
        old.executescript("""
            CREATE TABLE feeds (
                id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, imported TEXT NOT NULL,
                advisories INTEGER NOT NULL);
            CREATE TABLE advisories (id INTEGER PRIMARY KEY, feed INTEGER NOT NULL, document TEXT NOT NULL);
            CREATE TABLE affected (
                ecosystem TEXT NOT NULL, name TEXT NOT NULL, advisory INTEGER NOT NULL, part INTEGER NOT NULL,
                fixed TEXT NOT NULL, ranges TEXT NOT NULL,
                PRIMARY KEY (ecosystem, name, advisory, part)) WITHOUT ROWID;
            INSERT INTO feeds VALUES (1, 'old', '2026-01-01T00:00:00Z', 2);
            INSERT INTO affected VALUES
                ('PyPI', 'jinja2', 1, 0, '3.1.3', ''), ('PyPI', 'jinja2', 2, 0, '3.1.4', '');
        """)
        for number in (1, 2):
            text = json.dumps({"id": f"CVE-2026-000{number}", "severity": "HIGH", "source": "x"})
            old.execute("INSERT INTO advisories VALUES (?, 1, ?)", (number, text))
    assert len(scan(database)) == 2
    new = AdvisoryRecord(
        "X", 1, Advisory("X", "LOW", "x"), (Affected("PyPI", "jinja2", ((("introduced", "0"),),)),)
    )
    database.replace("new", [new], NOW)
    assert len(scan(database)) == 3
    database.replace("old", [], NOW)
    assert [item.vulnerability_id for item in scan(database)] == ["X"]


def test_instants_are_in_the_order_of_time() -> None:
    """Text would put a fraction before the whole second."""
    texts = ["", "2026-03-01T13:00:00+02:00", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123456789Z"]
    assert [instant(text) for text in texts] == sorted(instant(text) for text in texts)
    assert len({instant(text) for text in texts}) == 4
