"""Checks what a sealed process answered about a layer: one that the layer has taken over may answer anything.

Digests become names of files and identities of layers here, so none is taken that is not one, and the digest of a
blob that was written is computed again.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from imagesmith.layers.compression import CountedFile, PackedLayer
from imagesmith.layers.dropped_files import MOST_TOLD
from imagesmith.layers.entries import LayerError
from imagesmith.namespaces.sealed_answers import SealedCallFailed
from imagesmith.processes import Cancellation

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DIGESTS: Final = ("digest", "diff_id")
_NUMBERS: Final = {"entries": -1, "size": 0, "blob_size": 0}
"""The least value of each."""
_LARGEST: Final = 1 << 63
_LONGEST_LINE: Final = 300
"""What `shown` makes of a path."""
_CHUNK: Final = 1 << 20
_OF_THE_MACHINE: Final = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM,
})  # fmt: skip
"""Failures that say nothing about a layer: it may be unpacked later, or elsewhere."""


@dataclass(frozen=True)
class UnpackedBlob:
    """What came of a blob: entries, bytes written, and the digests of its bytes and of the archive in it."""

    entries: int
    size: int
    digest: str
    diff_id: str


@dataclass(frozen=True)
class ListedEntries:
    """What came of a listing: the number of its lines."""

    entries: int


_Made = TypeVar("_Made", UnpackedBlob, PackedLayer, ListedEntries)


def checked(kind: type[_Made], found: Any) -> _Made:
    """An answer in its form: numbers, texts and digests where they belong. Raises LayerError."""
    try:
        made = kind(**found)
    except TypeError as error:
        raise LayerError(f"its sealed process answered something else: {error}") from error
    for field in fields(kind):
        value = getattr(made, field.name)
        if type(value).__name__ != field.type or not _is_possible(field.name, value):
            raise LayerError(f"its sealed process answered something else in `{field.name}`")
    return made


def _is_possible(name: str, value: Any) -> bool:
    if name in _DIGESTS:
        return bool(_DIGEST.fullmatch(value))
    if name in _NUMBERS:
        return bool(_NUMBERS[name] <= value < _LARGEST)
    lines = value.split("\n")
    return len(lines) <= MOST_TOLD and all(
        len(line) <= _LONGEST_LINE and line.isascii() and line.isprintable() for line in lines
    )


def verify_written(made: PackedLayer, blob: BinaryIO, cancellation: Cancellation | None) -> None:
    """Require that a blob which was written has the digest and the size of the answer.

    Raises LayerError, OSError, Cancelled.
    """
    # `blob` may be open for writing only
    with Path(f"/proc/self/fd/{blob.fileno()}").open("rb") as file:
        counted = CountedFile(file)
        while counted.read(_CHUNK):
            if cancellation is not None:
                cancellation.check()
    if (counted.digest, counted.count) != (made.digest, made.blob_size):
        raise LayerError(
            f"its sealed process answered something else: the blob has the digest {counted.digest} "
            f"and {counted.count} bytes"
        )


def failure(error: SealedCallFailed) -> LayerError | OSError:
    """What a call without an answer means: a fault of the layer, or one of this machine."""
    text = f"its sealed process failed: {error.strerror}"
    return OSError(error.errno, text) if error.errno in _OF_THE_MACHINE else LayerError(text)
