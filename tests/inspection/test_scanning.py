"""Advisories in the real formats against an inventory: what is found, how grave, what fixes it, what is said."""

from __future__ import annotations

import gzip
import io
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
from imagesmith.inspection.scanning.advisories import Event
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
from imagesmith.inspection.scanning.debian import is_tracker, read_tracker
from imagesmith.inspection.scanning.ecosystems import ecosystems
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.feeds import import_advisories
from imagesmith.inspection.scanning.osv import read_osv
from imagesmith.inspection.scanning.scanner import ScanFailed, ScanReport, ScanTarget, ScanTimedOut
from imagesmith.inspection.scanning.versions import VersionOrder, in_range
from imagesmith.processes import Cancellation, Cancelled
from testing.scan_samples import DEBIAN, GHSA, INVENTORY, NPM, OSV_DEBIAN, TRACKER, WITHDRAWN

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def zipped(members: dict[str, str]) -> bytes:
    """An archive of these files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return made.getvalue()


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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json.gz", gzip.compress(json.dumps([OSV_DEBIAN, GHSA]).encode())),
        ("a.JSON", json.dumps([OSV_DEBIAN, GHSA]).encode()),
        ("a.jsonl", f"{json.dumps(OSV_DEBIAN)}\n\n{json.dumps(GHSA)}\r\nno json\n".encode()),
        ("damaged.jsonl", f"{{\n{json.dumps(OSV_DEBIAN)}\n\n{json.dumps(GHSA)}\n".encode()),
        ("a.ndjson.GZ", gzip.compress(f"{json.dumps(OSV_DEBIAN)}\n{json.dumps(GHSA)}".encode())),
        ("a.ZIP", zipped({"x.JSON": json.dumps(OSV_DEBIAN), "y.jsonl": f"{json.dumps(GHSA)}\n{json.dumps(NPM)}"})),
        ("feed", zipped({"x.json": json.dumps(OSV_DEBIAN)})),
        ("feed.txt", gzip.compress(json.dumps(OSV_DEBIAN).encode())),
    ],
)
@pytest.mark.parametrize("as_folder", [False, True])
def test_forms_of_feeds(tmp_path: Path, name: str, content: bytes, *, as_folder: bool) -> None:
    """Packed, one document a line, in any case; a file that is named is read whatever its ending."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    source = tmp_path / "in" if as_folder else tmp_path / "in" / name
    database = AdvisoryDatabase(tmp_path / "data")
    if as_folder and name.startswith("feed"):
        with pytest.raises(AdvisoriesError, match=r"\.jsonl or \.json\.gz"):
            import_advisories(database, str(source), NOW, on_line=lambda _: None)
        return
    done = import_advisories(database, str(source), NOW, on_line=lambda _: None)
    assert done.advisories >= 1 + (not name.startswith("feed"))


