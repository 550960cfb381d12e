"""The shared store of servers and workers on several hosts: artifacts by digest, documents and logs by name.

    blobs/sha256/<digest>     manifests, configurations, layers, disks: complete or absent, never changed
    images/<digest>.json      index entries of an image that is complete here, written last (exchange.py)
    names/<reference>         the digest of the image with this name
    logs/...                  copies of build logs

Two kinds: a folder that every host mounts, and a bucket of any S3 endpoint. Fetched blobs are checked against their
digests, so a damaged or forged blob never becomes part of an image.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from imagesmith.artifacts.intact import IntactFiles, digest_of_file
from imagesmith.files import written_atomically
from imagesmith.processes import Cancellation

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9][A-Za-z0-9._/+:@-]{0,511}")
_DOCUMENT_BYTES = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
_MARK = "imagesmith-digest"
"""Metadata of an S3 object: the digest of its bytes when they were put."""


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


def open_shared_store(url: str, make_client: Callable[[], Any]) -> SharedStore:
    """The store at `s3://bucket[/prefix]` or in a folder; `make_client` returns a boto3 client.

    Raises SharedStoreError.
    """
    if not url.startswith("s3://"):
        if "://" in url or not Path(url).is_absolute():
            raise SharedStoreError(f"{url!r} is not an artifact store: expected s3://bucket[/prefix] or /a/folder")
        return FolderStore(Path(url))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise SharedStoreError(f"{url!r} has no bucket: expected s3://bucket[/prefix]")
    return S3Store(make_client(), bucket, prefix.strip("/"))


class FolderStore:
    """A folder that every host mounts under the same path; files appear by renaming complete ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drafts = folder / "drafts"
        self._intact = IntactFiles()
        try:
            self._drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SharedStoreError(f"the folder {folder} of shared artifacts cannot be made: {error}") from error

    @property
    def url(self) -> str:
        return str(self._folder)

    def put_blob(self, digest: str, source: Path, *, cancellation: Cancellation | None = None) -> None:
        path = self._folder / _blob_name(digest)
        if not self._intact.fault(path, digest, cancellation=cancellation):
            return
        with self._drafted(path) as draft, source.open("rb") as file:
            _copy_checked(file, draft, digest, where=str(source), cancellation=cancellation)

    def fetch_blob(self, digest: str, target: Path, *, cancellation: Cancellation | None = None) -> None:
        path = self._folder / _blob_name(digest)
        with _whole_or_gone(target), self._reading(path) as file:
            _copy_checked(file, target, digest, where=str(path), cancellation=cancellation)

    def put(self, name: str, data: bytes) -> None:
        with self._drafted(self._folder / _checked(name)) as draft:
            draft.write_bytes(data)

    def put_file(self, name: str, source: Path) -> None:
        with self._drafted(self._folder / _checked(name)) as draft:
            shutil.copyfile(source, draft)

    def get(self, name: str) -> bytes:
        with self._reading(self._folder / _checked(name)) as file:
            data: bytes = file.read(_DOCUMENT_BYTES)
        return data

    @contextmanager
    def _reading(self, path: Path) -> Iterator[Any]:
        try:
            with path.open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise NotShared(f"{path} does not exist") from error
        except OSError as error:
            raise SharedStoreError(f"{path} cannot be read: {error}") from error

    @contextmanager
    def _drafted(self, path: Path) -> Iterator[Path]:
        try:
            with written_atomically(path, drafts=self._drafts) as draft:
                yield draft
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SharedStoreError(f"{path} cannot be written: {error}") from error


class S3Store:
    """A bucket, or a prefix of one. An S3 object is always complete or absent."""

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put_blob(self, digest: str, source: Path, *, cancellation: Cancellation | None = None) -> None:
        name = _blob_name(digest)
        if self._is_stored(name, digest, source.stat().st_size):
            return
        with source.open("rb") as file:
            _require_digest(digest, digest_of_file(file, cancellation=cancellation), str(source))
        with self._asking(name, "written"):
            self._client.upload_file(
                str(source), self._bucket, self._key(name), Callback=_checker(cancellation),
                ExtraArgs={"Metadata": {_MARK: digest}},
            )  # fmt: skip

    def fetch_blob(self, digest: str, target: Path, *, cancellation: Cancellation | None = None) -> None:
        name = _blob_name(digest)
        with _whole_or_gone(target), self._asking(name, "read"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            with contextlib.closing(answer["Body"]) as body:
                _copy_checked(body, target, digest, where=self._where(name), cancellation=cancellation)

    def put(self, name: str, data: bytes) -> None:
        with self._asking(_checked(name), "written"):
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data)

    def put_file(self, name: str, source: Path) -> None:
        # of its current length: a log grows while it is read
        with self._asking(_checked(name), "written"):
            size = source.stat().st_size
            with source.open("rb") as file:
                self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=file.read(size))

    def get(self, name: str) -> bytes:
        with self._asking(_checked(name), "read"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            with contextlib.closing(answer["Body"]) as body:
                data: bytes = body.read(_DOCUMENT_BYTES)
        return data

    def _is_stored(self, name: str, digest: str, size: int) -> bool:
        """Whether an object was put by imagesmith; an object that others overwrote lacks the mark.

        The bytes are not read: a fetch checks them against the digest.
        """
        try:
            with self._asking(name, "looked up"):
                found = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
        except NotShared:
            return False
        return int(found["ContentLength"]) == size and found.get("Metadata", {}).get(_MARK) == digest

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._key(name)}"

    @contextmanager
    def _asking(self, name: str, what: str) -> Iterator[None]:
        # imported late: a host without a bucket does not need it
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                raise NotShared(f"{self._where(name)} does not exist") from error
            raise SharedStoreError(f"{self._where(name)} cannot be {what}: {error}") from error
        except (Boto3Error, BotoCoreError, OSError) as error:
            raise SharedStoreError(f"{self._where(name)} cannot be {what}: {error}") from error


def _blob_name(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise SharedStoreError(f"{digest!r} is not a digest: expected sha256: and 64 hexadecimal digits")
    return f"blobs/{digest.replace(':', '/')}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SharedStoreError(f"{name!r} is not a name in a shared store")
    return name


def _require_digest(wanted: str, found: str, where: str) -> None:
    if found != wanted:
        raise SharedStoreError(f"{where} is damaged: it is {found}, not {wanted}")


def _copy_checked(source: Any, target: Path, digest: str, *, where: str, cancellation: Cancellation | None) -> None:
    found = hashlib.sha256()
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            if cancellation is not None:
                cancellation.check()
            found.update(chunk)
            file.write(chunk)
    _require_digest(digest, f"sha256:{found.hexdigest()}", where)


@contextmanager
def _whole_or_gone(target: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _checker(cancellation: Cancellation | None) -> Callable[[int], None]:
    """The callback of boto3 during a transfer: raises Cancelled there."""
    return lambda _: None if cancellation is None else cancellation.check()
