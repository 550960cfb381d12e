"""What the sources of an instruction are: paths and patterns in the source root, and pivots of --parents."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imagesmith.copying.program.failures import CopyBudget, UserFailure, about, shown
from imagesmith.copying.program.patterns import PathPattern, cleaned, has_wildcards, unescaped
from imagesmith.copying.program.roots import RootFolder, text_of, words_of

_MOST_HINTS: Final = 3
_MOST_NAMES: Final = 5000


@dataclass(frozen=True)
class FoundItem:
    """A file or folder to copy."""

    names: tuple[str, ...]
    """Where it is, without links."""
    name: str
    """Its name in the instruction: that of a link, if it is one."""
    is_folder: bool


def find_items(root: RootFolder, pattern: str, budget: CopyBudget) -> list[FoundItem]:
    """The items that a path or pattern stands for, sorted; none for a path that is not there.

    Links that it names are followed. Raises UserFailure for one that leads nowhere.
    """
    path = cleaned(pattern)
    if not has_wildcards(path):
        found = _item(root, path) or _item(root, unescaped(path))
        return [found] if found else []
    words = words_of(path)
    first = next(number for number, word in enumerate(words) if has_wildcards(word))
    patterns = [PathPattern(word) for word in words[first:]]
    base = root.resolve(text_of(words[:first]))
    items: list[FoundItem] = []
    for names in sorted(_walk(root, base, patterns, budget)):
        item = _item(root, text_of(names))
        if item is None:
            raise UserFailure(f'"{shown(text_of(names))}": not found: it is a link that leads nowhere')
        items.append(item)
    return items


def split_pivot(pattern: str) -> tuple[str, str]:
    """The folder that --parents begins at, and the pattern below it."""
    pivot, mark, below = pattern.partition("/./")
    if not mark:
        pivot, below = "/", pattern
    return pivot or "/", cleaned(below).lstrip("/")


def check_plain_parents(root: RootFolder, pivot: str, below: str) -> None:
    """Raise UserFailure for a source of --parents, without wildcards, that is not there or is behind a link."""
    path = cleaned(f"{pivot}/{below}")
    behind = root.resolve(unescaped(cleaned(pivot)))
    names = (*behind, *words_of(unescaped(below)))
    if root.status(names):
        return
    real = root.resolve(unescaped(path))
    if root.status(real):
        raise UserFailure(
            f'"{shown(path)}": a link is on the way, and --parents follows none: write {text_of(real)}'
        )
    raise missing(root, path)


def missing(root: RootFolder, path: str) -> UserFailure:
    """The failure of a path that is not there, with names that are like it."""
    path = cleaned(path)
    *above, name = words_of(path) or [""]
    text = f'"{shown(path)}": not found'
    try:
        folder = root.resolve(text_of(above))
        with root.folder(folder) as descriptor:
            hints = _alike(name, os.listdir(descriptor)[:_MOST_NAMES])
    except (OSError, UserFailure):
        return UserFailure(f"{text}: there is no folder {shown(text_of(above))}" if above else text)
    return UserFailure(f"{text}; did you mean {', '.join(hints)}?" if hints else text)


def _alike(name: str, names: list[str]) -> list[str]:
    import difflib  # only a failure needs it

    return [shown(found) for found in difflib.get_close_matches(name, names, n=_MOST_HINTS)]


def _item(root: RootFolder, path: str) -> FoundItem | None:
    names = root.resolve(path)
    status = root.status(names)
    if status is None:
        return None
    words = words_of(path)
    return FoundItem(names, words[-1] if words else "", stat.S_ISDIR(status.st_mode))


def _walk(
    root: RootFolder, base: tuple[str, ...], patterns: list[PathPattern], budget: CopyBudget
) -> Iterator[tuple[str, ...]]:
    """The names below a folder that match, folder by folder; links on the way are not followed."""
    status = root.status(base)
    if status is None or not stat.S_ISDIR(status.st_mode):
        return
    pattern, *rest = patterns
    with about(text_of(base)), root.folder(base) as folder:
        names: list[str] = []
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if not number % 10_000:
                    budget.check_listed(number)
                    budget.check_time()
                if pattern.matches(entry.name) and (not rest or entry.is_dir(follow_symlinks=False)):
                    names.append(entry.name)
    for name in names:
        if rest:
            yield from _walk(root, (*base, name), rest, budget)
        else:
            yield (*base, name)
