"""Words of a logical line, each with its offset: keyword and flags, blanks, quotes, JSON arrays. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from imagesmith.dockerfiles.lines import BLANK, SPACE

_BLANKS: Final = re.compile(rf"[{BLANK}]+")


@dataclass(frozen=True)
class Word:
    """A word and where it begins in its logical line; quotes and escapes are undone in flags alone."""

    text: str
    offset: int


@dataclass(frozen=True)
class CommandWords:
    """A logical line cut into keyword, flags and the rest."""

    keyword: Word
    flags: tuple[Word, ...]
    rest: Word


class NotStrings(ValueError):
    """A JSON array that holds something else than strings."""


def split_command(text: str, offset: int = 0) -> CommandWords:
    """Cut a line, or the part of it that begins at `offset`."""
    start = _skip(text, offset)
    end = len(text.rstrip(SPACE))
    gap = _BLANKS.search(text, start, end)
    if gap is None:
        return CommandWords(Word(text[start:end], start), (), Word("", end))
    flags, after = _flags(text[:end], gap.end())
    rest = _skip(text, after)
    return CommandWords(Word(text[start : gap.start()], start), tuple(flags), Word(text[rest:end], min(rest, end)))


def blank_words(rest: Word) -> list[Word]:
    """Words between blanks; quotes mean nothing."""
    words: list[Word] = []
    start = 0
    for gap in _BLANKS.finditer(rest.text):
        words.append(Word(rest.text[start : gap.start()], rest.offset + start))
        start = gap.end()
    words.append(Word(rest.text[start:], rest.offset + start))
    return [word for word in words if word.text]


def quoted_words(rest: Word, escape: str) -> list[Word]:
    """Words between white space that is neither quoted nor escaped; quotes and escapes are kept."""
    words: list[Word] = []
    text, index, start, quote = rest.text, 0, -1, ""
    while index < len(text):
        char = text[index]
        if not quote and char in SPACE:
            if start >= 0:
                words.append(Word(text[start:index], rest.offset + start))
                start = -1
            index += 1
            continue
        if start < 0:
            start = index
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        index += 2 if char == escape and quote != "'" else 1
    if start >= 0:
        # an escape character that ends the line escapes nothing
        last = text[start:]
        words.append(Word(last.removesuffix(escape) if index > len(text) else last, rest.offset + start))
    return [word for word in words if word.text]


def json_words(rest: Word) -> list[Word] | None:
    """The strings of a JSON array with nothing behind it; None for any other text. Raises NotStrings."""
    text = rest.text
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text, parse_constant=_no_constant, parse_int=_number, parse_float=_number)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in found):
        raise NotStrings
    offsets = _string_offsets(text)
    return [Word(_whole(item), rest.offset + next(offsets, 0)) for item in found]


def _skip(text: str, index: int) -> int:
    while index < len(text) and text[index] in SPACE:
        index += 1
    return index


def _flags(text: str, index: int) -> tuple[list[Word], int]:
    """The words that begin with `--`, up to one that does not or to `--` itself, and where the rest begins."""
    flags: list[Word] = []
    while True:
        start = index = _skip(text, index)
        if not text.startswith("--", start):
            return flags, start
        parts: list[str] = []
        quote, quoted = "", False
        while index < len(text) and (quote or text[index] not in SPACE):
            char = text[index]
            if char == quote:
                quote = ""
            elif not quote and char in "'\"":
                quote, quoted = char, True
            elif char == "\\":
                index += 1
                parts.append(text[index : index + 1])
            else:
                parts.append(char)
            index += 1
        word = "".join(parts)
        if word == "--":
            return flags, index
        if word or quoted:
            flags.append(Word(word, start))


def _string_offsets(text: str) -> Iterator[int]:
    """Where the strings of a valid array of strings begin."""
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL):
        yield found.start()


def _whole(text: str) -> str:
    """Halves of surrogate pairs become the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _number(_text: str) -> None:
    return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
