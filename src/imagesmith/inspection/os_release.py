"""The operating system of a root, from its os-release.

etc/os-release           or usr/lib/os-release: assignments in the syntax of a shell
"""

from __future__ import annotations

import re

from imagesmith.inspection.files import Files, UnreadableDatabase, opened
from imagesmith.inspection.packages import MAX_FIELD, OsRelease

_PATHS = ("etc/os-release", "usr/lib/os-release")
_MAX_BYTES = 64 * 1024
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
_QUOTED = re.compile(r""""((?:[^"\\]|\\.)*)"|'([^']*)'|((?:[^\s"'\\]|\\.)+)""")
_ESCAPED = re.compile(r"\\(.)")
_ESCAPED_IN_QUOTES = re.compile(r"\\([\"$`\\])")


def read_os_release(files: Files) -> OsRelease:
    """The operating system; all parts are empty when the root states none."""
    values: dict[str, str] = {}
    for line in _text(files).split("\n"):
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is not None and len(match[2]) <= MAX_FIELD:
            values[match[1]] = _unquoted(match[2])
    return OsRelease(
        name=values.get("NAME", ""),
        version_id=values.get("VERSION_ID", ""),
        pretty=values.get("PRETTY_NAME", ""),
        id=values.get("ID", ""),
        like=values.get("ID_LIKE", ""),
    )


def _text(files: Files) -> str:
    for path in _PATHS:
        try:
            with opened(files, path) as file:
                if file is not None:
                    return file.read(_MAX_BYTES).decode(errors="replace")
        except UnreadableDatabase:
            # Callers that need the system see that a file exists: it counts as a sign of a distribution.
            continue
    return ""


def _unquoted(value: str) -> str:
    """A value as a shell reads it: up to the first blank outside quotes; a badly quoted rest is cut off."""
    parts: list[str] = []
    position = 0
    while (match := _QUOTED.match(value, position)) is not None:
        double, single, bare = match.groups()
        if double is not None:
            parts.append(_ESCAPED_IN_QUOTES.sub(r"\1", double))
        else:
            parts.append(single if single is not None else _ESCAPED.sub(r"\1", bare))
        position = match.end()
    return "".join(parts)
