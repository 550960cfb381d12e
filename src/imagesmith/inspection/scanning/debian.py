"""The JSON of the Debian security tracker: {source package: {CVE: {releases: {codename: ...}}}}. Pure.

status `resolved`      affected below fixed_version; never affected when that is 0
status `open`          affected, no fix yet
status `undetermined`  nobody knows: no advisory
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imagesmith.inspection.scanning.findings import severity_of, worst
from imagesmith.inspection.scanning.osv import MAX_TEXT, Advisory, Affected

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


def read_tracker(document: Mapping[str, Any]) -> Iterator[tuple[Advisory, tuple[Affected, ...]]]:
    """One advisory per source package and CVE."""
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
                yield _advisory(package, key, issue, releases), affected


def _affected(package: str, codename: str, release: Mapping[str, Any]) -> Affected | None:
    ecosystem = f"Debian:{_RELEASES.get(codename, codename)}"
    fixed = str(release.get("fixed_version", ""))
    if release.get("status") == "open":
        return Affected(ecosystem, package, ((("introduced", "0"),),))
    if release.get("status") == "resolved" and fixed not in ("", "0"):
        return Affected(ecosystem, package, ((("introduced", "0"), ("fixed", fixed)),))
    return None


def _advisory(package: str, key: str, issue: Mapping[str, Any], releases: Mapping[str, Any]) -> Advisory:
    words = {str(item.get("urgency", "")).strip("*") for item in releases.values() if isinstance(item, Mapping)}
    known = sorted(word for word in words if severity_of(word) != "UNTRIAGED")
    severity = severity_of("")
    for word in known:
        severity = worst(severity, severity_of(word))
    return Advisory(
        id=key,
        severity=severity,
        source="Debian security tracker",
        title=f"{key} - {package}",
        description=str(issue.get("description", ""))[:MAX_TEXT],
        source_url=f"{_URL}{key}",
        vendor_severity=", ".join(known or sorted(words - {""})),
        references=(f"{_URL}{key}",),
    )
