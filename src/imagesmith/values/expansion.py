"""Bounds the growth of a text whose references are replaced, in length and in count, in one place.

All code that replaces references in a caller's text spends a budget of this module before it makes the longer text:
`ARG A=${A}${A}`, forty lines long, would be a terabyte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_CHARACTERS: Final = 4 * 1024 * 1024
MAX_COUNT: Final = 20_000


class TooLarge(ValueError):
    """A text that grows beyond its bounds; the message names the bound and the cause."""


@dataclass
class Budget:
    """The remaining growth for replacements. All texts for one purpose share a budget."""

    characters: int = MAX_CHARACTERS
    count: int = MAX_COUNT
    _characters: int = 0
    _count: int = 0

    def spend(self, length: int, what: str) -> None:
        """Count an insertion of a length by `what`. Raises TooLarge."""
        self._characters += length
        self._count += 1
        if self._characters > self.characters:
            raise TooLarge(f"with {what[:80]} the text grows beyond {self.characters} characters")
        if self._count > self.count:
            raise TooLarge(f"with {what[:80]} more than {self.count} references are replaced")
