"""Finds common mistakes behind YAML's unclear errors: the real position of each, and the correction (pure).

The parser stops where it cannot continue, which is often one or many lines below the mistake. So the lines above
that position are searched for a few common mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from imagesmith.values.diagnostics import Position

_NEAR: Final = 3
"""Lines above the parser's position that may hold the mistake."""
_HEREDOC_LINES: Final = 400
_LONGEST: Final = 500
"""Most characters that are read of a line."""
_ODD_SPACES: Final = re.compile(r"[\u00a0\u2000-\u200b\u202f\u2060\u3000\ufeff]")
_VALUE: Final = re.compile(r"(?P<lead>\s*+(?:-\s++)*+(?:[\w.-]++:\s++)?+)(?P<value>\S.*)")
_GLUED: Final = re.compile(r"\s*+(?:-\s++)?+(?P<key>[A-Za-z]\w*+):(?P<value>[^\s:/].*)")
_HEREDOC: Final = re.compile(r"<<-?\s*[\"']?[A-Za-z_]\w*")
_BLOCK: Final = re.compile(r"(?P<lead>\s*+(?:-\s++)*+)(?:[\w.-]++:\s++)?+[|>][+-]?[0-9]?[+-]?\s*$")
_STARTS: Final = {
    "*": "is an alias in YAML", "&": "is an anchor in YAML", "%": "is a directive in YAML",
    "@": "is reserved in YAML", "`": "is reserved in YAML", ">": "begins a block of text in YAML",
    "|": "begins a block of text in YAML", "{": "begins a mapping in YAML", "[": "begins a list in YAML",
    ",": "is a separator in YAML", "]": "ends a list in YAML", "}": "ends a mapping in YAML",
    ":": "ends a key in YAML",
}  # fmt: skip
_EXAMPLE: Final = 60


@dataclass(frozen=True)
class Slip:
    """A likely slip of the author, found in a text that YAML refuses."""

    position: Position
    hint: str


def find_slip(text: str, position: Position, said: str, begun: Position | None = None) -> Slip | None:
    """The mistake behind a parser error at a position; `begun`: the start of the construct being parsed."""
    # an odd space at the end of a line is a slip as well
    lines = [line[:_LONGEST].rstrip(" \t\r") for line in text.splitlines()]
    near = list(_near(lines, position))
    if "quoted scalar" in said and begun is not None:
        return _quote(lines, position, said, begun)
    for rule in _RULES:
        for number in near:
            slip = rule(lines, number)
            if slip is not None:
                return slip
    found = _heredoc(lines, position) or _heredoc_of_a_line(lines, position)
    if found is not None:
        return found
    if "mapping values" in said:
        return Slip(
            position, "quote a string that contains ': ', or indent the line exactly like the lines around it"
        )
    if "expected key" in said or "'-' indicator" in said or "expected ':'" in said:
        return Slip(position, "indent the line exactly like its neighbours, with spaces")
    return None


def _near(lines: Sequence[str], position: Position) -> Iterator[int]:
    """Indexes of lines that may hold the mistake, the nearest first."""
    last = min(position.line, len(lines)) - 1
    for index in range(last, max(last - _NEAR, -1) - 1, -1):
        if index >= 0 and lines[index].strip():
            yield index


def _fence(lines: Sequence[str], index: int) -> Slip | None:
    if not lines[index].lstrip().startswith("```"):
        return None
    return Slip(Position(index + 1, 1), "remove the lines with ```: they belong to Markdown")


def _tab(lines: Sequence[str], index: int) -> Slip | None:
    found = re.match(r"[ -]*+\t|\s*+[\w.-]++:\t", lines[index])
    if found is None:
        return None
    return Slip(Position(index + 1, found.end()), "there is a tab here: indent and separate with spaces")


def _odd_space(lines: Sequence[str], index: int) -> Slip | None:
    head = re.match(r"[^\"'|>]*", lines[index])
    found = _ODD_SPACES.search(head[0] if head else "")
    if found is None:
        return None
    name = "a byte-order mark" if found[0] == "\ufeff" else "a no-break space or another odd space"
    return Slip(
        Position(index + 1, found.start() + 1), f"{name} is here: replace it with an ordinary space, or remove it"
    )


