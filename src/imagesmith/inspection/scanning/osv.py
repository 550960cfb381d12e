"""Advisories in OSV format (schema 1.x): converts one document to the matcher's records. Pure.

A withdrawn document still ends earlier advisories under its name; one without a known form of package and without
a time of modification is ignored. A field of the wrong type counts as absent. Feeds are untrusted: nothing here
raises because of their content.

The severity comes from the first of: the entry of the package, by label and else by CVSS; the document, by label,
by the first word of titles of AlmaLinux, Rocky Linux and Red Hat, and else by CVSS; the worst of the other entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagesmith.inspection.scanning.advisories import (
    MAX_TEXT,
    Advisory,
    AdvisoryRecord,
    Affected,
    Event,
    Rating,
    instant,
)
from imagesmith.inspection.scanning.cvss import read_vector
from imagesmith.inspection.scanning.ecosystems import is_distribution
from imagesmith.inspection.scanning.modules import is_modular, streams_named
from imagesmith.inspection.scanning.severities import Cvss, severity_by, severity_of, worst
from imagesmith.values.package_names import normal_name

_MAX_REFERENCES = 20
_EVENTS = ("introduced", "fixed", "last_affected", "limit")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")
_SCORE = re.compile(r"10(\.0)?|[0-9](\.[0-9])?")
_TITLE = re.compile(r"(Critical|Important|Moderate|Low):")
_LABELS = ("severity", "urgency", "ubuntu_priority")
_CVSS = ("cvss", "cvss_score", "cvss_vector", "cvss_v2", "cvss_v3", "cvss_v4")
"""Members of `database_specific` and `ecosystem_specific`, whose form the schema leaves open."""
_SPECIFIC = ("database_specific", "ecosystem_specific")
_MAX_NESTED = 40
"""Most values that are read in one of those members, including its lists and objects."""


def read_osv(document: Mapping[str, Any]) -> AdvisoryRecord | None:
    """The record of a document; None when it states nothing."""
    key, modified = _text(document, "id"), instant(_text(document, "modified"))
    if not key:
        return None
    if document.get("withdrawn"):
        # At equal times the withdrawal is the later one: a document is not withdrawn before it is written.
        return AdvisoryRecord(key, max(modified, instant(_text(document, "withdrawn"))) + 1, None, withdrawn=True)
    entries = [entry for entry in _list(document, "affected") if isinstance(entry, Mapping)]
    title = _text(document, "summary")
    affected = tuple(found for entry in entries if (found := _affected(key, title, entry)) is not None)
    if not affected:
        return AdvisoryRecord(key, modified, None) if modified else None
    advisory = _advisory(key, document, entries, affected)
    return AdvisoryRecord(key, modified, advisory, affected, names=_names(key, document, affected))


def _advisory(
    key: str, document: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], affected: Sequence[Affected]
) -> Advisory:
    rating = _rating(key, document)
    severity, label = rating.severity, rating.label
    if severity == "UNTRIAGED":
        severity = worst(*(item.rating.severity for item in affected if item.rating is not None))
    others = [str(item) for name in ("aliases", "upstream", "related") for item in _list(document, name)]
    named = _advisory_name(key, document, affected)
    return Advisory(
        id=named,
        severity=severity,
        source=_source(entries),
        title=_text(document, "summary") or named,
        description=_text(document, "details"),
        source_url=f"https://osv.dev/vulnerability/{key}",
        vendor_severity=label,
        cvss=rating.cvss,
        references=tuple(_references(document)),
        related=tuple(sorted({*others, key} - {named})),
        published=_text(document, "published"),
        modified=_text(document, "modified"),
    )


def _names(key: str, document: Mapping[str, Any], affected: Sequence[Affected]) -> tuple[str, ...]:
    """The names of what a document is about: `related` counts only where _advisory_name() may read it."""
    members = ["aliases", "upstream"]
    if all(is_distribution(item.ecosystem) for item in affected):
        members.append("related")
    return (key, *(str(item)[:MAX_TEXT] for name in members for item in _list(document, name)))


def _advisory_name(key: str, document: Mapping[str, Any], affected: Sequence[Affected]) -> str:
    """An advisory about one CVE is that CVE; one about several keeps its own name.

    `related` names may be entirely different vulnerabilities, except in records of distributions that list the
    CVEs they fix only there, such as AlmaLinux.
    """
    if _CVE.fullmatch(key):
        return key
    groups: list[tuple[str, ...]] = [("aliases", "upstream")]
    if all(is_distribution(item.ecosystem) for item in affected):
        groups.append(("related",))
    for names in groups:
        cves = {str(item) for name in names for item in _list(document, name) if _CVE.fullmatch(str(item))}
        if cves:
            return cves.pop() if len(cves) == 1 else key
    return key


def _affected(key: str, title: str, entry: Mapping[str, Any]) -> Affected | None:
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
    rating = _rating(key, entry)
    return Affected(
        ecosystem, normal_name(ecosystem, name), ranges, versions,
        rating=None if rating.severity == "UNTRIAGED" else rating,
        stream=streams_named(title, _text(package, "purl")) if _is_modular(ranges, versions) else "",
    )  # fmt: skip


def _is_modular(ranges: Sequence[Sequence[Event]], versions: Sequence[str]) -> bool:
    return any(is_modular(version) for version in (*versions, *(event[1] for events in ranges for event in events)))


def _events(item: Mapping[str, Any]) -> tuple[Event, ...]:
    """A null version counts as absent; a range without a start begins with the first version."""
    events = tuple(
        (kind, str(event[kind]))
        for event in _list(item, "events")
        if isinstance(event, Mapping)
        for kind in _EVENTS
        if event.get(kind) not in (None, "")
    )
    if events and not any(kind == "introduced" for kind, _ in events):
        return (("introduced", "0"), *events)
    return events


def _rating(key: str, section: Mapping[str, Any]) -> Rating:
    """The severity that a document, or one of its entries, states."""
    items = [item for item in _list(section, "severity") if isinstance(item, Mapping)]
    scores = [_cvss(item, key) for item in items] + list(_specific_scores(section, key))
    cvss = tuple(dict.fromkeys(found for found in scores if found is not None))
    # The score of other types, such as `Ubuntu`, is a label.
    labels = [_text(item, "score") for item in items if not str(item.get("type", "")).startswith("CVSS")]
    labels += _labels(section)
    label = next((item for item in labels if severity_of(item) != "UNTRIAGED"), next(iter(labels), ""))
    return Rating(severity_by(label, cvss), label, cvss)


def _cvss(item: Mapping[str, Any], key: str) -> Cvss | None:
    """The vector of a `severity`; some databases write the bare score."""
    text = str(item.get("score", "")).strip()
    source = key.partition("-")[0]
    kind = re.fullmatch(r"CVSS_V([234])", str(item.get("type", "")))
    if kind and _SCORE.fullmatch(text):
        return Cvss(f"{kind[1]}.0", "", source, float(text))
    if kind and kind[1] == "3" and text.upper().startswith("AV:"):
        text = f"CVSS:3.1/{text}"  # the type states the version, so some omit it from the vector
    return read_vector(text, source)


def _specific_scores(section: Mapping[str, Any], key: str) -> Iterator[Cvss | None]:
    """Vectors and bare scores in members that a database adds: `"cvss": {"vectorString": ..., "score": 9.8}`."""
    source = key.partition("-")[0]
    for name in _SPECIFIC:
        values = {member: list(_nested(_mapping(section, name).get(member))) for member in ("severity", *_CVSS)}
        texts = (str(value) for found in values.values() for value in found)
        vectors = [found for text in texts if (found := read_vector(text, source)) is not None]
        yield from vectors
        if any(vector.score is not None for vector in vectors):
            continue  # a number beside a vector is its score or a partial score
        # a number in `severity` may have any scale
        numbers = (str(value) for member in _CVSS for value in values[member])
        yield from (Cvss("3.0", "", source, float(text)) for text in numbers if _SCORE.fullmatch(text))


def _labels(section: Mapping[str, Any]) -> Iterator[str]:
    for name in _SPECIFIC:
        values = (value for label in _LABELS for value in _nested(_mapping(section, name).get(label)))
        yield from (value for value in values if isinstance(value, str) and value)
    title = _TITLE.match(_text(section, "summary"))
    if title is not None:
        yield title[1]


def _nested(value: Any) -> Iterator[Any]:
    """The first few texts and numbers in a value, including its lists and objects."""
    waiting = [value]
    for _ in range(_MAX_NESTED):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, str):
            yield value[:MAX_TEXT]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield value
        elif isinstance(value, list):
            waiting += reversed(value[:_MAX_NESTED])
        elif isinstance(value, Mapping):
            waiting += reversed(list(value.values())[:_MAX_NESTED])


def _source(entries: Sequence[Mapping[str, Any]]) -> str:
    package = entries[0].get("package") if entries else None
    ecosystem = _text(package, "ecosystem") if isinstance(package, Mapping) else ""
    return f"OSV {ecosystem.partition(':')[0]}".strip()


def _references(document: Mapping[str, Any]) -> list[str]:
    found = [_text(item, "url") for item in _list(document, "references") if isinstance(item, Mapping)]
    return [url for url in dict.fromkeys(found) if url][:_MAX_REFERENCES]


def _text(section: Mapping[str, Any], name: str) -> str:
    value = section.get(name)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _mapping(section: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = section.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(section: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = section.get(name)
    return value if isinstance(value, list) else ()
