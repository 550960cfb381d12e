"""Drivers of external scanners, if their programs are present: trivy and grype.

Each runs in a network namespace without any interface, with its own environment without credentials and proxies,
on an OCI layout folder that holds only the image, with its database passed by path and every kind of update
disabled. Its JSON is untrusted data.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.inspection.scanning.advisories import Advisory
from imagesmith.inspection.scanning.cvss import read_vector
from imagesmith.inspection.scanning.findings import Finding, VulnerablePackage, merged
from imagesmith.inspection.scanning.scanner import ScanFailed, ScanReport, ScanTarget, ScanTimedOut
from imagesmith.inspection.scanning.severities import Cvss, severity_by
from imagesmith.processes import Cancellation, run

MAX_OUTPUT = 256 * 1024 * 1024
_MAX_TEXT = 1024
_WITHOUT_NETWORK = ("unshare", "--net", "--")
_KINDS: Mapping[str, str] = {
    "debian": "deb", "ubuntu": "deb", "dpkg": "deb", "alpine": "apk", "wolfi": "apk", "redhat": "rpm",
    "rocky": "rpm", "alma": "rpm", "amazon": "rpm", "python-pkg": "pypi", "python": "pypi", "node-pkg": "npm",
}  # fmt: skip


@dataclass(frozen=True)
class ProgramScanner:
    """One program: its command line and the parser of its answer."""

    name: str
    database: str
    """Folder of the program's database; filled beforehand, never by a scan."""
    make_argv: Callable[[str, str], Sequence[str]]
    make_environment: Callable[[str], Mapping[str, str]]
    read: Callable[[Mapping[str, Any]], Iterator[Finding]]
    seconds: float = 900.0

    def argv(self, target: ScanTarget) -> list[str]:
        """The whole command line."""
        return [*_WITHOUT_NETWORK, *self.make_argv(str(target.layout), self.database)]

    def environment(self, home: str) -> dict[str, str]:
        """The whole environment; nothing of this process is passed on."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8",
            **self.make_environment(self.database),
        }  # fmt: skip

    def scan(self, target: ScanTarget, cancellation: Cancellation) -> ScanReport:
        """Raises ScanFailed, ScanTimedOut, Cancelled."""
        if not self.database:
            raise ScanFailed(
                f"{self.name} needs its database: set `scanner_database` in [advisories] to its folder"
            )
        with tempfile.TemporaryDirectory(prefix=f"imagesmith-{self.name}-") as home:
            done = run(
                self.argv(target), env=self.environment(home), timeout=self.seconds, cancellation=cancellation,
                limit=MAX_OUTPUT,
            )  # fmt: skip
        if done.timed_out:
            raise ScanTimedOut(f"{self.name} did not end within {self.seconds:g} s: {done.command}")
        if done.returncode != 0:
            raise ScanFailed(
                f"{self.name} ended with status {done.returncode}: {done.command}\n"
                f"{done.stderr[-2000:].decode(errors='replace')}\nwhat to try: check that it is installed and that "
                f"its database is in {self.database}"
            )
        return ScanReport(self.parse(done.stdout))

    def parse(self, output: bytes) -> tuple[Finding, ...]:
        """The findings in the program's JSON. Raises ScanFailed."""
        try:
            return merged(self.read(json.loads(output)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ScanFailed(f"the output of {self.name} is not valid: {error!r}") from error


def trivy(database: str, *, seconds: float = 900.0) -> ProgramScanner:
    """trivy with a cache folder as `trivy image --download-db-only --cache-dir` fills it."""
    return ProgramScanner(
        name="trivy",
        database=database,
        make_argv=_trivy_argv,
        make_environment=lambda _: {},
        read=_read_trivy,
        seconds=seconds,
    )


def grype(database: str, *, seconds: float = 900.0) -> ProgramScanner:
    """grype with a folder as `grype db update` fills it."""
    return ProgramScanner(
        name="grype",
        database=database,
        make_argv=_grype_argv,
        make_environment=_grype_environment,
        read=_read_grype,
        seconds=seconds,
    )


def _trivy_argv(layout: str, database: str) -> list[str]:
    return [
        "trivy", "image", "--input", layout, "--cache-dir", database, "--scanners", "vuln", "--format", "json",
        "--offline-scan", "--skip-db-update", "--skip-java-db-update", "--skip-version-check",
        "--disable-telemetry", "--no-progress", "--quiet",
    ]  # fmt: skip


def _grype_argv(layout: str, _database: str) -> list[str]:
    return ["grype", f"oci-dir:{layout}", "--output", "json", "--quiet"]


def _grype_environment(database: str) -> dict[str, str]:
    # Without these it downloads a newer database or version, or refuses a database that is some days old.
    return {
        "GRYPE_DB_CACHE_DIR": database,
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    }


def _read_trivy(document: Mapping[str, Any]) -> Iterator[Finding]:
    for result in document.get("Results") or ():
        for item in result.get("Vulnerabilities") or ():
            cvss = tuple(
                _cvss(source, value[f"{version}Vector"], value.get(f"{version}Score"))
                for source, value in (item.get("CVSS") or {}).items()
                for version in ("V40", "V3", "V2")
                if value.get(f"{version}Vector")
            )
            advisory = Advisory(
                id=item["VulnerabilityID"],
                severity=severity_by(item.get("Severity", ""), cvss),
                source=(item.get("DataSource") or {}).get("Name", "trivy"),
                title=item.get("Title", "")[:_MAX_TEXT],
                description=item.get("Description", "")[:_MAX_TEXT],
                source_url=item.get("PrimaryURL", ""),
                vendor_severity=item.get("Severity", ""),
                cvss=cvss,
                references=tuple(item.get("References") or ())[:20],
                related=tuple(item.get("VendorIDs") or ()),
                published=item.get("PublishedDate", ""),
                modified=item.get("LastModifiedDate", ""),
            )
            package = VulnerablePackage(
                name=item["PkgName"],
                version=item.get("InstalledVersion", ""),
                architecture="",
                kind=_kind(result.get("Type", "")),
                location=item.get("PkgPath", ""),
                fixed_version=item.get("FixedVersion", ""),
            )
            yield Finding(advisory, (package,))


def _read_grype(document: Mapping[str, Any]) -> Iterator[Finding]:
    for match in document.get("matches") or ():
        issue, artifact = match["vulnerability"], match["artifact"]
        fixed = (issue.get("fix") or {}).get("versions") or [""]
        related = [item["id"] for item in match.get("relatedVulnerabilities") or ()]
        locations = artifact.get("locations") or [{}]
        kind = _kind(str(artifact.get("type", "")))
        cvss = tuple(
            _cvss(item.get("source", "grype"), item["vector"], (item.get("metrics") or {}).get("baseScore"))
            for item in issue.get("cvss") or ()
            if item.get("vector")
        )
        advisory = Advisory(
            id=issue["id"],
            severity=severity_by(issue.get("severity", ""), cvss),
            source=issue.get("namespace", "grype"),
            title=issue["id"],
            description=issue.get("description", "")[:_MAX_TEXT],
            source_url=issue.get("dataSource", ""),
            vendor_severity=issue.get("severity", ""),
            cvss=cvss,
            references=tuple(issue.get("urls") or ())[:20],
            related=tuple(item for item in related if item != issue["id"]),
        )
        package = VulnerablePackage(
            name=artifact["name"],
            version=artifact.get("version", ""),
            architecture="",
            kind=kind,
            location="" if kind in ("deb", "rpm", "apk") else locations[0].get("path", "").lstrip("/"),
            fixed_version=fixed[0],
        )
        yield Finding(advisory, (package,))


def _cvss(source: str, vector: str, score: float | None) -> Cvss:
    read = read_vector(vector, source) or Cvss("2.0", vector, source, None)
    return Cvss(read.version, vector, source, read.score if score is None else float(score))


def _kind(word: str) -> str:
    return _KINDS.get(word, word)
