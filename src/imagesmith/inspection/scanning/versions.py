"""The order of versions, as each kind of package has it; by `univers`.

Debian's versions, which most of the time of a scan goes into, are compared by keys of plain tuples instead of by
the objects of univers; a property test holds the two orders together.

A version that its kind does not allow compares with nothing: callers get None and say that they could not decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from univers.versions import (
    AlpineLinuxVersion,
    DebianVersion,
    InvalidVersion,
    PypiVersion,
    RpmVersion,
    SemverVersion,
)

from imagesmith.inspection.scanning.osv import Event

_CLASSES: Mapping[str, type[Any]] = {
    "deb": DebianVersion,
    "rpm": RpmVersion,
    "apk": AlpineLinuxVersion,
    "pypi": PypiVersion,
    "npm": SemverVersion,
}
_MAX_VERSION = 256
_DEBIAN = re.compile(r"(?:([0-9]+):)?([A-Za-z0-9][A-Za-z0-9.+:~-]*?)(?:-([A-Za-z0-9.+~]+))?")
_ALTERNATING = re.compile(r"([^0-9]*)([0-9]*)")


class VersionOrder:
    """The order of one kind of packages; remembers what it parsed, so use one per scan."""

    def __init__(self, kind: str) -> None:
        self._class = _CLASSES[kind]
        self._debian = _DebianOrder() if kind == "deb" else None
        self._parsed: dict[str, Any] = {}

    def parse(self, text: str) -> Any:
        """Something that compares with others of this order; None for a text that is no version."""
        if text not in self._parsed:
            try:
                self._parsed[text] = self._make(text) if 0 < len(text) <= _MAX_VERSION else None
            except (InvalidVersion, ValueError, TypeError, AttributeError, IndexError):
                self._parsed[text] = None
        return self._parsed[text]

    def _make(self, text: str) -> Any:
        return self._class(text) if self._debian is None else self._debian.key(text)

    def compare(self, one: str, other: str) -> int | None:
        """-1, 0 or 1; None when either is no version."""
        if one == other:
            return 0
        left, right = self.parse(one), self.parse(other)
        if left is None or right is None:
            return None
        try:
            return -1 if left < right else int(left > right)
        except (TypeError, ValueError, AttributeError):
            return None


def in_range(order: VersionOrder, installed: str, events: Sequence[Event]) -> tuple[bool | None, str]:
    """Whether a version is in a range of OSV, and the version that fixes it (empty: none); None when undecidable.

    The last event that is not after the installed version decides. Events come in the order of their versions in
    nearly every feed, so they are sorted only where more than one begins a part.
    """
    passed: list[tuple[str, str]] = []
    fixes: list[str] = []
    for kind, version in events:
        side = 1 if kind == "introduced" and version == "0" else order.compare(installed, version)
        if side is None:
            return None, ""
        if kind == "fixed" and side < 0:
            fixes.append(version)
        if side > 0 or (side == 0 and kind != "last_affected"):
            passed.append((kind, version))
    if not passed:
        return False, ""
    last = passed[-1] if len(passed) < 3 else max(passed, key=lambda event: _Sortable(order, event[1]))
    return (True, _lowest(order, fixes)) if last[0] == "introduced" else (False, "")


class _DebianOrder:
    """Keys that compare as Debian policy 5.6.12 says: `~` before the end, that before letters, those before the
    rest."""

    def __init__(self) -> None:
        self._letters: dict[str, tuple[int, ...]] = {}

    def key(self, text: str) -> tuple[Any, ...] | None:
        match = _DEBIAN.fullmatch(text)
        if match is None:
            return None
        epoch, upstream, revision = match.groups()
        return (int(epoch or 0), *self._part(upstream), None, *self._part(revision or "0"))

    def _part(self, text: str) -> list[Any]:
        # The empty match at the end of the text stands for the end, which `~` must come before.
        part: list[Any] = []
        for letters, digits in _ALTERNATING.findall(text):
            part.append(self._letters.get(letters) or self._letters.setdefault(letters, _letters_key(letters)))
            part.append(int(digits or 0))
        return part


def _letters_key(letters: str) -> tuple[int, ...]:
    return (*(-1 if item == "~" else ord(item) if item.isalpha() else ord(item) + 256 for item in letters), 0)


def _lowest(order: VersionOrder, versions: Sequence[str]) -> str:
    return min(versions, key=lambda version: _Sortable(order, version)) if versions else ""


class _Sortable:
    """A version in an order, for min and max; what was passed or is ahead was parsed before."""

    def __init__(self, order: VersionOrder, version: str) -> None:
        self._order = order
        self._version = version

    def __lt__(self, other: _Sortable) -> bool:
        if "0" in (self._version, other._version):
            # `introduced` 0 is before everything, also where 0 is no version of the kind.
            return self._version == "0" != other._version
        return self._order.compare(self._version, other._version) == -1
