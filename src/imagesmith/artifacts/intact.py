"""Checks whether a file still matches its digest; reads it again only if the file was touched.

Compares the metadata that any write changes, above all the time of the last change of the inode. Bit rot on the
medium is found by the first check of a process.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

from imagesmith.processes import Cancellation

_CHUNK = 1024 * 1024
_REMEMBERED = 10_000

_Stamp = tuple[int, int, int, int, int]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class IntactFiles:
    """Remembers which files were found intact; safe for several threads."""

    def __init__(self) -> None:
        self._whole: dict[tuple[Path, str], _Stamp] = {}

    def fault(
        self, path: Path, digest: str, *, packed: bool = False, cancellation: Cancellation | None = None
    ) -> str:
        """The fault of a file named by `digest` (`sha256:...`); empty if it is intact. Raises Cancelled.

        `packed`: the file is compressed by gzip, the digest is of its uncompressed content.
        """
        try:
            with path.open("rb") as file:
                stamp = _stamp(file)
                if self._whole.get((path, digest)) == stamp:
                    return ""
                with gzip.GzipFile(fileobj=file) if packed else file as content:
                    found = digest_of_file(content, cancellation=cancellation)
        except FileNotFoundError:
            return "is missing"
        except (EOFError, zlib.error) as error:
            return f"cannot be unpacked: {error}"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if found != digest:
            return f"is damaged: its bytes have the digest {found}"
        if len(self._whole) >= _REMEMBERED:
            self._whole.clear()
        self._whole[path, digest] = stamp
        return ""


def digest_of_file(file: _Readable, *, cancellation: Cancellation | None = None) -> str:
    """The digest of the unread rest of a file. Raises Cancelled."""
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        if cancellation is not None:
            cancellation.check()
        found.update(chunk)
    return f"sha256:{found.hexdigest()}"


def digest_of_path(path: Path) -> str:
    """The digest of a file. Raises OSError."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _stamp(file: BinaryIO) -> _Stamp:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
