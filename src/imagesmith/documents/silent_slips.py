"""Warnings about strings that YAML reads without an error, but not as they were meant. Pure.

- “echo hi”          the quotes are part of the string
- cat >/x <<END      and lines below it, indented: YAML folds them into one line
- &bg sleep 1        the first word is an anchor and not part of the string
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imagesmith.documents.slips import HEREDOC_HINT, starts_heredoc
from imagesmith.values.diagnostics import Position, Problem

_TYPOGRAPHIC: Final = ("\u201c", "\u201d", "\u201e", "\u2018", "\u2019", "\u00ab")
_SHOWN: Final = 60


def silent_slips(text: str, position: Position, *, plain: bool, folded: bool) -> Iterator[Problem]:
    """The warnings about one string; `folded`: it has several lines, which YAML joins."""
    if plain and text.startswith(_TYPOGRAPHIC):
        message = f"'{text[0]}' is not a quote in YAML: it is part of the string"
        hint = "write ' or \" instead, or quote the whole string if it belongs to it"
        yield _warning("yaml-quote", message, position, hint)
    if folded and starts_heredoc(text):
        message = "YAML folds the lines of this string into one, so its here-document has no end"
        yield _warning("yaml-folded", message, position, HEREDOC_HINT)


def unused_anchor(name: str, text: str, position: Position) -> Problem:
    """The warning about an anchor that no alias names, on the string `text`."""
    message = f"'&{shortened(name)}' at the beginning of a value is a YAML anchor and not part of the string"
    return _warning("yaml-anchor", message, position, f"quote the string: '&{shortened(f'{name} {text}')}'")


def shortened(text: str) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _warning(code: str, message: str, position: Position, hint: str) -> Problem:
    return Problem(code=code, message=message, position=position, hint=hint, severity="warning")
