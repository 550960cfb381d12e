"""Advisories in OSV format (schema 1.x): one document into what the matcher needs. Pure.

A document that is withdrawn, or that names no package in a known way, gives no advisory; a field of the wrong kind
counts as absent. Feeds are data of others: nothing here raises for what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from imagesmith.inspection.scanning.cvss import read_vector
from imagesmith.inspection.scanning.findings import Cvss, Severity, severity_of, severity_of_score

Event = tuple[str, str]
"""(`introduced`, `fixed` or `last_affected`; the version it happened in). `introduced` 0: from the beginning."""

MAX_TEXT = 1024
"""Characters of a text that the API shows at most."""

_MAX_REFERENCES = 20
_EVENTS = ("introduced", "fixed", "last_affected")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")


@dataclass(frozen=True)
class Affected:
    """Which versions of one package are affected: those listed, and those in a range."""

    ecosystem: str
    name: str
    ranges: tuple[tuple[Event, ...], ...]
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advisory:
    """What a finding says about a vulnerability, apart from the packages."""

    id: str
    severity: Severity
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

    def to_json(self) -> dict[str, Any]:
        shown = {name: value for name in ADVISORY_MEMBERS if (value := getattr(self, name))}
        return shown | ({"cvss": [asdict(item) for item in self.cvss]} if self.cvss else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Advisory:
        cvss = tuple(Cvss(**item) for item in data.get("cvss", ()))
        lists = {name: tuple(data.get(name, ())) for name in ("references", "related")}
        return cls(**{**data, **lists, "cvss": cvss})


ADVISORY_MEMBERS = tuple(item.name for item in fields(Advisory))


def normal_name(ecosystem: str, name: str) -> str:
    """Names of Python packages are the same in many spellings (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower() if ecosystem == "PyPI" else name


def read_osv(document: Mapping[str, Any]) -> tuple[Advisory, tuple[Affected, ...]] | None:
    """The advisory of a document and the packages that it affects; None when there is nothing to match."""
    key = _text(document, "id")
    if not key or document.get("withdrawn"):
        return None
    entries = [entry for entry in _list(document, "affected") if isinstance(entry, Mapping)]
    affected = tuple(found for entry in entries if (found := _affected(entry)) is not None)
    if not affected:
        return None
    return _advisory(key, document, entries), affected


def _advisory(key: str, document: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Advisory:
    cvss = tuple(dict.fromkeys(_vectors(key, [document, *entries])))
    label = next((found for place in [document, *entries] if (found := _label(place))), "")
    scores = [item.score for item in cvss if item.score is not None]
    severity = severity_of(label)
    if severity == "UNTRIAGED" and scores:
        severity = severity_of_score(max(scores))
    others = [str(item) for name in ("aliases", "upstream") for item in _list(document, name)]
    cves = sorted({match for match in others if _CVE.fullmatch(match)})
    # An advisory of a distribution about one CVE is that CVE; one about several keeps its own name.
    named = cves[0] if len(cves) == 1 and not _CVE.fullmatch(key) else key
    return Advisory(
        id=named,
        severity=severity,
        source=_source(entries),
        title=_text(document, "summary") or named,
        description=_text(document, "details"),
        source_url=f"https://osv.dev/vulnerability/{key}",
        vendor_severity=label,
        cvss=cvss,
        references=tuple(_references(document)),
        related=tuple(sorted({*others, key} - {named})),
        published=_text(document, "published"),
        modified=_text(document, "modified"),
    )


def _affected(entry: Mapping[str, Any]) -> Affected | None:
    package = entry.get("package")
    if not isinstance(package, Mapping):
        return None
    ecosystem, name = _text(package, "ecosystem"), _text(package, "name")
    ranges = tuple(
        events
        for item in _list(entry, "ranges")
        if isinstance(item, Mapping) and item.get("type") in ("ECOSYSTEM", "SEMVER") and (events := _events(item))
    )
    versions = tuple(str(item) for item in _list(entry, "versions"))
    if not ecosystem or not name or not (ranges or versions):
        return None
    return Affected(ecosystem, normal_name(ecosystem, name), ranges, versions)


def _events(item: Mapping[str, Any]) -> tuple[Event, ...]:
    return tuple(
        (kind, str(event[kind]))
        for event in _list(item, "events")
        if isinstance(event, Mapping)
        for kind in _EVENTS
        if kind in event
    )


def _vectors(key: str, places: Sequence[Mapping[str, Any]]) -> list[Cvss]:
    found = [
        read_vector(str(item.get("score", "")), key.partition("-")[0])
        for place in places
        for item in _list(place, "severity")
        if isinstance(item, Mapping)
    ]
    return [item for item in found if item is not None]


def _label(place: Mapping[str, Any]) -> str:
    for name in ("database_specific", "ecosystem_specific"):
        inner = place.get(name)
        if isinstance(inner, Mapping):
            label = _text(inner, "severity") or _text(inner, "urgency")
            if label:
                return label
    return ""


def _source(entries: Sequence[Mapping[str, Any]]) -> str:
    package = entries[0].get("package") if entries else None
    ecosystem = _text(package, "ecosystem") if isinstance(package, Mapping) else ""
    return f"OSV {ecosystem.partition(':')[0]}".strip()


def _references(document: Mapping[str, Any]) -> list[str]:
    found = [_text(item, "url") for item in _list(document, "references") if isinstance(item, Mapping)]
    return [url for url in dict.fromkeys(found) if url][:_MAX_REFERENCES]


def _text(place: Mapping[str, Any], name: str) -> str:
    value = place.get(name)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _list(place: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = place.get(name)
    return value if isinstance(value, list) else ()
