"""Findings of a scan: one per vulnerability, with every package of the image that it affects. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from imagesmith.inspection.packages import Package
from imagesmith.inspection.scanning.advisories import Advisory, instant
from imagesmith.inspection.scanning.severities import SEVERITIES, Severity, worst


@dataclass(frozen=True)
class VulnerablePackage:
    """An affected package; without a known fix `fixed_version` is empty."""

    name: str
    version: str
    architecture: str
    kind: str
    location: str
    fixed_version: str

    @property
    def package(self) -> Package:
        """The package, as far as a finding describes it."""
        return Package(
            name=self.name, version=self.version, architecture=self.architecture, source="", kind=self.kind,
            location=self.location,
        )  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One vulnerability, and every package of the image that it affects."""

    advisory: Advisory
    packages: tuple[VulnerablePackage, ...]

    @property
    def vulnerability_id(self) -> str:
        return self.advisory.id

    @property
    def severity(self) -> Severity:
        return self.advisory.severity

    @property
    def score(self) -> float | None:
        """The highest base score that is known."""
        return max((item.score for item in self.advisory.cvss if item.score is not None), default=None)

    @property
    def fix_available(self) -> Literal["YES", "NO", "PARTIAL"]:
        fixed = [bool(package.fixed_version) for package in self.packages]
        return "YES" if all(fixed) else "PARTIAL" if any(fixed) else "NO"

    @property
    def remediation(self) -> str:
        """One sentence: the packages to update and their fixed versions."""
        wanted = sorted({(item.name, item.fixed_version) for item in self.packages if item.fixed_version})
        if not wanted:
            return "No fixed version is known; remove the package, or watch for an update."
        steps = ", ".join(f"{name} to {version}" for name, version in wanted[:10])
        return f"Update {steps}{' and others' if len(wanted) > 10 else ''}, then build the image again."

    def to_json(self) -> Mapping[str, Any]:
        """The row of the store: members of the advisory and of the packages, and values derived from both."""
        members = asdict(self.advisory)
        return {
            "vulnerability_id": members.pop("id"),
            **members,
            "packages": [asdict(package) for package in self.packages],
            "score": self.score,
            "fix_available": self.fix_available,
            "remediation": self.remediation,
        }


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding per vulnerability, worst first: joins the findings of several advisories about one."""
    found: dict[str, Advisory] = {}
    packages: dict[str, dict[tuple[str, ...], VulnerablePackage]] = {}
    for finding in findings:
        known = found.get(finding.vulnerability_id)
        found[finding.vulnerability_id] = finding.advisory if known is None else _joined(known, finding.advisory)
        # One vulnerability may be in thousands of packages: they are joined once, at the end.
        affected = packages.setdefault(finding.vulnerability_id, {})
        for package in finding.packages:
            key = (package.kind, package.name, package.version, package.architecture, package.location)
            if key not in affected or not affected[key].fixed_version:
                affected[key] = package
    whole = (
        Finding(advisory, tuple(packages[id][key] for key in sorted(packages[id])))
        for id, advisory in found.items()
    )
    return tuple(sorted(whole, key=lambda item: (SEVERITIES.index(item.severity), item.vulnerability_id)))


def _joined(one: Advisory, other: Advisory) -> Advisory:
    """The union of both."""
    return replace(
        one,
        severity=worst(one.severity, other.severity),
        title=one.title or other.title,
        description=one.description or other.description,
        source_url=one.source_url or other.source_url,
        vendor_severity=one.vendor_severity or other.vendor_severity,
        cvss=tuple(dict.fromkeys((*one.cvss, *other.cvss))),
        references=tuple(dict.fromkeys((*one.references, *other.references))),
        related=tuple(dict.fromkeys((*one.related, *other.related))),
        published=one.published or other.published,
        modified=max(one.modified, other.modified, key=instant),
    )
