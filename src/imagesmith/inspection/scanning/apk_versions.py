"""The order of Alpine's versions, equal to `apk version -t`. Pure.

    1.2.3b_rc1_p2~0a1f-r4     numbers, one letter, suffixes with numbers, a commit, the revision of the package

    before the end            _alpha _beta _pre _rc, in this order
    after it, rising          -r  ~  number of a suffix  _cvs _svn _git _hg _p  letter  further number

The first different part decides; a part that only one of the versions has counts by its kind, so
1.0_rc1 < 1.0 < 1.0-r0 < 1.0~ab < 1.0_git1 < 1.0_p1 < 1.0a < 1.0.1. Further numbers are numbers unless they begin
with 0: those come before all others and compare as text, as digits behind a decimal point do (1.02 < 1.1).

The table of the tests was recorded with apk-tools 3.0.8.
"""

from __future__ import annotations

import re

ApkKey = tuple[tuple[int, int, str], ...]
"""(kind of the part, its number, its text), part by part."""

_VERSION = re.compile(
    r"(?P<numbers>[0-9]+(?:\.[0-9]+)*)(?P<letter>[a-z]?)"
    r"(?P<suffixes>(?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]*)*)"
    r"(?:~(?P<commit>[0-9a-f]+))?(?:-r(?P<revision>[0-9]+))?"
)
_SUFFIX = re.compile(r"_([a-z]+)([0-9]*)")
_BEFORE_THE_END = ("alpha", "beta", "pre", "rc")
_AFTER_THE_END = ("cvs", "svn", "git", "hg", "p")

_EARLY, _END, _REVISION, _COMMIT, _SUFFIX_NUMBER, _LATE, _LETTER, _NUMBER = range(-1, 7)
_MAX_NUMBER = 2**64 - 1
"""Above it apk's numbers overflow to 0: no real release has such a number."""


def apk_key(text: str) -> ApkKey | None:
    """The sort key of a version; None for a text that apk calls invalid."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    first, *further = match["numbers"].split(".")
    parts = [(_NUMBER, int(first), ""), *(_further(digits) for digits in further)]
    if match["letter"]:
        parts.append((_LETTER, 0, match["letter"]))
    for name, digits in _SUFFIX.findall(match["suffixes"]):
        parts.append(_suffix(name))
        if digits:
            parts.append((_SUFFIX_NUMBER, int(digits), ""))
    if match["commit"]:
        parts.append((_COMMIT, 0, match["commit"]))
    if match["revision"]:
        parts.append((_REVISION, int(match["revision"]), ""))
    if any(number > _MAX_NUMBER for _, number, _ in parts):
        return None
    return (*parts, (_END, 0, ""))


def _further(digits: str) -> tuple[int, int, str]:
    """A further number; with a leading 0 and more digits it compares as text."""
    return (_NUMBER, -1, digits) if digits.startswith("0") else (_NUMBER, int(digits), "")


def _suffix(name: str) -> tuple[int, int, str]:
    if name in _BEFORE_THE_END:
        return _EARLY, _BEFORE_THE_END.index(name), ""
    return _LATE, _AFTER_THE_END.index(name), ""