def _start(lines: Sequence[str], index: int) -> Slip | None:
    """A value that begins with a special character of YAML."""
    found = _VALUE.match(lines[index])
    if found is None or _BLOCK.match(lines[index]):
        return None
    value, column = found["value"], len(found["lead"]) + 1
    first = value[0]
    if first in ('"', "'"):
        end = value.find(first, 1)
        if (
            end < 1
            or not value[end + 1 :].strip()
            or value[end + 1 :].lstrip()[0] in "#:,]}"
            or value[end + 1] == first
        ):
            return None
        return Slip(Position(index + 1, column), f"quote the whole string, not its first word: {_quoted(value)}")
    whole = first in "{[" and _closed(value)
    if first not in _STARTS or whole:
        return None
    return Slip(
        Position(index + 1, column),
        f"a string that starts with {first} ({_STARTS[first]}) needs quotes: {_quoted(value)}",
    )


def _closed(value: str) -> bool:
    """Whether a value in flow style is closed correctly: then it is not a mistake."""
    if len(value) == 1:
        return True  # continues in the next line, or is never closed: then the position is the end of the text
    if value.startswith(("{{", "[[")):
        return False
    pairs = {"{": "}", "[": "]"}
    return value.rstrip(",").endswith(pairs[value[0]]) and not re.search(r"[\]}]\s*[&|;]", value)


def _glued(lines: Sequence[str], index: int) -> Slip | None:
    found = _GLUED.match(lines[index])
    if found is None:
        return None
    column = found.end("key") + 1
    return Slip(Position(index + 1, column), _glued_hint(found))


_RULES: Final[tuple[Callable[[Sequence[str], int], Slip | None], ...]] = (_fence, _tab, _odd_space, _start, _glued)


def _quote(lines: Sequence[str], position: Position, said: str, begun: Position) -> Slip:
    del lines
    if "escape" in said:
        return Slip(position, "in double quotes a backslash begins an escape: use single quotes, or write it twice")
    return Slip(begun, "the quote that begins here is never closed")


def _heredoc(lines: Sequence[str], position: Position) -> Slip | None:
    """A here-document whose lines are indented less than the block of its script."""
    last = min(position.line, len(lines)) - 1
    for index in range(last, max(last - _HEREDOC_LINES, -1), -1):
        block = _BLOCK.match(lines[index])
        if block is None or index == last:
            continue
        inside = len(lines[index + 1]) - len(lines[index + 1].lstrip())
        if inside <= len(block["lead"]) - len(block["lead"].lstrip()):
            return Slip(Position(index + 2, 1), f"indent the text of the block further than line {index + 1}")
        for below in range(index + 1, last + 1):
            line = lines[below]
            if line.strip() and len(line) - len(line.lstrip()) < inside:
                if not any(_HEREDOC.search(before) for before in lines[index + 1 : below]):
                    return None
                hint = (
                    f"indent the here-document by {inside} spaces too: it belongs to the block of line {index + 1}"
                )
                return Slip(Position(below + 1, 1), hint)
        return None
    return None


def _heredoc_of_a_line(lines: Sequence[str], position: Position) -> Slip | None:
    """A here-document behind a command that is not a block of text, with its lines further left."""
    last = min(position.line, len(lines)) - 1
    for index in range(last - 1, max(last - _HEREDOC_LINES, -1), -1):
        found = _VALUE.match(lines[index])
        if found is None or not found["lead"].lstrip().startswith("-") or _BLOCK.match(lines[index]):
            continue
        if not starts_heredoc(found["value"]):
            return None
        return Slip(Position(index + 1, len(found["lead"]) + 1), HEREDOC_HINT)
    return None


HEREDOC_HINT: Final = "write '|' here and the command below it, indented: a here-document needs lines of its own"


def starts_heredoc(text: str) -> bool:
    """Whether a command has a here-document."""
    return _HEREDOC.search(text) is not None


def missing_space(text: str) -> str:
    """The hint for `name:build`, which is a text and no mapping; empty for other texts."""
    found = _GLUED.match(text[:_LONGEST])
    return "" if found is None else _glued_hint(found)


def _glued_hint(found: re.Match[str]) -> str:
    return f"a space is missing after the colon: {found['key']}: {found['value'][:_EXAMPLE]}"


def dash_hint(text: str) -> str:
    """The hint for an entry of a list that YAML read as a text, because no space follows its dash."""
    odd = _ODD_SPACES.match(text, 1)
    return "write a space after each '-'" + (": a no-break space or another odd space is none" if odd else "")


def _quoted(value: str) -> str:
    shown = value if len(value) <= _EXAMPLE else value[: _EXAMPLE - 3] + "..."
    return "'" + shown.replace("'", "''") + "'"
