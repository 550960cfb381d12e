"""How grave a vulnerability is: which of several ratings counts, for which release, and what nobody ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.cvss import base_score, read_vector
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.debian import read_tracker
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.findings import Finding
from imagesmith.inspection.scanning.osv import read_osv
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.inspection.scanning.severities import severity_of, severity_of_score
from imagesmith.processes import Cancellation
from testing.advisories import NOW, UBUNTU

V2 = "AV:N/AC:L/Au:N/C:C/I:C/A:C"
V3_LOW = "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"
V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"
V4_MEDIUM = "CVSS:4.0/AV:N/AC:L/AT:P/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N"


@pytest.mark.parametrize(
    ("vector", "version", "score"),
    [
        (V3, "3.1", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", "3.1", 10.0),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", "3.0", 6.1),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", "3.1", 7.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", "3.1", 0.0),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:U/RL:O/RC:C", "3.1", 9.8),
        (f"{V3}/", "3.1", 9.8),
        (V4, "4.0", 9.3),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", "4.0", 10.0),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", "4.0", 0.0),
        (V2, "2.0", 10.0),
        (f"({V2})", "2.0", 10.0),
        (f"CVSS:2.0/{V2}", "2.0", 10.0),
        ("AV:L/AC:M/Au:N/C:N/I:P/A:C", "2.0", 5.4),
        ("AV:N/AC:L/Au:N/C:P/I:P/A:P", "2.0", 7.5),
        ("CVSS:3.1/AV:N", "3.1", None),
        ("CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "3.1", None),
        ("CVSS:4.0/AV:N/AC:L", "4.0", None),
        ("CVSS:5.0/AV:N/AC:L", "5.0", None),
        ("AV:N/AC:L", "2.0", None),
    ],
)
def test_base_scores(vector: str, version: str, score: float | None) -> None:
    """Of all versions of CVSS, as their calculators have them; a vector that is not whole has none."""
    read = read_vector(vector, "NVD")
    assert read is not None and (read.version, read.score) == (version, score)


@pytest.mark.parametrize(
    "text", ["", "high", "9.8", "CVSS:3.1", "CVSS", "/AV:N", "X" * 5000, f"{V3}{'/E:U' * 500}"]
)
def test_what_is_no_vector(text: str) -> None:
    """It is left out, whatever its size."""
    assert read_vector(text, "x") is None


@given(st.text(alphabet="CVS:234.01/AVNLPHUIRSEX", max_size=60))
def test_any_text_has_a_score_or_none(text: str) -> None:
    """Nothing raises, and a score is between 0 and 10."""
    for vector in (text, f"CVSS:3.1/{text}", f"CVSS:4.0/{text}", f"AV:{text}"):
        score = base_score(vector)
        assert score is None or 0 <= score <= 10


@pytest.mark.parametrize(
    ("label", "severity"),
    [
        ("critical", "CRITICAL"), ("Important", "HIGH"), ("HIGH", "HIGH"), ("Moderate", "MEDIUM"),
        ("medium**", "MEDIUM"), ("low*", "LOW"), ("minor", "LOW"), ("negligible", "INFORMATIONAL"),
        ("unimportant", "INFORMATIONAL"),
        ("not yet assigned", "UNTRIAGED"), ("untriaged", "UNTRIAGED"), ("unknown", "UNTRIAGED"), ("", "UNTRIAGED"),
        ("end-of-life", "UNTRIAGED"),
    ],
)  # fmt: skip
def test_words_of_feeds_become_labels(label: str, severity: str) -> None:
    """Each feed's words have their place in the API's scale."""
    assert severity_of(label) == severity


def test_scores_become_labels() -> None:
    """By the scale of their version: that of version 2 has nothing above HIGH."""
    scores = (10.0, 9.0, 8.9, 7.0, 6.9, 4.0, 3.9, 0.1, 0.0)
    new = ["CRITICAL", "CRITICAL", "HIGH", "HIGH", "MEDIUM", "MEDIUM", "LOW", "LOW", "INFORMATIONAL"]
    assert [severity_of_score(score) for score in scores] == new
    assert [severity_of_score(score, "2.0") for score in scores] == ["HIGH", "HIGH", *new[2:]]


def osv(*, ecosystem: str = "Ubuntu:22.04:LTS", entry: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    package = {"ecosystem": ecosystem, "name": "openssl"}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2"}]}]
    affected = {"package": package, "ranges": ranges, **(entry or {})}
    return {"id": "X-1", "modified": "2026-01-01T00:00:00Z", "affected": [affected], **more}


def findings(
    folder: Path, *documents: dict[str, Any], system: OsRelease = UBUNTU, kind: str = "deb"
) -> list[Finding]:
    database = AdvisoryDatabase(folder / "advisories")
    database.replace("test", [item for document in documents if (item := read_osv(document)) is not None], NOW)
    inventory = Inventory(system, (Package("openssl", "1", "", "openssl", kind=kind),))
    return list(EmbeddedScanner(database).scan(ScanTarget(inventory, Path("/nowhere")), Cancellation()).findings)


def typed(*items: str) -> dict[str, Any]:
    """A member `severity` of types and scores in turn."""
    pairs = zip(items[::2], items[1::2], strict=True)
    return {"severity": [{"type": kind, "score": score} for kind, score in pairs]}


@pytest.mark.parametrize(
    ("document", "severity", "vendor", "score"),
    [
        # the types of OSV
        (osv(**typed("Ubuntu", "high")), "HIGH", "high", None),
        (osv(**typed("Ubuntu", "negligible")), "INFORMATIONAL", "negligible", None),
        (osv(entry=typed("Ubuntu", "critical")), "CRITICAL", "critical", None),
        (osv(**typed("CVSS_V2", V2)), "HIGH", "", 10.0),
        (osv(**typed("CVSS_V3", V3)), "CRITICAL", "", 9.8),
        (osv(**typed("CVSS_V4", V4)), "CRITICAL", "", 9.3),
        (osv(**typed("CVSS_V3", "7.5")), "HIGH", "", 7.5),
        (osv(entry=typed("CVSS_V4", V4)), "CRITICAL", "", 9.3),
        # words of databases and ecosystems
        (osv(database_specific={"severity": "MODERATE"}), "MEDIUM", "MODERATE", None),
        (osv(database_specific={"severity": "Important"}), "HIGH", "Important", None),
        (osv(entry={"database_specific": {"severity": "important"}}), "HIGH", "important", None),
        (osv(entry={"ecosystem_specific": {"severity": "High"}}), "HIGH", "High", None),
        (osv(entry={"ecosystem_specific": {"urgency": "low"}}), "LOW", "low", None),
        (osv(entry={"ecosystem_specific": {"ubuntu_priority": "medium"}}), "MEDIUM", "medium", None),
        (osv(summary="Important: openssl security update"), "HIGH", "Important", None),
        (osv(summary="Unimportant: nothing"), "UNTRIAGED", "", None),
        # lists and objects that databases write there
        (osv(database_specific={"severity": ["HIGH"]}), "HIGH", "HIGH", None),
        (osv(database_specific={"severity": {"level": "important"}}), "HIGH", "important", None),
        (osv(entry={"ecosystem_specific": {"severity": [{"label": "low"}]}}), "LOW", "low", None),
        (osv(entry={"database_specific": {"severity": ["unknown", "critical"]}}), "CRITICAL", "critical", None),
        (osv(database_specific={"severity": [{"type": "CVSS_V3", "score": V3}]}), "CRITICAL", "CVSS_V3", 9.8),
        (osv(database_specific={"severity": V3}), "CRITICAL", V3, 9.8),
        (osv(database_specific={"cvss": {"vectorString": V3, "baseScore": 9.8}}), "CRITICAL", "", 9.8),
        (osv(database_specific={"cvss": {"score": 7.5}}), "HIGH", "", 7.5),
        (osv(entry={"database_specific": {"cvss": [V2, V3_LOW]}}), "LOW", "", 10.0),
        (osv(database_specific={"cvss_score": "5.0"}), "MEDIUM", "", 5.0),
        (osv(database_specific={"severity": 3, "cvss": [True, None, 11]}), "UNTRIAGED", "", None),
        (osv(database_specific={"severity": [[[["high"]]]] * 90}), "HIGH", "high", None),
        # several: a label before a score, the entry before the document, the worst of scores, version 2 last
        (osv(database_specific={"severity": "LOW"}, **typed("CVSS_V3", V3)), "LOW", "LOW", 9.8),
        (osv(entry=typed("Ubuntu", "low"), **typed("CVSS_V3", V3)), "LOW", "low", 9.8),
        (osv(**typed("CVSS_V3", V3, "CVSS_V4", V4_MEDIUM)), "CRITICAL", "", 9.8),
        (osv(**typed("CVSS_V2", V2, "CVSS_V3", V3_LOW)), "LOW", "", 10.0),
        (osv(**typed("Ubuntu", "medium", "CVSS_V3", V3)), "MEDIUM", "medium", 9.8),
        # a word that ranks nothing hides nothing
        (osv(entry={"ecosystem_specific": {"urgency": "none set"}}, **typed("CVSS_V3", V3)), "CRITICAL", "", 9.8),
        (osv(database_specific={"severity": "unknown"}, **typed("CVSS_V4", V4)), "CRITICAL", "unknown", 9.3),
        (osv(**typed("CVSS_V3", "CVSS:3.1/AV:N", "Ubuntu", "high")), "HIGH", "high", None),
        # what nobody ranks
        (osv(), "UNTRIAGED", "", None),
        (osv(**typed("CVSS_V3", "CVSS:3.1/AV:N")), "UNTRIAGED", "", None),
        (osv(severity="HIGH"), "UNTRIAGED", "", None),
        (osv(severity=[None, 3, {"type": "CVSS_V3"}]), "UNTRIAGED", "", None),
    ],
)  # fmt: skip
def test_which_rating_counts(
    tmp_path: Path, document: dict[str, Any], severity: str, vendor: str, score: float | None
) -> None:
    """Through a whole scan: what the finding shows."""
    (found,) = findings(tmp_path, document)
    assert (found.severity, found.advisory.vendor_severity, found.score) == (severity, vendor, score)


def test_each_entry_has_its_own_rating(tmp_path: Path) -> None:
    """One release says low, another one critical, and one nothing: that one is as bad as the worst."""
    releases = {"Ubuntu:22.04:LTS": "low", "Ubuntu:24.04:LTS": "critical", "Ubuntu:20.04:LTS": ""}
    entries = [
        osv(ecosystem=name, entry=typed("Ubuntu", label) if label else {})["affected"][0]
        for name, label in releases.items()
    ]
    shown = {}
    for number in ("22.04", "24.04", "20.04"):
        system = OsRelease("Ubuntu", number, f"Ubuntu {number} LTS", "ubuntu")
        (found,) = findings(tmp_path, {**osv(), "affected": entries}, system=system)
        shown[number] = found.severity
    assert shown == {"22.04": "LOW", "24.04": "CRITICAL", "20.04": "CRITICAL"}


def test_the_debian_tracker_ranks_for_each_release(tmp_path: Path) -> None:
    """The urgency of another release says nothing; one that is not assigned ranks nothing."""
    urgencies = {"bookworm": "low**", "bullseye": "high", "trixie": "not yet assigned"}
    releases = {
        name: {"status": "resolved", "fixed_version": "2", "urgency": urgency}
        for name, urgency in urgencies.items()
    }
    database = AdvisoryDatabase(tmp_path)
    database.replace("tracker", read_tracker({"openssl": {"CVE-2026-0001": {"releases": releases}}}), NOW)
    shown = {}
    for version in ("12", "11", "13"):
        inventory = Inventory(OsRelease("Debian", version, "", "debian"), (Package("libssl3", "1", "", "openssl"),))
        report = EmbeddedScanner(database).scan(ScanTarget(inventory, Path("/nowhere")), Cancellation())
        shown[version] = [(item.severity, item.advisory.vendor_severity) for item in report.findings]
    assert shown == {
        "12": [("LOW", "low")], "11": [("HIGH", "high")], "13": [("UNTRIAGED", "not yet assigned")],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "score", "severity"),
    [
        ("CVSS_V3", V3.removeprefix("CVSS:3.1/"), "CRITICAL"),
        ("CVSS_V3", f" {V3}\n", "CRITICAL"),
        ("CVSS_V3", " 7.5 ", "HIGH"),
        ("CVSS_V3", 7.5, "HIGH"),
        ("CVSS_V2", V2, "HIGH"),
    ],
)
def test_vectors_and_scores_in_spellings_of_feeds(kind: str, score: object, severity: str) -> None:
    """A vector of version 3 without its prefix, and blanks around a score, lose nothing."""
    entry = {"package": {"ecosystem": "Debian:12", "name": "a"}, "versions": ["1"]}
    record = read_osv({"id": "X-1", "affected": [entry], "severity": [{"type": kind, "score": score}]})
    assert record is not None and record.advisory is not None
    assert record.advisory.severity == severity