def test_a_packed_feed_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is cut off, and one that unpacks to more than a feed may have, are errors."""
    monkeypatch.setattr("imagesmith.inspection.scanning.feeds.MAX_FILE", 1000)
    whole = gzip.compress(json.dumps(GHSA).encode())
    for content, why in ((whole[:-9], "cannot be read"), (gzip.compress(b" " * 2000), "is larger than 1000 bytes")):
        (tmp_path / "a.json.gz").write_bytes(content)
        with pytest.raises(AdvisoriesError, match=why):
            import_advisories(AdvisoryDatabase(tmp_path), str(tmp_path / "a.json.gz"), NOW, on_line=lambda _: None)


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


def test_an_image_of_which_nothing_could_be_compared_fails_the_scan(database: AdvisoryDatabase) -> None:
    """Packages of a language alone, without advisories for it: no findings would look like a clean image."""
    only = (Package("requests", "2.0", "", "requests", "pypi", location="srv/app"),)
    database.replace(
        database.status().feeds[0].source, [found for found in [read_osv(OSV_DEBIAN)] if found is not None], NOW
    )
    with pytest.raises(ScanFailed, match="1 pypi packages were not checked: there are no advisories for PyPI; set"):
        scan(database, Inventory(OsRelease(), only))
    assert scan(database, Inventory(OsRelease(), ())).findings == ()


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


def test_a_database_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """A folder in its place, or a file that nobody may read: the file is named, for commands and scans."""
    made = AdvisoryDatabase(tmp_path)
    made.path.mkdir()
    with pytest.raises(AdvisoriesError, match=r"advisories\.sqlite cannot be used: unable to open"):
        made.status()
    with pytest.raises(ScanFailed, match=r"advisories\.sqlite"):
        scan(made)


def test_tracker_documents_are_told_from_osv() -> None:
    """By their content, not their name."""
    assert is_tracker(TRACKER) and not is_tracker(GHSA) and not is_tracker([]) and not is_tracker({"a": {}})
    found = {item.advisory.id: item.affected for item in read_tracker(TRACKER) if item.advisory is not None}
    assert set(found) == {"CVE-2024-0001", "CVE-2024-0002", "CVE-2020-0004"}
    assert found["CVE-2024-0002"][0].ranges == ((("introduced", "0"),),)


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
        ("3.9.9", tuple(reversed(SEVERAL)), (False, "")),
        ("1.2.0", (("fixed", "1.1.0"), ("introduced", "0")), (False, "")),
        ("1.0.0", (("fixed", "1.1.0"), ("introduced", "0")), (True, "1.1.0")),
        ("1.1.0", (("fixed", "1.2.0"), ("introduced", "1.0.0")), (True, "1.2.0")),
        ("1.3.0", (("fixed", "1.2.0"), ("introduced", "1.0.0")), (False, "")),
        ("0.9.0", (("last_affected", "1.2.0"), ("introduced", "1.0.0")), (False, "")),
        ("1.2.0", (("last_affected", "1.2.0"), ("introduced", "1.0.0")), (True, "")),
        ("1.2.1", (("last_affected", "1.2.0"), ("introduced", "1.0.0")), (False, "")),
        ("2.5.0", (("introduced", "1.0.0"), ("fixed", "2.0.0"), ("introduced", "2.0.0")), (True, "")),
        ("0.0.0", (("introduced", "0"), ("fixed", "0")), (False, "")),
        ("0.0.0", (("fixed", "0.0.0"), ("introduced", "0")), (False, "")),
        ("1.5.0", (("introduced", "0"), ("limit", "1.5.0")), (False, "")),
        ("1.4.0", (("introduced", "0"), ("limit", "1.5.0")), (True, "")),
        ("1.6.0", (("limit", "1.5.0"), ("limit", "1.7.0"), ("introduced", "0")), (True, "")),
        ("9.0.0", (("introduced", "0"), ("limit", "*")), (True, "")),
        ("1.10.0", (("introduced", "1.9.0"), ("fixed", "1.11.0")), (True, "1.11.0")),
        ("1.0.0", (("introduced", "0"), ("fixed", "10.0.0"), ("fixed", "9.0.0")), (True, "9.0.0")),
        ("5.0.0", SEVERAL, (False, "")),
        ("1.0.0", (("introduced", "0"), ("last_affected", "1.0.0")), (True, "")),
        ("1.0.1", (("introduced", "0"), ("last_affected", "1.0.0")), (False, "")),
        ("1.0.0", (("introduced", "0"),), (True, "")),
        ("1.0.0", (("introduced", "0"), ("fixed", "not a version!")), (None, "")),
    ],
)
def test_ranges_of_osv(version: str, events: tuple[Event, ...], expected: tuple[bool | None, str]) -> None:
    """The events count in the order of their versions, in whatever order they stand."""
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
    assert ecosystems(kind, system)[0].shown == expected
    assert ecosystems("rpm", OsRelease(id="amzn", version_id="2023")) == ()


def test_a_vulnerability_in_thousands_of_packages(tmp_path: Path) -> None:
    """One finding names them all, and putting it together takes no time in the square of their number."""
    made = AdvisoryDatabase(tmp_path / "advisories")
    path = tmp_path / "tracker.json"
    path.write_text(json.dumps(TRACKER))
    import_advisories(made, str(path), NOW, on_line=lambda _: None)
    packages = tuple(Package(f"lib{number:05}", "3.0.11-1~deb12u2", "amd64", "openssl") for number in range(20_000))
    found = {item.vulnerability_id: item for item in scan(made, Inventory(DEBIAN, packages)).findings}
    assert [item.name for item in found["CVE-2024-0001"].packages] == [item.name for item in packages]


@pytest.mark.parametrize("member", ["id", "name", "ecosystem", "version", "summary"])
def test_half_a_character_in_one_document_keeps_no_other_out(tmp_path: Path, member: str) -> None:
    """`\\ud800` alone is valid JSON, and nothing that a database stores as text."""
    texts = {
        "id": "DEBIAN-CVE", "name": "openssl", "ecosystem": "Debian:12", "version": "3.0.11", "summary": "The same",
    }  # fmt: skip
    odd = json.dumps(OSV_DEBIAN).replace(texts[member], "\\ud800").replace("DEBIAN-CVE", "X-CVE")
    (tmp_path / "all.json").write_text(f"[{odd}, {json.dumps(OSV_DEBIAN)}]")
    made = AdvisoryDatabase(tmp_path / "advisories")
    import_advisories(made, str(tmp_path / "all.json"), NOW, on_line=lambda _: None)
    assert [item.vulnerability_id for item in scan(made).findings] == ["CVE-2024-0001"]


@pytest.mark.parametrize("place", ["data", "encrypted", "method", "cut"])
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path: Path, feed: Path, place: str) -> None:
    """Whatever is wrong with a .zip, the import says so and keeps what was there."""
    path = feed / "all.zip"
    damaged = bytearray(path.read_bytes())
    local, central = damaged.find(b"PK\x03\x04"), damaged.find(b"PK\x01\x02")
    if place == "data":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.json", "x" * 5000)
        damaged = bytearray(path.read_bytes())
        damaged[36:46] = b"\xff" * 10
    elif place == "encrypted":
        damaged[local + 6] |= 1
        damaged[central + 8] |= 1
    elif place == "method":
        damaged[local + 8] = damaged[central + 10] = 99
    else:
        del damaged[len(damaged) // 2 :]
    path.write_bytes(damaged)
    with pytest.raises(AdvisoriesError, match=r"all\.zip cannot be read"):
        import_advisories(AdvisoryDatabase(tmp_path / "advisories"), str(feed), NOW, on_line=lambda _: None)


def test_a_member_of_an_archive_that_is_too_long_is_counted(
    tmp_path: Path, feed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out of an import is in the number that were skipped."""
    monkeypatch.setattr("imagesmith.inspection.scanning.feeds._MAX_MEMBER", 10_000)
    with zipfile.ZipFile(feed / "all.zip", "a") as archive:
        archive.writestr("long.json", json.dumps(OSV_DEBIAN) + " " * 10_000)
    done = import_advisories(AdvisoryDatabase(tmp_path / "advisories"), str(feed), NOW, on_line=lambda _: None)
    assert (done.advisories, done.skipped) == (6, 3)


@pytest.mark.parametrize(
    "events",
    [
        [{"fixed": "3.0.12"}],
        [{"introduced": "0"}, {"fixed": None}],
        [{"introduced": "0"}, {"fixed": ""}],
        [{"introduced": None}, {"fixed": "3.0.12"}],
        [{"last_affected": "3.0.12"}],
    ],
)
def test_a_range_with_one_end_is_open_at_the_other(events: list[dict[str, Any]]) -> None:
    """Versions that are null or missing neither hide a finding nor are told as the version of the fix."""
    document = {
        "id": "X-1",
        "affected": [{**OSV_DEBIAN["affected"][0], "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
    }
    record = read_osv(document)
    assert record is not None
    hit, fixed = in_range(VersionOrder("deb"), "3.0.11-1", record.affected[0].ranges[0])
    assert hit and fixed in ("", "3.0.12")
