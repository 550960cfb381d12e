"""Licences in the copyright files of Debian packages: `usr/share/doc/<package>/copyright`.

    machine-readable (DEP-5)    the `License:` fields of its paragraphs about files
    free text                   what it refers to in /usr/share/common-licenses, and the words of known licences

Free text is read conservatively: a licence counts only if its own words, or the reference that Debian's policy asks
for, stand there. A file without either states nothing. `or any later version` counts where it follows the version
of a GNU licence wherever that is granted; else it is unknown of what it speaks, and the licence stays a reference
to its text. A paragraph about files that states nothing readable leaves the whole package without a statement: the
others would be less than all of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from imagesmith.inspection.licenses import MAX_EXPRESSION, all_of, expression_of, references_in
from imagesmith.inspection.licenses.names import REFERENCE, spdx_name

MAX_COPYRIGHT = 1024 * 1024
"""Bytes of a copyright file; a longer one states nothing, for its rest would be missing."""
_MACHINE_READABLE = re.compile(r"\A\s*(?:Format|Format-Specification):", re.IGNORECASE)
_FIELD = re.compile(r"(?P<name>Files|License):[ \t]*(?P<value>.*)\Z", re.IGNORECASE)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z][A-Za-z0-9.+-]*[A-Za-z0-9+])")
_GNU = re.compile(r"(?P<family>L?GPL|GFDL)(?:-(?P<version>[0-9.]+))?")
_FAMILIES = (
    ("LGPL", re.compile(r"\b(?:lesser|library) general\b|lgpl")),
    ("GFDL", re.compile(r"\bdocumentation license\b|gfdl")),
    ("GPL", re.compile(r"\bgeneral public\b|gpl")),
)
"""Words of a sentence about a GNU licence; the first that are there count."""
_GOES_ON = re.compile(r"(?:,|[&|/]|\b(?:and|or|with))\Z", re.IGNORECASE)
_LATER = re.compile(r"\b(?:any|or) (?:later|newer|higher)\b")
_OR_LATER = re.compile(
    r"(?:(?!\bversion\b).){0,140}?\bor (?:at your option )?(?:any )?(?:later|newer|higher)\b"
)  # fmt: skip
"""What follows the version in a grant of later ones: of no other version."""
_PLUS = re.compile(r"(gpl[- ]?v?[0-9](?:\.[0-9])?)\+")
_REFERENCE = "commonlicense"
_FOUND = re.compile(r"\b(?:text|copy|found|located|available)\b")
_ABOUT = re.compile(r"licen|gpl|gfdl|gnu")
_SAID = re.compile(r"[^a-z0-9]+")
_BSD = (
    "redistribution and use in source and binary forms with or without modification are permitted",
    "redistributions in binary form must reproduce",
)
_WORDS = (
    (
        "MIT",
        ("permission is hereby granted free of charge to any person obtaining a copy of this software and",
         "the software is provided as is without warranty of any kind"),
    ),
    ("BSD-3-Clause", (*_BSD, "to endorse or promote products derived from")),
    ("BSD-2-Clause", _BSD),
    ("ISC", ("permission to use copy modify and or distribute this software for any purpose with or without fee",)),
    (
        "Zlib",
        ("this software is provided as is without any express or implied warranty in no event will the authors",
         "altered source versions must be plainly marked as such"),
    ),
    ("Apache-2.0", ("licensed under the apache license version 2 0",)),
    ("MPL-2.0", ("subject to the terms of the mozilla public license v 2 0",)),
)  # fmt: skip
"""SPDX id and the phrases of its text, without signs; the first of the BSD licences with all of them counts."""
_ADVERTISING = "all advertising materials mentioning features or use of this software"


def _sentences(text: str) -> list[str]:
    """The words of each sentence, with `GPL-2+` as `gpl 2 or later`, and references as one word."""
    plain = _PLUS.sub(r"\1 or later ", _COMMON.sub(f" {_REFERENCE} ", text).lower())
    return [_SAID.sub(" ", sentence) for sentence in re.split(r"\.\s", plain)]


def _is_or_later(family: str, version: str, sentences: Sequence[str], *, alone: bool) -> bool:
    """Whether each grant of a version is one of later versions too. `alone`: no other GNU licence is named, so that
    a sentence that does not say of which it speaks is about this one."""
    number = version.replace(".", " ")
    named = re.compile(rf"(?:\bversion |gpl ?v?|\bgfdl |\bv){number}(?: 0)?(?! ?[0-9])")
    granted = False
    for sentence in filter(_ABOUT.search, sentences):
        about = next((name for name, words in _FAMILIES if words.search(sentence)), "")
        if about != family and not (alone and not about):
            continue
        only_refers = _only_refers(sentence)
        for match in named.finditer(sentence):
            if _OR_LATER.match(sentence, match.end()):
                granted = True
            elif not only_refers:
                return False
    return granted


def _only_refers(sentence: str) -> bool:
    """Whether a sentence only says where the text is: it grants nothing."""
    return _REFERENCE in sentence and _FOUND.search(sentence) is not None and " only " not in sentence


def read_copyright(data: bytes) -> str:
    """The SPDX expression of a copyright file; empty when it states none that is recognised."""
    if len(data) > MAX_COPYRIGHT:
        return ""
    text = data.decode(errors="replace")
    if _MACHINE_READABLE.match(text):
        return _of_files(text)
    return all_of(_of_prose(text))


def _of_files(text: str) -> str:
    """The licences of the paragraphs about files, and of the header, which speaks of the whole package."""
    stated = []
    for number, lines in enumerate(_paragraphs(text)):
        fields = {field["name"].lower(): at for at, line in enumerate(lines) if (field := _FIELD.match(line))}
        if number and "files" not in fields:
            continue
        expression = _licence(lines[fields["license"] :]) if "license" in fields else ""
        if not expression and "files" in fields:
            return ""
        stated.append(expression)
    return all_of(stated)


def _paragraphs(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in [*text.split("\n"), ""]:
        if line.strip():
            lines.append(line)
        elif lines:
            yield lines
            lines = []


def _licence(lines: Sequence[str]) -> str:
    """The expression of a `License:` field: its first line, which may go on; below an empty one names, or the text
    itself. Empty if nothing of it is recognised."""
    first = lines[0].partition(":")[2].strip()
    words = first
    for line in lines[1:]:
        ends = bool(words) and not _GOES_ON.search(words)
        if ends or not line[0].isspace() or len(words) > MAX_EXPRESSION:
            break
        words = f"{words} {line.strip()}".strip()
    if not words or _GOES_ON.search(words) or len(words) > MAX_EXPRESSION:
        return ""
    expression = expression_of(words) or spdx_name(words)
    if first or not references_in(expression):
        return expression
    return all_of(_of_prose("\n".join(itertools.takewhile(lambda line: line[0].isspace(), lines[1:]))))


def _of_prose(text: str) -> Iterator[str]:
    common = {name.rstrip(".") for name in _COMMON.findall(text)}
    gnu = {name: found for name in common if (found := _GNU.fullmatch(name))}
    alone = len({found["family"] for found in gnu.values()}) == 1
    said = _SAID.sub(" ", text.lower())
    grants = _sentences(text)
    later = any(_LATER.search(sentence) for sentence in grants)
    for name in common:
        if not later or name not in gnu or (len(gnu) == 1 and not gnu[name]["version"]):
            yield spdx_name(name)
        elif (version := gnu[name]["version"]) and _is_or_later(gnu[name]["family"], version, grants, alone=alone):
            yield spdx_name(f"{name}+")
        else:
            yield f"{REFERENCE}common-licenses-{name}"
    kinds_of_bsd = 0
    for id, phrases in _WORDS:
        if not all(phrase in said for phrase in phrases):
            continue
        if id.startswith("BSD"):
            kinds_of_bsd += 1
            if kinds_of_bsd > 1 or _ADVERTISING in said:
                continue
        yield id
