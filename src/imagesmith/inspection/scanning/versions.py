"""The order of versions of each kind of package; by `univers`, except for two kinds.

Debian's versions, which take most of the time of a scan, are compared by keys of plain tuples instead of univers's
objects; a property test compares the two orders. Alpine's are compared as apk does (`apk_versions`): univers treats
them as Gentoo's.

An invalid version compares with nothing: callers get None and report that they could not decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from imagesmith.inspection.scanning.advisories import Event
from imagesmith.inspection.scanning.apk_versions import apk_key

_MakeKey = Callable[[str], Any]

_MAX_VERSION = 256
_BEGINNING: Event = ("introduced", "0")
"""Before any other version, even if 0 is not a version of the kind."""
_NO_LIMIT: Event = ("limit", "*")
_DEBIAN = re.compile(r"(?:([0-9]+):)?([A-Za-z0-9][A-Za-z0-9.+:~-]*?)(?:-([A-Za-z0-9.+~]+))?")
_ALTERNATING = re.compile(r"([^0-9]*)([0-9]*)")


class VersionOrder:
    """The order of one kind of packages; caches parsed versions, so use one per scan."""

    def __init__(self, kind: str) -> None:
        self._make = _maker(kind)
        self._parsed: dict[str, Any] = {}

    def parse(self, text: str) -> Any:
        """The sort key of a version in this order; None for an invalid version."""
        if text not in self._parsed:
            try:
                self._parsed[text] = self._make(text) if 0 < len(text) <= _MAX_VERSION else None
            except (ValueError, TypeError, AttributeError, IndexError):
                self._parsed[text] = None
        return self._parsed[text]

    def compare(self, one: str, other: str) -> int | None:
        """-1, 0 or 1; None when either is invalid."""
        if one == other:
            return 0
        left, right = self.parse(one), self.parse(other)
        if left is None or right is None:
            return None
        try:
            return -1 if left < right else int(left > right)
        except (TypeError, ValueError, AttributeError):
            return None


def _maker(kind: str) -> _MakeKey:
    # here, because a server needs it for its first scan only, and its import takes 5 % of the server's start
    from univers.versions import PypiVersion, RpmVersion, SemverVersion

    makers: dict[str, _MakeKey] = {
        "deb": _DebianOrder().key,
        "rpm": RpmVersion,
        "apk": apk_key,
        "pypi": PypiVersion,
        "npm": SemverVersion,
    }
    return makers[kind]


def in_range(order: VersionOrder, installed: str, events: Sequence[Event]) -> tuple[bool | None, str]:
    """Whether a version is in a range of OSV, and the version that fixes it (empty: none); None when undecidable.

    The algorithm of the specification: events are sorted by version; each that is not after the installed version
    switches the state. Events at one version keep the order of the document.
    """
    if len(events) == 2 and events[0] == ("introduced", "0") and events[1][0] == "fixed":
        # The most frequent range needs no sorting.
        side = order.compare(installed, events[1][1])
        return (None, "") if side is None else (True, events[1][1]) if side < 0 else (False, "")
    sides = [(event, _side(order, installed, event)) for event in events]
    limits = [side for (kind, _), side in sides if kind == "limit"]
    if any(side is None for _, side in sides):
        return None, ""
    if limits and all(side is not None and side >= 0 for side in limits):
        return False, ""
    inside = False
    fixes: list[str] = []
    for (kind, version), side in sorted(sides, key=lambda item: _Sortable(order, item[0])):
        assert side is not None
        if kind == "introduced" and side >= 0:
            inside = True
        elif (kind == "fixed" and side >= 0) or (kind == "last_affected" and side > 0):
            inside = False
        elif kind == "fixed":
            fixes.append(version)
    return (True, fixes[0] if fixes else "") if inside else (False, "")


def is_listed(order: VersionOrder, installed: str, versions: Sequence[str]) -> bool:
    """Whether a version is in the list, in any spelling: 1.0 is 1.0.0 for Python."""
    return installed in versions or any(order.compare(installed, version) == 0 for version in versions)


def _side(order: VersionOrder, installed: str, event: Event) -> int | None:
    """On which side of an event the installed version is."""
    if event == _BEGINNING:
        return 1
    return -1 if event == _NO_LIMIT else order.compare(installed, event[1])


class _DebianOrder:
    """Keys in the order of Debian policy 5.6.12: `~`, then the end, then letters, then the rest."""

    def __init__(self) -> None:
        self._letters: dict[str, tuple[int, ...]] = {}

    def key(self, text: str) -> tuple[Any, ...] | None:
        match = _DEBIAN.fullmatch(text)
        if match is None:
            return None
        epoch, upstream, revision = match.groups()
        return (int(epoch or 0), *self._part(upstream), None, *self._part(revision or "0"))

    def _part(self, text: str) -> list[Any]:
        # The empty match at the end of the text represents the end, after `~`.
        part: list[Any] = []
        for letters, digits in _ALTERNATING.findall(text):
            part.append(self._letters.get(letters) or self._letters.setdefault(letters, _letters_key(letters)))
            part.append(int(digits or 0))
        return part


def _letters_key(letters: str) -> tuple[int, ...]:
    return (*(-1 if item == "~" else ord(item) if item.isalpha() else ord(item) + 256 for item in letters), 0)


class _Sortable:
    """A sort key of events, whose versions were checked before."""

    def __init__(self, order: VersionOrder, event: Event) -> None:
        self._order = order
        self._version = event[1]
        self._rank = 0 if event == _BEGINNING else 2 if event == _NO_LIMIT else 1

    def __lt__(self, other: _Sortable) -> bool:
        if self._rank == other._rank == 1:
            return self._order.compare(self._version, other._version) == -1
        return self._rank < other._rank
