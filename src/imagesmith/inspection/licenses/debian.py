"""Licences in the copyright files of Debian packages: `usr/share/doc/<package>/copyright`.

    machine-readable (DEP-5)    the `License:` fields of its paragraphs about files
    free text                   what it refers to in /usr/share/common-licenses, and the words of known licences

Free text is read conservatively: a licence counts only if its own words, or the reference that Debian's policy asks
for, stand there. A file without either states nothing. `or any later version` counts where one GNU licence is
named; with two, it is unknown of which it speaks, and both stay references to the texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagesmith.inspection.licenses import all_of, expression_of
from imagesmith.inspection.licenses.names import REFERENCE, spdx_name

MAX_COPYRIGHT = 1024 * 1024
"""Bytes of a copyright file; a longer one states nothing, for its rest would be missing."""
_MACHINE_READABLE = re.compile(r"\A\s*(?:Format|Format-Specification):", re.IGNORECASE)
_FIELD = re.compile(r"(?P<name>Files|License):[ \t]*(?P<value>.*)\Z", re.IGNORECASE)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z][A-Za-z0-9.+-]*[A-Za-z0-9+])")
_LATER = re.compile(r"\b(?:any|or) (?:later|newer|higher)\b")
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


def read_copyright(data: bytes) -> str:
    """The SPDX expression of a copyright file; empty when it states none that is recognised."""
    if len(data) > MAX_COPYRIGHT:
        return ""
    text = data.decode(errors="replace")
    if _MACHINE_READABLE.match(text):
        return all_of(_of_files(text))
    return all_of(_of_prose(text))


def _of_files(text: str) -> Iterator[str]:
    """The licence of each paragraph about files, and of the header."""
    is_about_files, licence = True, ""  # the header speaks of the whole package
    for line in [*text.split("\n"), ""]:
        field = _FIELD.match(line)
        if not line.strip():
            if is_about_files and licence:
                yield expression_of(licence) or spdx_name(licence)
            is_about_files, licence = False, ""
        elif field is not None and field["name"].lower() == "files":
            is_about_files = True
        elif field is not None:
            licence = field["value"].strip()


def _of_prose(text: str) -> Iterator[str]:
    common = {name.rstrip(".") for name in _COMMON.findall(text)}
    gnu = {name for name in common if "GPL" in name}
    said = _SAID.sub(" ", text.lower())
    later = _LATER.search(said) is not None
    for name in common:
        if name in gnu and later and len(gnu) > 1:
            yield f"{REFERENCE}common-licenses-{name}"
        else:
            yield spdx_name(f"{name}+" if later and name in gnu and name[-1].isdigit() else name)
    kinds_of_bsd = 0
    for id, phrases in _WORDS:
        if not all(phrase in said for phrase in phrases):
            continue
        if id.startswith("BSD"):
            kinds_of_bsd += 1
            if kinds_of_bsd > 1 or _ADVERTISING in said:
                continue
        yield id
