"""Sets of characters, as RE2 names them."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Ranges = tuple[tuple[int, int], ...]

_NAMED: Final[dict[str, Ranges]] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "ascii": ((0x00, 0x7F),),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x00, 0x1F), (0x7F, 0x7F)),
    "digit": ((0x30, 0x39),),
    "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": ((0x41, 0x5A),),
    "word": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}
_PERL: Final[dict[str, Ranges]] = {
    "d": _NAMED["digit"],
    "w": _NAMED["word"],
    "s": ((0x09, 0x0A), (0x0C, 0x0D), (0x20, 0x20)),
}
_CATEGORIES: Final = {"L": "ultmo", "M": "nce", "N": "dlo", "P": "cdseifo", "S": "mcko", "Z": "slp", "C": "cfos"}
"""General categories: the major class, and the second letters of its minor ones."""


@dataclass(frozen=True, slots=True)
class CharClass:
    """Ranges of code points, general categories and other classes; `negate` turns the whole around."""

    ranges: Ranges = ()
    negate: bool = False
    category: str = ""
    parts: tuple[CharClass, ...] = ()

    @staticmethod
    def union(parts: Sequence[CharClass], negate: bool) -> CharClass:
        plain = [part for part in parts if not part.negate and not part.category and not part.parts]
        others = tuple(part for part in parts if part.negate or part.category or part.parts)
        return CharClass(tuple(span for part in plain for span in part.ranges), negate, "", others)

    def holds(self, char: str) -> bool:
        return self._among(char) != self.negate

    def holds_folded(self, char: str) -> bool:
        """As holds(), ignoring letter case: a character is in when any of its cases is."""
        return any(self._among(variant) for variant in cases_of(char)) != self.negate

    def _among(self, char: str) -> bool:
        code = ord(char)
        if any(low <= code <= high for low, high in self.ranges):
            return True
        if self.category and unicodedata.category(char).startswith(self.category):
            return True
        return any(part.holds(char) for part in self.parts)


def named_class(name: str) -> CharClass | None:
    """`alpha`, `^alpha`: what stands between `[:` and `:]`."""
    ranges = _NAMED.get(name.removeprefix("^"))
    return None if ranges is None else CharClass(ranges, name.startswith("^"))


def perl_class(letter: str) -> CharClass:
    """`d`, `w`, `s`; the capital letter is the opposite."""
    return CharClass(_PERL[letter.lower()], letter.isupper())


def category_class(name: str, negate: bool) -> CharClass | None:
    major, minor = name[:1], name[1:]
    known = major in _CATEGORIES and len(minor) <= 1 and minor in _CATEGORIES[major]
    return CharClass((), negate, name) if known else None


def is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


@functools.lru_cache(maxsize=4096)
def cases_of(char: str) -> tuple[str, ...]:
    """The character in each of its letter cases."""
    variants = {char}
    for other in (char.lower(), char.upper(), char.upper().lower(), char.lower().upper()):
        if len(other) == 1:
            variants.add(other)
    return tuple(variants)
