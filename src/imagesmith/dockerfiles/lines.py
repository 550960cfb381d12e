"""Physical lines of a Dockerfile joined to logical ones, each character with its position. Pure.

    RUN a \\            one logical line `RUN a   b`: what follows the escape character is dropped up to the end of
      # a comment      its line, comments and empty lines in between are left out, nothing is put in their place
      b

A line ends at a line feed; carriage returns before it belong to the end. Everything else that Unicode takes for the
end of a line is an ordinary character.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagesmith.values.diagnostics import Position, Problem

SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"  # noqa: E501
"""White space as Docker counts it; Python's own str.strip() takes U+001C to U+001F too."""
BLANK: Final = "\t\v\f\r "
"""What separates words."""
_DIRECTIVE: Final = re.compile(rf"#[{SPACE}]*([A-Za-z][A-Za-z0-9]*)[{SPACE}]*=[{SPACE}]*(.+)\Z")
_DIRECTIVES: Final = frozenset({"escape", "syntax", "check"})
_MARK: Final = "\ufeff"


@dataclass(frozen=True)
class Physical:
    """One line of the file without its end; `ending` is what ended it."""

    text: str
    ending: str
    number: int


@dataclass(frozen=True)
class Line:
    """One logical line."""

    text: str
    starts: tuple[int, ...]
    """Offsets in `text` at which its pieces begin, the first is 0."""
    positions: tuple[Position, ...]
    """Where each piece begins in the file."""
    physical: tuple[Physical, ...]
    """The physical lines that it is made of, without comments and empty ones."""

    def at(self, offset: int) -> Position:
        """The position of a character in the file."""
        index = bisect_right(self.starts, max(offset, 0)) - 1
        position = self.positions[index]
        return Position(position.line, position.column + max(offset, 0) - self.starts[index])


@dataclass(frozen=True)
class Directives:
    """What `# escape=`, `# syntax=` and `# check=` at the top of a file set."""

    escape: str = "\\"
    syntax: str = ""
    check: str = ""
    syntax_position: Position | None = None


class Reader:
    """Gives a file's logical lines one after the other, and physical ones for the texts of here-documents."""

    def __init__(self, text: str) -> None:
        self.lines: Sequence[Physical] = tuple(_physical(text))
        self.directives, self.problems = _directives(self.lines)
        escape = re.escape(self.directives.escape)
        self._continued = re.compile(rf"(?:^|[^{escape}])({escape}[ \t]*)\Z")
        self._next = 0
        self._whole_lines: dict[bool, Mapping[str, Sequence[int]]] = {}

    def next_line(self) -> Line | None:
        """The next line that is neither empty nor a comment."""
        while self._next < len(self.lines):
            first = self.lines[self._next]
            self._next += 1
            if first.text.strip(SPACE) and not _is_comment(first.text):
                return self._join(first)
        return None

    def document(self, delimiter: str, *, strip_tabs: bool) -> tuple[str, int] | None:
        """The text of a here-document up to its delimiter, and the line it begins in; None when it has no end."""
        ends = self._delimiter_lines(strip_tabs=strip_tabs).get(delimiter, [])
        found = bisect_left(ends, self._next)
        if found == len(ends):
            return None
        body = self.lines[self._next : ends[found]]
        first, self._next = self._next + 1, ends[found] + 1
        return "".join(item.text + item.ending for item in body), first

    def _delimiter_lines(self, *, strip_tabs: bool) -> Mapping[str, Sequence[int]]:
        """Where each text is a whole line; a search through all lines for each here-document would be quadratic."""
        if strip_tabs not in self._whole_lines:
            found: dict[str, list[int]] = {}
            for index, line in enumerate(self.lines):
                found.setdefault(line.text.lstrip("\t") if strip_tabs else line.text, []).append(index)
            self._whole_lines[strip_tabs] = found
        return self._whole_lines[strip_tabs]

    @property
    def line_index(self) -> int:
        return self._next

    def go_back(self, line_index: int) -> None:
        """Read on from an earlier `line_index`."""
        self._next = line_index

    def between(self, line_index: int) -> tuple[Physical, ...]:
        """The physical lines that were read since `line_index`."""
        return tuple(self.lines[line_index : self._next])

    def _join(self, first: Physical) -> Line:
        pieces: list[str] = []
        starts: list[int] = []
        positions: list[Position] = []
        used: list[Physical] = []
        length = 0
        current: Physical | None = first
        while current is not None:
            indent = len(current.text) - len(current.text.lstrip(SPACE)) if current is first else 0
            piece = current.text[indent:]
            end = self._continued.search(piece)
            piece = piece[: end.start(1)] if end else piece
            pieces.append(piece)
            starts.append(length)
            positions.append(Position(current.number, indent + 1))
            used.append(current)
            length += len(piece)
            current = self._continuation() if end else None
        return Line("".join(pieces), tuple(starts), tuple(positions), tuple(used))

    def _continuation(self) -> Physical | None:
        while self._next < len(self.lines):
            line = self.lines[self._next]
            self._next += 1
            if line.text.strip(SPACE) and not _is_comment(line.text):
                return line
        return None


def _is_comment(text: str) -> bool:
    return text.lstrip(SPACE).startswith("#")


def _physical(text: str) -> Iterator[Physical]:
    for number, line in enumerate(text.removeprefix(_MARK).split("\n"), start=1):
        content = line.rstrip("\r")
        yield Physical(content, f"{line[len(content) :]}\n", number)


def _directives(lines: Sequence[Physical]) -> tuple[Directives, list[Problem]]:
    found: dict[str, str] = {}
    positions: dict[str, Position] = {}
    problems: list[Problem] = []
    for line in lines:
        match = _DIRECTIVE.match(line.text.rstrip(SPACE))
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            break
        if name in found:
            problems.append(
                Problem("directive", f"the directive '{name}' is given twice", Position(line.number, 1))
            )
        elif name == "escape" and match[2] not in ("\\", "`"):
            position = Position(line.number, match.start(2) + 1)
            message = f"'{match[2][:40]}' cannot be the escape character"
            problems.append(Problem("directive", message, position, hint="it is \\ or `"))
        else:
            found[name] = match[2]
        if name == "syntax" and name not in positions:
            positions[name] = Position(line.number, match.start(2) + 1)
    escape, syntax, check = (
        found.get(name, default) for name, default in (("escape", "\\"), ("syntax", ""), ("check", ""))
    )
    return Directives(escape, syntax, check, positions.get("syntax")), problems
