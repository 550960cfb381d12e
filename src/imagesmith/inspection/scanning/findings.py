"""What a scan finds: one Finding per vulnerability, with every package of the image that it affects. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Severity = Literal["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNTRIAGED"]

SEVERITIES: tuple[Severity, ...] = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNTRIAGED")
"""Worst first."""

_LABELS: Mapping[str, Severity] = {
    "CRITICAL": "CRITICAL",
    "HIGH": "HIGH",
    "IMPORTANT": "HIGH",
    "MEDIUM": "MEDIUM",
    "MODERATE": "MEDIUM",
    "LOW": "LOW",
    "MINOR": "LOW",
    "NEGLIGIBLE": "INFORMATIONAL",
    "UNIMPORTANT": "INFORMATIONAL",
    "INFORMATIONAL": "INFORMATIONAL",
    "NONE": "INFORMATIONAL",
}


@dataclass(frozen=True)
class Cvss:
    """A CVSS vector; `score` is the base score, 0.0 to 10.0, or None when only the vector is known."""

    version: str
    vector: str
    source: str
    score: float | None


@dataclass(frozen=True)
class VulnerablePackage:
    """A package that is affected; an empty `fixed_version` says that no fix is known."""

    name: str
    version: str
    architecture: str
    kind: str
    location: str
    fixed_version: str


@dataclass(frozen=True)
class Finding:
    """One vulnerability. Dates are ISO texts, empty when unknown."""

    vulnerability_id: str
    severity: Severity
    packages: tuple[VulnerablePackage, ...]
    source: str
    title: str = ""
    description: str = ""
    source_url: str = ""
    vendor_severity: str = ""
    cvss: tuple[Cvss, ...] = ()
    references: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    published: str = ""
    modified: str = ""

    @property
    def score(self) -> float | None:
        """The highest base score that is known."""
        return max((item.score for item in self.cvss if item.score is not None), default=None)

    @property
    def fix_available(self) -> Literal["YES", "NO", "PARTIAL"]:
        fixed = [bool(package.fixed_version) for package in self.packages]
        return "YES" if all(fixed) else "PARTIAL" if any(fixed) else "NO"

    @property
    def remediation(self) -> str:
        """One sentence: what to update to what."""
        wanted = sorted({(item.name, item.fixed_version) for item in self.packages if item.fixed_version})
        if not wanted:
            return "No fixed version is known; remove the package, or watch for an update."
        steps = ", ".join(f"{name} to {version}" for name, version in wanted[:10])
        return f"Update {steps}{' and others' if len(wanted) > 10 else ''}, then build the image again."

    def to_json(self) -> dict[str, Any]:
        derived = {"score": self.score, "fix_available": self.fix_available, "remediation": self.remediation}
        return {**asdict(self), **derived}


def severity_of(label: str) -> Severity:
    """The label of the API for the word that a feed uses; UNTRIAGED for one that says nothing."""
    return _LABELS.get(label.strip(" *").upper(), "UNTRIAGED")


def severity_of_score(score: float) -> Severity:
    """The rating scale of CVSS v3.1, section 5."""
    for floor, label in ((9.0, "CRITICAL"), (7.0, "HIGH"), (4.0, "MEDIUM"), (0.1, "LOW")):
        if score >= floor:
            return severity_of(label)
    return "INFORMATIONAL"


def worst(one: Severity, other: Severity) -> Severity:
    return min(one, other, key=SEVERITIES.index)


def merged(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding per vulnerability, worst first: what several advisories say about one is put together."""
    found: dict[str, Finding] = {}
    for finding in findings:
        known = found.get(finding.vulnerability_id)
        found[finding.vulnerability_id] = finding if known is None else _joined(known, finding)
    return tuple(sorted(found.values(), key=lambda item: (SEVERITIES.index(item.severity), item.vulnerability_id)))


def _joined(one: Finding, other: Finding) -> Finding:
    packages: dict[tuple[str, ...], VulnerablePackage] = {}
    for package in (*one.packages, *other.packages):
        key = (package.kind, package.name, package.version, package.architecture, package.location)
        if key not in packages or not packages[key].fixed_version:
            packages[key] = package
    return replace(
        one,
        severity=worst(one.severity, other.severity),
        packages=tuple(packages[key] for key in sorted(packages)),
        title=one.title or other.title,
        description=one.description or other.description,
        source_url=one.source_url or other.source_url,
        vendor_severity=one.vendor_severity or other.vendor_severity,
        cvss=tuple(dict.fromkeys((*one.cvss, *other.cvss))),
        references=tuple(dict.fromkeys((*one.references, *other.references))),
        related=tuple(dict.fromkeys((*one.related, *other.related))),
        published=one.published or other.published,
        modified=max(one.modified, other.modified),
    )
