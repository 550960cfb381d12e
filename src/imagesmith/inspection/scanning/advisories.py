"""The advisory in one document of a feed, ready for matching. Plain data.

Record      one document: its name in the feed, its time of modification, and unless it was withdrawn
  Advisory  the content of a finding, apart from the packages
  Affected  the affected versions of packages; with their own Rating where the document has one
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from imagesmith.inspection.scanning.severities import Cvss, Severity

Event = tuple[str, str]
"""(`introduced`, `fixed`, `last_affected` or `limit`; its version). `introduced` 0: from the beginning."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MAX_TEXT = 1024
"""Most characters of a text in the API."""


@dataclass(frozen=True)
class Rating:
    """A severity, in the rater's words and as a label of the API."""

    severity: Severity
    label: str = ""
    cvss: tuple[Cvss, ...] = ()

    def to_json(self) -> Mapping[str, Any]:
        return {"severity": self.severity, "label": self.label, "cvss": [asdict(item) for item in self.cvss]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rating:
        return cls(data["severity"], data["label"], tuple(Cvss(**item) for item in data["cvss"]))


@dataclass(frozen=True)
class Affected:
    """Which versions of one package are affected: those listed, and those in a range."""

    ecosystem: str
    name: str
    ranges: tuple[tuple[Event, ...], ...]
    versions: tuple[str, ...] = ()
    rating: Rating | None = None
    """The severity for this package; None: the severity of the advisory."""
    stream: str = ""
    """Affected modules of rpm packages, `NAME:STREAM` separated by blanks; empty: the document states none."""

    @property
    def stated_versions(self) -> tuple[str, ...]:
        """Every version that it names, except those for the beginning and the end."""
        events = (version for events in self.ranges for _, version in events if version not in ("0", "*"))
        return (*events, *self.versions)


@dataclass(frozen=True)
class Advisory:
    """The description of a vulnerability, apart from the packages. Dates are ISO texts, or empty."""

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

    def to_json(self) -> Mapping[str, Any]:
        shown = {name: value for name in _MEMBERS if (value := getattr(self, name))}
        return shown | ({"cvss": [asdict(item) for item in self.cvss]} if self.cvss else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Advisory:
        cvss = tuple(Cvss(**item) for item in data.get("cvss", ()))
        lists = {name: tuple(data.get(name, ())) for name in ("references", "related")}
        return cls(**{**data, **lists, "cvss": cvss})


_MEMBERS = tuple(item.name for item in fields(Advisory))


@dataclass(frozen=True)
class AdvisoryRecord:
    """One document of a feed. Of several with one `key`, in any feeds, the last modified counts.

    A record without `advisory` withdraws those before it.
    """

    key: str
    modified: int
    """Microseconds since 1970; 0 when the document states no time."""
    advisory: Advisory | None
    affected: tuple[Affected, ...] = ()
    withdrawn: bool = False
    names: tuple[str, ...] = ()
    """Every name of the vulnerabilities that it is about; `related` of an advisory may have others too."""


def rated(advisory: Advisory, affected: Affected) -> Advisory:
    """An advisory with the severity that it has for one of its packages."""
    own = affected.rating
    if own is None:
        return advisory
    return replace(advisory, severity=own.severity, vendor_severity=own.label, cvss=own.cvss or advisory.cvss)


def instant(text: str) -> int:
    """Microseconds since 1970 of an ISO instant, for comparing: `.5Z` is later than `Z`; 0 for any other text."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return 0
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)
