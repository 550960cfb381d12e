"""The scanners of others: their command lines and environments, and how their answers are read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from imagesmith.inspection.scanning.drivers import ProgramScanner, grype, trivy
from imagesmith.inspection.scanning.scanner import ScanFailed, ScanTarget, ScanTimedOut
from imagesmith.processes import Cancellation
from testing.scan_samples import INVENTORY

TARGET = ScanTarget(INVENTORY, Path("/images/view"))
TRIVY = {
    "SchemaVersion": 2,
    "Results": [
        {
            "Target": "view (debian 12.5)",
            "Class": "os-pkgs",
            "Type": "debian",
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2024-0001",
                    "PkgName": name,
                    "InstalledVersion": "3.0.11-1~deb12u2",
                    "FixedVersion": "3.0.11-1~deb12u3",
                    "Severity": "HIGH",
                    "Title": "openssl: a flaw",
                    "PrimaryURL": "https://avd.example.org/cve-2024-0001",
                    "DataSource": {"ID": "debian", "Name": "Debian Security Tracker"},
                    "CVSS": {"nvd": {"V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "V3Score": 9.8}},
                }
                for name in ("libssl3", "openssl")
            ],
        },
        {"Target": "Node.js", "Class": "lang-pkgs", "Type": "node-pkg"},
    ],
}
GRYPE = {
    "matches": [
        {
            "vulnerability": {
                "id": "GHSA-aaaa-bbbb-cccc",
                "dataSource": "https://github.example.org/advisories/GHSA-aaaa-bbbb-cccc",
                "namespace": "github:language:python",
                "severity": "Medium",
                "urls": ["https://example.org"],
                "description": "Jinja",
                "cvss": [
                    {
                        "version": "3.1",
                        "vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N",
                        "metrics": {"baseScore": 6.1},
                    }
                ],
                "fix": {"versions": ["3.1.3"], "state": "fixed"},
            },
            "relatedVulnerabilities": [{"id": "CVE-2024-22195"}],
            "artifact": {
                "name": "Jinja2", "version": "3.1.2", "type": "python", "locations": [{"path": "/srv/x/METADATA"}],
            },
        }
    ]
}  # fmt: skip


def test_trivy_runs_without_network_and_updates() -> None:
    """The command line names layout and database, and switches off everything that would reach out."""
    scanner = trivy("/var/trivy")
    assert scanner.argv(TARGET) == [
        "unshare", "--net", "--", "trivy", "image", "--input", "/images/view", "--cache-dir", "/var/trivy",
        "--scanners", "vuln", "--format", "json", "--offline-scan", "--skip-db-update", "--skip-java-db-update",
        "--skip-version-check", "--disable-telemetry", "--no-progress", "--quiet",
    ]  # fmt: skip


def test_grype_runs_without_network_and_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is given by the environment, which holds nothing of this process."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    scanner = grype("/var/grype")
    assert scanner.argv(TARGET) == [
        "unshare", "--net", "--", "grype", "oci-dir:/images/view", "--output", "json", "--quiet",
    ]  # fmt: skip
    environment = scanner.environment("/tmp/home")
    assert environment == {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp/home", "TMPDIR": "/tmp/home", "LANG": "C.UTF-8",
        "GRYPE_DB_CACHE_DIR": "/var/grype", "GRYPE_DB_AUTO_UPDATE": "false", "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    }  # fmt: skip


def test_the_answer_of_trivy_is_read() -> None:
    """Packages of one vulnerability come together, with score and fixed version."""
    (finding,) = trivy("/x").parse(json.dumps(TRIVY).encode())
    assert (finding.vulnerability_id, finding.severity, finding.score) == ("CVE-2024-0001", "HIGH", 9.8)
    assert [(item.name, item.kind, item.fixed_version) for item in finding.packages] == [
        ("libssl3", "deb", "3.0.11-1~deb12u3"),
        ("openssl", "deb", "3.0.11-1~deb12u3"),
    ]


def test_the_answer_of_grype_is_read() -> None:
    """Place, score, fix and related names are taken over."""
    (finding,) = grype("/x").parse(json.dumps(GRYPE).encode())
    assert (finding.vulnerability_id, finding.severity, finding.score) == ("GHSA-aaaa-bbbb-cccc", "MEDIUM", 6.1)
    assert finding.advisory.related == ("CVE-2024-22195",)
    assert (finding.packages[0].location, finding.packages[0].fixed_version) == ("srv/x/METADATA", "3.1.3")


V2, V4 = "AV:N/AC:L/Au:N/C:C/I:C/A:C", "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


@pytest.mark.parametrize(
    ("trivy_cvss", "grype_cvss", "severity", "score"),
    [
        ({"nvd": {"V40Vector": V4}}, [{"vector": V4}], "CRITICAL", 9.3),
        (
            {"nvd": {"V2Vector": V2, "V2Score": 10.0}},
            [{"vector": V2, "metrics": {"baseScore": 10.0}}],
            "HIGH",
            10.0,
        ),
        ({}, [], "UNTRIAGED", None),
    ],
)
def test_what_a_program_does_not_rank_is_ranked_by_its_scores(
    trivy_cvss: dict[str, Any], grype_cvss: list[dict[str, Any]], severity: str, score: float | None
) -> None:
    """All versions of CVSS, where the word is UNKNOWN."""
    vulnerability = {"VulnerabilityID": "CVE-1", "PkgName": "a", "Severity": "UNKNOWN", "CVSS": trivy_cvss}
    match = {
        "vulnerability": {"id": "CVE-1", "severity": "Unknown", "cvss": grype_cvss},
        "artifact": {"name": "a", "type": "deb"},
    }
    (one,) = trivy("/x").parse(json.dumps({"Results": [{"Vulnerabilities": [vulnerability]}]}).encode())
    (other,) = grype("/x").parse(json.dumps({"matches": [match]}).encode())
    assert (one.severity, one.score) == (other.severity, other.score) == (severity, score)


@pytest.mark.parametrize("scanner", [trivy("/x"), grype("/x")])
@pytest.mark.parametrize("output", [b"", b"[1]", b'{"matches": [1], "Results": [1]}'])
def test_an_answer_that_is_no_answer_fails_the_scan(scanner: ProgramScanner, output: bytes) -> None:
    """Nonsense is a failed scan, not an empty one."""
    with pytest.raises(ScanFailed, match=scanner.name):
        scanner.parse(output)


def test_without_a_database_nothing_is_run() -> None:
    """The setting that is missing is named."""
    with pytest.raises(ScanFailed, match="scanner_database"):
        trivy("").scan(TARGET, Cancellation())


def shell(script: str, *, seconds: float = 30) -> ProgramScanner:
    """A driver whose program is a shell script."""
    return ProgramScanner(
        "script", "/x", lambda layout, _: ["sh", "-c", script, layout], lambda _: {}, trivy("/x").read, seconds
    )


@pytest.mark.tool
def test_a_program_sees_no_network_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside there is only an unused loopback, and no variable of this process."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    script = (
        '[ -z "$AWS_SECRET_ACCESS_KEY" ] || exit 3; [ "$(tail -n +3 /proc/net/dev | wc -l)" = 1 ] || exit 4; '
        'echo "{\\"Results\\": []}"'
    )
    assert shell(script).scan(TARGET, Cancellation()).findings == ()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secret"


@pytest.mark.tool
def test_a_program_that_fails_or_hangs_fails_the_scan() -> None:
    """Its command line and last words are in the reason."""
    with pytest.raises(ScanFailed, match="malformed"):
        shell("echo malformed >&2; exit 1").scan(TARGET, Cancellation())
    with pytest.raises(ScanTimedOut):
        shell("sleep 30", seconds=0.5).scan(TARGET, Cancellation())
