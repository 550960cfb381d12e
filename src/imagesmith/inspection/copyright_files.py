"""The copyright files of dpkg's packages in an image's root: usr/share/doc/<package>/copyright.

Packages of one source have the same file, often as a link to a neighbour's folder: each text is read once.
"""

from __future__ import annotations

import hashlib

from imagesmith.inspection.files import Files, content_of
from imagesmith.inspection.licenses.debian import MAX_COPYRIGHT, read_copyright

FOLDER = "usr/share/doc"


class CopyrightFiles:
    """Licences of packages by name."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[bytes, str] = {}

    def license_of(self, package: str) -> str:
        """An SPDX expression; empty if the file is absent, unreadable or states none. Raises Cancelled."""
        if "/" in package or "\0" in package or package in ("", ".", ".."):
            return ""
        data = content_of(self._files, f"{FOLDER}/{package}/copyright", most=MAX_COPYRIGHT + 1)
        key = hashlib.sha256(data).digest()
        if key not in self._known:
            self._known[key] = read_copyright(data)
        return self._known[key]
