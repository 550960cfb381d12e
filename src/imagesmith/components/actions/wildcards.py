"""`*` in paths and names: its allowed positions, and its form for a shell or a regular expression."""

from __future__ import annotations

import fnmatch
import posixpath
import re

from imagesmith.components.actions.base import ActionFailed


def pattern_argument(name: str) -> str:
    """A name with `*` as a pattern of the shell's `case`, everything else literal."""
    return "".join(char if char == "*" or char.isalnum() else f"\\{char}" for char in name)


def split_wildcard(path: str) -> tuple[str, str]:
    """Folder and last segment; only the last one may hold `*`. Raises ActionFailed."""
    folder, name = posixpath.split(path)
    if "*" in folder:
        raise ActionFailed(f"'{path}': * is allowed only after the last separator")
    return folder or ".", name


def star_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern for names in which only `*` is special; it never backtracks over more than one star."""
    return re.compile(fnmatch.translate(re.sub(r"([\[?])", r"[\1]", pattern)))
