"""Cuts an expanded text at the white space that was neither quoted nor escaped. Pure."""

from __future__ import annotations

from imagesmith.dockerfiles.lines import SPACE


class Words:
    """Collects words; white space ends one unless it is added as it is."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        for char in text:
            if char in SPACE:
                self.end()
            else:
                self._parts.append(char)

    def add_whole(self, text: str) -> None:
        self._parts.append(text)

    def end(self) -> None:
        word = "".join(self._parts)
        self._parts.clear()
        if word:
            self.done.append(word)


def split_words(text: str) -> list[str]:
    words = Words()
    words.add(text)
    words.end()
    return words.done
