"""Severities of vulnerabilities: labels of the API, words of feeds, CVSS vectors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

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


def severity_of(label: str) -> Severity:
    """The label of the API for a feed's word; UNTRIAGED for an unknown word."""
    return _LABELS.get(label.strip(" *").upper(), "UNTRIAGED")


def severity_of_score(score: float, version: str = "3.1") -> Severity:
    """The rating scale of CVSS v3 and v4; NVD's scale for version 2 ends at HIGH."""
    if version.startswith("2"):
        return severity_of_score(min(score, 8.9))
    for floor, label in ((9.0, "CRITICAL"), (7.0, "HIGH"), (4.0, "MEDIUM"), (0.1, "LOW")):
        if score >= floor:
            return severity_of(label)
    return "INFORMATIONAL"


def severity_of_cvss(cvss: Iterable[Cvss]) -> Severity:
    """The worst of several scores; version 2 only counts without a score of a later version."""
    scored = [(item.version, item.score) for item in cvss if item.score is not None]
    newer = [item for item in scored if not item[0].startswith("2")]
    return worst(*(severity_of_score(score, version) for version, score in newer or scored))


def severity_by(label: str, cvss: Iterable[Cvss]) -> Severity:
    """The severity of the label, or of the scores when the label is UNTRIAGED."""
    severity = severity_of(label)
    return severity_of_cvss(cvss) if severity == "UNTRIAGED" else severity


def worst(*severities: Severity) -> Severity:
    """The worst severity; UNTRIAGED only when there is no other."""
    return min(severities, key=SEVERITIES.index, default="UNTRIAGED")
