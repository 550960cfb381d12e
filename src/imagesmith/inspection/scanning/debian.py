"""The JSON of the Debian security tracker: {source package: {CVE: {releases: {codename: ...}}}}. Pure.

status `resolved`      affected below fixed_version; never affected when that is 0
status `open`          affected, no fix yet
status `undetermined`  unknown: no advisory
urgency                the severity for this release; `not yet assigned` and similar words count as none
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagesmith.inspection.scanning.advisories import MAX_TEXT, Advisory, AdvisoryRecord, Affected, Rating
from imagesmith.inspection.scanning.severities import severity_of, worst

_RELEASES: Mapping[str, str] = {
    "stretch": "9", "buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14", "duke": "15",
}  # fmt: skip
"""Codename -> VERSION_ID; a release that is not listed keeps its codename and matches no numbered one."""

_URL = "https://security-tracker.debian.org/tracker/"


def is_tracker(document: Any) -> bool:
    """Whether a JSON document looks like the tracker's export."""
    if not isinstance(document, Mapping) or "affected" in document:
        return False
    first = next(iter(document.values()), None)
    inner = next(iter(first.values()), None) if isinstance(first, Mapping) else None
    return isinstance(inner, Mapping) and isinstance(inner.get("releases"), Mapping)


def read_tracker(document: Mapping[str, Any]) -> Iterator[AdvisoryRecord]:
    """One record per source package and CVE."""
    for package, issues in document.items():
        for key, issue in issues.items() if isinstance(issues, Mapping) else ():
            releases = issue.get("releases") if isinstance(issue, Mapping) else None
            if not isinstance(releases, Mapping):
                continue
            affected = tuple(
                found
                for codename, release in releases.items()
                if isinstance(release, Mapping) and (found := _affected(package, codename, release)) is not None
            )
            if affected:
                yield AdvisoryRecord(f"{package} {key}", 0, _advisory(package, key, issue, affected), affected)


def _affected(package: str, codename: str, release: Mapping[str, Any]) -> Affected | None:
    ecosystem = f"Debian:{_RELEASES.get(codename, codename)}"
    fixed = str(release.get("fixed_version", ""))
    label = str(release.get("urgency", "")).strip("*")
    rating = Rating(severity_of(label), label)
    if release.get("status") == "open":
        return Affected(ecosystem, package, ((("introduced", "0"),),), rating=rating)
    if release.get("status") == "resolved" and fixed not in ("", "0"):
        return Affected(ecosystem, package, ((("introduced", "0"), ("fixed", fixed)),), rating=rating)
    return None


def _advisory(package: str, key: str, issue: Mapping[str, Any], affected: Sequence[Affected]) -> Advisory:
    """Every release states its own severity; a finding never shows the severity of another release."""
    return Advisory(
        id=key,
        severity=worst(*(item.rating.severity for item in affected if item.rating is not None)),
        source="Debian security tracker",
        title=f"{key} - {package}",
        description=str(issue.get("description", ""))[:MAX_TEXT],
        source_url=f"{_URL}{key}",
        references=(f"{_URL}{key}",),
    )
