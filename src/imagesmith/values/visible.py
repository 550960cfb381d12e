r"""Makes external text safe for a terminal: escapes characters that control the terminal or are invisible.

    ESC [ 2 J    \x1b[2J          U+202E (right to left)    \u202e          a tag character    \U000e0041

Escaped are control characters of both sets, carriage return and backspace, marks of direction, separators of lines
and paragraphs, characters of no width, invisible fillers, variation selectors of the supplement, private and
unassigned characters, and halves of surrogate pairs. Line feed and tab stay.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_UNSEEN: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0") | frozenset(
    map(chr, range(0xE0100, 0xE01F0))
)
_KEPT: Final = frozenset("\n\t")
_SPACES: Final = "Zs"


def visible(text: str) -> str:
    """The text with every invisible or controlling character escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_seen(char) else _written(char) for char in text)


def _is_seen(char: str) -> bool:
    if char in _KEPT:
        return True
    return (char.isprintable() or unicodedata.category(char) == _SPACES) and char not in _UNSEEN


def _written(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
