"""The shared store of servers and workers on several hosts: artifacts by digest, documents and logs by name.

    blobs/sha256/<digest>     manifests, configurations, layers, disks: complete or absent, never changed
    images/<digest>.json      index entries of an image that is complete here, written last (exchange.py)
    names/<reference>         the digest of the image with this name
    logs/...                  copies of build logs

Two kinds: a folder that every host mounts, and a bucket of any S3 endpoint. Fetched blobs are checked against their
digests, so a damaged or forged blob never becomes part of an image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from imagesmith.processes import Cancellation

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9][A-Za-z0-9._/+:@-]{0,511}")
DOCUMENT_BYTES = 16 * 1024 * 1024
BLOBS = "blobs/sha256/"
"""What the names of blobs begin with."""
_CHUNK = 1024 * 1024


class SharedStoreError(RuntimeError):
    """The shared store cannot be used, or holds damaged content; the text says where and which."""


class NotShared(SharedStoreError, LookupError):
    """The requested content is not in the shared store."""


class SharedStore(Protocol):
    """Safe for several threads and hosts. Every method raises SharedStoreError."""

    @property
    def url(self) -> str:
        """Its location, as users write it, without a final slash."""
        ...

    def put_blob(self, digest: str, source: Path, *, cancellation: Cancellation | None = None) -> None:
        """Keep a file under its digest (`sha256:...`), which is checked; an existing blob is kept."""
        ...

    def fetch_blob(self, digest: str, target: Path, *, cancellation: Cancellation | None = None) -> None:
        """Write a blob to a new file. Raises NotShared; an incomplete `target` is removed."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Keep or replace a document of at most 16 MiB."""
        ...

    def put_file(self, name: str, source: Path) -> None:
        """Keep or replace a copy of a file."""
        ...

    def get(self, name: str) -> bytes:
        """A document or copy, at most 16 MiB of it. Raises NotShared."""
        ...

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names of all blobs, documents and copies that start so."""
        ...

    def fetch(self, name: str, target: Path) -> None:
        """Write a document or copy of any size to a new file. Raises NotShared; no `target` is left half."""
        ...

    def remove(self, name: str) -> None:
        """Remove a document or blob, if it exists."""
        ...


def blob_name(digest: str) -> str:
    """The name of a blob in a store. Raises SharedStoreError for what is no digest."""
    if not _DIGEST.fullmatch(digest):
        raise SharedStoreError(f"{digest!r} is not a digest: expected sha256: and 64 hexadecimal digits")
    return f"blobs/{digest.replace(':', '/')}"


def checked_name(name: str) -> str:
    """The name, if it stays inside a store. Raises SharedStoreError."""
    if not NAME.fullmatch(name):
        raise SharedStoreError(f"{name!r} is not a name in a shared store")
    return name


def require_digest(wanted: str, found: str, where: str) -> None:
    """Raise SharedStoreError for other bytes."""
    if found != wanted:
        raise SharedStoreError(f"{where} is damaged: it is {found}, not {wanted}")


def copy_checked(source: Any, target: Path, digest: str, *, where: str, cancellation: Cancellation | None) -> None:
    """Write a stream to a new file. Raises SharedStoreError for other bytes, OSError, Cancelled."""
    found = hashlib.sha256()
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            if cancellation is not None:
                cancellation.check()
            found.update(chunk)
            file.write(chunk)
    require_digest(digest, f"sha256:{found.hexdigest()}", where)


@contextmanager
def whole_or_gone(target: Path) -> Iterator[None]:
    """Remove an incomplete file after any failure."""
    try:
        yield
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def checker(cancellation: Cancellation | None) -> Callable[[int], None]:
    """The callback of boto3 during a transfer: raises Cancelled there."""
    return lambda _: None if cancellation is None else cancellation.check()
