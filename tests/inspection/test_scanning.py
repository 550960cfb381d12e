"""Advisories in the real formats against an inventory: what is found, how grave, what fixes it, what is said."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from univers.versions import DebianVersion

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.cvss import base_score, read_vector
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
from imagesmith.inspection.scanning.debian import is_tracker, read_tracker
from imagesmith.inspection.scanning.embedded import EmbeddedScanner, ecosystems
from imagesmith.inspection.scanning.feeds import import_advisories
from imagesmith.inspection.scanning.findings import severity_of, severity_of_score
from imagesmith.inspection.scanning.osv import Event, read_osv
from imagesmith.inspection.scanning.protocol import ScanFailed, ScanReport, ScanTarget, ScanTimedOut
from imagesmith.inspection.scanning.versions import VersionOrder, in_range
from imagesmith.processes import Cancellation, Cancelled
from inspection.scan_samples import DEBIAN, GHSA, INVENTORY, NPM, OSV_DEBIAN, TRACKER, WITHDRAWN

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """A folder with a tracker export, an archive of OSV documents and a file that is nothing."""
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "debian.json").write_text(json.dumps(TRACKER))
    (folder / "odd.json").write_text("[1, {}")
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for document in (OSV_DEBIAN, GHSA, NPM, WITHDRAWN):
            archive.writestr(f"{document['id']}.json", json.dumps(document))
    return folder


@pytest.fixture
def database(tmp_path: Path, feed: Path) -> AdvisoryDatabase:
    made = AdvisoryDatabase(tmp_path / "advisories")
    import_advisories(made, str(feed), NOW, on_line=lambda _: None)
    return made


def scan(database: AdvisoryDatabase, inventory: Inventory = INVENTORY) -> ScanReport:
    return EmbeddedScanner(database).scan(ScanTarget(inventory, Path("/nowhere")), Cancellation())


def test_findings_of_a_small_feed(database: AdvisoryDatabase) -> None:
    """Each vulnerability once, worst first, with every package it affects and what fixes it."""
    report = scan(database)
    assert [(item.vulnerability_id, item.severity, item.fix_available) for item in report.findings] == [
        ("CVE-2024-0001", "CRITICAL", "YES"),
        ("GHSA-dddd-eeee-ffff", "HIGH", "YES"),
        ("CVE-2024-22195", "MEDIUM", "YES"),
        ("CVE-2024-0002", "INFORMATIONAL", "NO"),
    ]
    first = report.findings[0]
    assert first.score == 9.8
    assert [(item.name, item.fixed_version) for item in first.packages] == [
        ("libssl3", "3.0.11-1~deb12u3"),
        ("openssl", "3.0.11-1~deb12u3"),
    ]
    assert first.remediation.startswith("Update libssl3 to 3.0.11-1~deb12u3, openssl to")
    assert report.findings[2].packages[0].location == "srv/Jinja2.dist-info/METADATA"
    assert "No fixed version is known" in report.findings[3].remediation


def test_a_fixed_package_has_no_finding(database: AdvisoryDatabase) -> None:
    """The version that fixes, and any later one, is not affected."""
    for version in ("3.0.11-1~deb12u3", "3.0.12-1"):
        report = scan(database, Inventory(DEBIAN, (Package("openssl", version, "amd64", "openssl"),)))
        assert [item.vulnerability_id for item in report.findings] == ["CVE-2024-0002"]


def test_importing_again_replaces_and_status_says_what_is_there(
    tmp_path: Path, feed: Path, database: AdvisoryDatabase
) -> None:
    """The same source twice is there once; an ecosystem counts its packages."""
    done = import_advisories(database, str(feed), NOW, on_line=lambda _: None)
    assert (done.advisories, done.skipped) == (6, 2)
    status = database.status()
    assert [(item.source, item.advisories) for item in status.feeds] == [(str(feed), 6)]
    assert status.ecosystems == {"Debian:12": 1, "PyPI": 1, "npm": 1}
    assert AdvisoryDatabase(tmp_path / "none").status().feeds == ()


def test_an_import_without_advisories_changes_nothing(tmp_path: Path, database: AdvisoryDatabase) -> None:
    """A source that holds nothing is an error that says what to give; what was there stays."""
    (tmp_path / "empty.json").write_text("[]")
    for source in (tmp_path / "empty.json", tmp_path / "missing.zip", "http://127.0.0.1:1/all.zip"):
        with pytest.raises(AdvisoriesError):
            import_advisories(database, str(source), NOW, on_line=lambda _: None)
    assert len(scan(database).findings) == 4


def test_without_advisories_the_scan_fails_and_says_what_to_do(tmp_path: Path) -> None:
    """No data is no clean image: the reason names the command that helps."""
    with pytest.raises(ScanFailed, match="imagesmith advisories"):
        scan(AdvisoryDatabase(tmp_path / "none"))


def test_a_system_without_advisories_fails_the_scan(database: AdvisoryDatabase) -> None:
    """A release that the feed does not know must not look clean; a language that it does not know is noted."""
    trixie = OsRelease(id="debian", version_id="13")
    with pytest.raises(ScanFailed, match="Debian:13"):
        scan(database, Inventory(trixie, INVENTORY.packages))
    database.replace(
        database.status().feeds[0].source, [found for found in [read_osv(OSV_DEBIAN)] if found is not None], NOW
    )
    assert scan(database).notes == (
        "1 npm packages were not checked: there are no advisories for npm",
        "1 pypi packages were not checked: there are no advisories for PyPI",
    )


def test_a_scan_ends_when_it_is_cancelled_or_late(database: AdvisoryDatabase) -> None:
    """Both end it between two packages."""
    cancelled = Cancellation()
    cancelled.cancel()
    target = ScanTarget(INVENTORY, Path("/nowhere"))
    with pytest.raises(Cancelled):
        EmbeddedScanner(database).scan(target, cancelled)
    with pytest.raises(ScanTimedOut):
        EmbeddedScanner(database, seconds=-1).scan(target, Cancellation())


def test_a_damaged_database_is_an_error(tmp_path: Path) -> None:
    """The scan fails and names the file."""
    made = AdvisoryDatabase(tmp_path)
    made.path.write_bytes(b"nothing of SQLite" * 100)
    with pytest.raises(ScanFailed, match=r"advisories\.sqlite"):
        scan(made)


def test_tracker_documents_are_told_from_osv() -> None:
    """By their content, not their name."""
    assert is_tracker(TRACKER) and not is_tracker(GHSA) and not is_tracker([]) and not is_tracker({"a": {}})
    found = {advisory.id: affected for advisory, affected in read_tracker(TRACKER)}
    assert set(found) == {"CVE-2024-0001", "CVE-2024-0002", "CVE-2020-0004"}
    assert found["CVE-2024-0002"][0].ranges == ((("introduced", "0"),),)


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:N", None),
    ],
)
def test_base_scores(vector: str, score: float | None) -> None:
    """Scores of published vectors, as the calculator of the specification gives them."""
    assert base_score(vector) == score


def test_vectors_of_other_versions_have_no_score() -> None:
    """CVSS 4.0 is kept as a vector; what is no vector is left out."""
    found = read_vector("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", "GHSA")
    assert found is not None and (found.version, found.score) == ("4.0", None)
    assert read_vector("AV:N/AC:L/Au:N/C:P/I:P/A:P", "x") is None


@pytest.mark.parametrize(
    ("label", "severity"),
    [("Moderate", "MEDIUM"), ("low*", "LOW"), ("unimportant", "INFORMATIONAL"), ("not yet assigned", "UNTRIAGED")],
)
def test_words_of_feeds_become_labels(label: str, severity: str) -> None:
    """Each feed's words have their place in the API's scale."""
    assert severity_of(label) == severity
    assert [severity_of_score(score) for score in (9.0, 8.9, 4.0, 0.1, 0.0)] == [
        "CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL",
    ]  # fmt: skip


SEVERAL: tuple[Event, ...] = (
    ("introduced", "3.0.0"),
    ("fixed", "3.9.9"),
    ("introduced", "4.0.0"),
    ("fixed", "4.5.0"),
)


@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("2.0.0", SEVERAL, (False, "")),
        ("3.1.0", SEVERAL, (True, "3.9.9")),
        ("3.9.9", SEVERAL, (False, "")),
        ("4.0.0", SEVERAL, (True, "4.5.0")),
        ("4.1.0", tuple(reversed(SEVERAL)), (True, "4.5.0")),
        ("5.0.0", SEVERAL, (False, "")),
        ("1.0.0", (("introduced", "0"), ("last_affected", "1.0.0")), (True, "")),
        ("1.0.1", (("introduced", "0"), ("last_affected", "1.0.0")), (False, "")),
        ("1.0.0", (("introduced", "0"),), (True, "")),
        ("1.0.0", (("introduced", "0"), ("fixed", "not a version!")), (None, "")),
    ],
)
def test_ranges_of_osv(version: str, events: tuple[Event, ...], expected: tuple[bool | None, str]) -> None:
    """The last event that is not after the version decides, in whatever order the events stand."""
    assert in_range(VersionOrder("npm"), version, events) == expected


_DEBIAN = st.from_regex(r"([0-9]:)?[0-9][a-z0-9.+~]{0,6}(-[a-z0-9.+~]{1,4})?", fullmatch=True)


@given(_DEBIAN, _DEBIAN)
def test_the_fast_order_of_debian_is_that_of_univers(one: str, other: str) -> None:
    """Comparing by keys gives what univers gives, for any two versions."""
    left, right = DebianVersion(one), DebianVersion(other)
    expected = -1 if left < right else int(left > right)
    assert VersionOrder("deb").compare(one, other) == expected


@pytest.mark.parametrize(
    ("kind", "older", "newer"),
    [
        ("deb", "1.0~rc1-1", "1.0-1"),
        ("deb", "1.0-1", "1:0.5-1"),
        ("rpm", "3.0.7-16.el9", "3.0.7-27.el9"),
        ("rpm", "3.0.7-27.el9", "1:1.0-1"),
        ("apk", "3.3.1-r0", "3.3.1-r1"),
        ("pypi", "1.0rc1", "1.0"),
        ("npm", "1.9.0", "1.10.0"),
    ],
)
def test_each_kind_has_its_own_order(kind: str, older: str, newer: str) -> None:
    """Known pairs of each packaging system, both ways round."""
    order = VersionOrder(kind)
    assert (order.compare(older, newer), order.compare(newer, older)) == (-1, 1)


@pytest.mark.parametrize("kind", ["deb", "rpm", "apk", "pypi", "npm"])
@given(one=st.text(max_size=12), other=st.text(max_size=12))
def test_any_texts_compare_or_do_not(kind: str, one: str, other: str) -> None:
    """A text that is no version gives None, never an error."""
    assert VersionOrder(kind).compare(one, other) in (-1, 0, 1, None)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "affected", "package", "ecosystem", "name", "ranges", "type", "events", "severity"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["id", "affected", "severity", "references", "aliases"]), _JSON))
def test_any_document_is_an_advisory_or_none(document: dict[str, Any]) -> None:
    """Feeds that hold nonsense never raise."""
    assert read_osv({"id": "X-1", **document}) is None or document["affected"]


@pytest.mark.parametrize(
    ("kind", "system", "expected"),
    [
        ("deb", OsRelease(id="ubuntu", version_id="22.04"), "Ubuntu:22.04:LTS"),
        ("apk", OsRelease(id="alpine", version_id="3.20.3"), "Alpine:v3.20"),
        ("rpm", OsRelease(id="rocky", version_id="9.3"), "Rocky Linux:9"),
        ("npm", OsRelease(), "npm"),
    ],
)
def test_where_advisories_stand(kind: str, system: OsRelease, expected: str) -> None:
    """Each system has the name that OSV's exports use."""
    assert ecosystems(kind, system)[0] == expected
    assert ecosystems("rpm", OsRelease(id="amzn", version_id="2023")) == ()
