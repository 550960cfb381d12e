"""Licence and author in the metadata of Python and npm packages. Pure.

Python   License-Expression (an SPDX expression), else the classifiers, else a License of one short line
npm      license: an expression, or {"type": ...}; licenses: a list of these, of which any may be chosen
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from imagesmith.inspection.licenses import all_of, expression_of

Headers = Mapping[str, Sequence[str]]
"""Values by the name of the header in lower case."""
_MOST_LINE = 120
_CLASSIFIER = "License :: "
_CLASSIFIERS: Mapping[str, str] = MappingProxyType(
    {
        "Apache Software License": "Apache-2.0", "MIT License": "MIT", "ISC License (ISCL)": "ISC",
        "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Python Software Foundation License": "PSF-2.0",
        "The Unlicense (Unlicense)": "Unlicense", "zlib/libpng License": "Zlib",
        "MIT No Attribution License (MIT-0)": "MIT-0",
        "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
        "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
        "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
        "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
        "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
        "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
        "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
        "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
        "GNU Affero General Public License v3": "AGPL-3.0-only",
        "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    }
)  # fmt: skip
"""Other classifiers, such as `BSD License`, name several licences: they are not taken."""


def python_license(headers: Headers) -> str:
    """An SPDX expression, or nothing."""
    stated = next(iter(headers.get("license-expression", ())), "")
    if stated:
        return expression_of(stated)
    ends = [item.rpartition(" :: ")[2] for item in headers.get("classifier", ()) if item.startswith(_CLASSIFIER)]
    if known := [_CLASSIFIERS[end] for end in ends if end in _CLASSIFIERS]:
        return all_of(known)
    short = next(iter(headers.get("license", ())), "")
    return expression_of(short) if len(short) <= _MOST_LINE and short.upper() != "UNKNOWN" else ""


def python_supplier(headers: Headers) -> str:
    """`Name <address>` of the maintainer or the author."""
    for role in ("maintainer", "author"):
        name, mail = (next(iter(headers.get(key, ())), "") for key in (role, f"{role}-email"))
        if mail and "<" in mail:
            return mail.partition(">")[0] + ">"
        if name and name.upper() != "UNKNOWN":
            return f"{name} <{mail}>" if mail else name
        if mail:
            return f"<{mail}>"
    return ""


def npm_license(document: Mapping[str, Any]) -> str:
    """An SPDX expression, or nothing."""
    stated = document.get("license") or document.get("licenses")
    choices = stated if isinstance(stated, list) else [stated]
    names = [item.get("type") if isinstance(item, dict) else item for item in choices]
    found = [expression_of(item) for item in names[:16] if isinstance(item, str)]
    return expression_of(" OR ".join(f"({item})" for item in found if item))


def npm_supplier(document: Mapping[str, Any]) -> str:
    """The author, as text."""
    author = document.get("author")
    if isinstance(author, dict):
        name, mail = author.get("name"), author.get("email")
        if isinstance(name, str) and name:
            return f"{name} <{mail}>" if isinstance(mail, str) and "@" in mail else name
    return author.partition("(")[0] if isinstance(author, str) else ""
