"""Paths to the values of a workflow, and where they may be in texts (spec/workflows.md 3.2, 3.3).

path    = "$" 1*( "." name / "[" index "]" / "['" text "']" )
name    = 1*( letter / digit / "_" / "-" )

text --expression_of--> Path   the whole text is a path
                        str    a text, whose `{{ $... }}` are paths (paths_in); other braces stay
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from imagesmith.documents.references import find_references

MAX_PATH: Final = 1024
_SEGMENT: Final = re.compile(r"\.(?P<name>[A-Za-z0-9_-]+)|\[(?P<index>[0-9]{1,9})\]|\['(?P<text>[^'\r\n]+)'\]")

ValueContext = Literal["chained", "bare", "text"]
"""What a text of a document may hold.

chained   under a key that ends in `.$`, in a condition, in an output: a text that begins like a path is one
bare      under the plain key of a documented scalar input: a text that is a path as a whole is one
          (spec/workflows.md 13, no. 3)
text      anywhere else: only texts in braces are paths
"""


class PathError(ValueError):
    """A text that begins like a path but is not a path."""


@dataclass(frozen=True)
class Path:
    """`segments` are names (str) and list indexes (int), the root first."""

    text: str
    segments: tuple[str | int, ...]

    @property
    def root(self) -> str:
        """The first name; `imageBuilder` is another spelling of `imagebuilder` (spec/workflows.md 3.1)."""
        first = str(self.segments[0])
        return "imagebuilder" if first == "imageBuilder" else first

    @property
    def name(self) -> str:
        """The parameter, step, output or variable; empty when the path ends at its root."""
        return str(self.segments[1]) if len(self.segments) > 1 else ""


def parse_path(text: str) -> Path:
    """Read a path. Raises PathError."""
    if len(text) > MAX_PATH:
        raise PathError(f"a path has at most {MAX_PATH} characters, this one has {len(text)}")
    segments: list[str | int] = []
    at = 1
    while text.startswith("$") and at < len(text):
        match = _SEGMENT.match(text, at)
        if match is None:
            break
        index = match["index"]
        segments.append(match["name"] or match["text"] or int(index))
        at = match.end()
    if not segments or at < len(text):
        raise PathError(
            f"'{text[:80]}' is not a path: expected $.name, .name, [0] or ['text'] at character {at + 1}"
        )
    return Path(text, tuple(segments))


def looks_like_path(text: str) -> bool:
    return text.startswith(("$.", "$["))


def expression_of(text: str, context: ValueContext) -> Path | str:
    """The meaning of a text in its context. Raises PathError, for chained texts only."""
    if not looks_like_path(text) or context == "text":
        return text
    try:
        return parse_path(text)
    except PathError:
        if context == "chained":
            raise
        return text


def paths_in(text: str) -> Iterator[tuple[str, int]]:
    """The text of each `{{ $... }}` and its offset. It may be invalid: parse_path decides that."""
    for reference in find_references(text):
        if reference.body.startswith("$"):
            yield reference.body, reference.start


def is_dynamic(text: str, context: ValueContext) -> bool:
    """Whether the value of a text is known only in a run."""
    if context != "text" and looks_like_path(text):
        return True
    return next(paths_in(text), None) is not None
