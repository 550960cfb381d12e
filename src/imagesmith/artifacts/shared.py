"""The store that servers and workers of several hosts share: artifacts by digest, documents and logs by name.

    blobs/sha256/<digest>     manifests, configurations, layers, disks: written whole or absent, never changed
    images/<digest>.json      index entries of an image that is whole here, written last (exchange.py)
    names/<reference>         the digest of the image that has this name
    logs/...                  copies of build logs

Two kinds: a folder that every host mounts, and a bucket of any S3 endpoint. What is fetched is checked against its
digest, so a damaged or forged blob never becomes part of an image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from imagesmith.processes import Cancellation

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9][A-Za-z0-9._/+:@-]{0,511}")
_DOCUMENT_BYTES = 16 * 1024 * 1024
_CHUNK = 1024 * 1024


class SharedStoreError(RuntimeError):
    """The shared store cannot be used, or holds something damaged: says where and which."""


class NotShared(SharedStoreError, LookupError):
    """The shared store does not have what was asked for."""


class SharedStore(Protocol):
    """Safe for several threads and hosts. Every method raises SharedStoreError."""

    @property
    def url(self) -> str:
        """Where it is, as users write it; ends without a slash."""
        ...

    def put_blob(self, digest: str, source: Path, *, cancellation: Cancellation | None = None) -> None:
        """Keep a file under its digest (`sha256:...`), which is checked; one that is here already stays."""
        ...

    def fetch_blob(self, digest: str, target: Path, *, cancellation: Cancellation | None = None) -> None:
        """Write a blob to a new file. Raises NotShared; `target` is gone unless it is whole."""
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
    """The store at `s3://bucket[/prefix]` or in a folder; `make_client` gives a boto3 client.

    Raises SharedStoreError.
    """
    if not url.startswith("s3://"):
        if "://" in url or not Path(url).is_absolute():
            raise SharedStoreError(f"{url!r} is no store for artifacts: expected s3://bucket[/prefix] or /a/folder")
        return FolderStore(Path(url))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise SharedStoreError(f"{url!r} names no bucket: expected s3://bucket[/prefix]")
    return S3Store(make_client(), bucket, prefix.strip("/"))


class FolderStore:
    """A folder that every host mounts under the same path; files appear by renaming complete ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drafts = folder / "drafts"
        try:
            self._drafts.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SharedStoreError(f"the folder {folder} for shared artifacts cannot be made: {error}") from error

    @property
    def url(self) -> str:
        return str(self._folder)

    def put_blob(self, digest: str, source: Path, *, cancellation: Cancellation | None = None) -> None:
        place = self._folder / _blob_name(digest)
        if place.exists():
            return
        with self._drafted(place) as draft, source.open("rb") as file:
            _copy_checked(file, draft, digest, where=str(source), cancellation=cancellation)

    def fetch_blob(self, digest: str, target: Path, *, cancellation: Cancellation | None = None) -> None:
        place = self._folder / _blob_name(digest)
        with _whole_or_gone(target), self._reading(place) as file:
            _copy_checked(file, target, digest, where=str(place), cancellation=cancellation)

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
    def _reading(self, place: Path) -> Iterator[Any]:
        try:
            with place.open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise NotShared(f"{place} does not exist") from error
        except OSError as error:
            raise SharedStoreError(f"{place} cannot be read: {error}") from error

    @contextmanager
    def _drafted(self, place: Path) -> Iterator[Path]:
        draft = self._drafts / secrets.token_hex(16)
        try:
            yield draft
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(place)
            _flush(place.parent)
        except OSError as error:
            raise SharedStoreError(f"{place} cannot be written: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


class S3Store:
    """A bucket, or what is below a prefix of one. An object of S3 is whole or absent by nature."""

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put_blob(self, digest: str, source: Path, *, cancellation: Cancellation | None = None) -> None:
        name = _blob_name(digest)
        if self._has(name):
            return
        with source.open("rb") as file:
            _require_digest(digest, _hash(file, cancellation), str(source))
        with self._asking(name, "written"):
            self._client.upload_file(str(source), self._bucket, self._key(name), Callback=_checker(cancellation))

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
        # of the length that it has now: a log grows while it is read
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

    def _has(self, name: str) -> bool:
        try:
            with self._asking(name, "looked up"):
                self._client.head_object(Bucket=self._bucket, Key=self._key(name))
        except NotShared:
            return False
        return True

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._key(name)}"

    @contextmanager
    def _asking(self, name: str, what: str) -> Iterator[None]:
        # imported late: a host without a bucket does not pay for it
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
        raise SharedStoreError(f"{digest!r} is no digest: expected sha256: and 64 hexadecimal digits")
    return f"blobs/{digest.replace(':', '/')}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SharedStoreError(f"{name!r} is no name in a shared store")
    return name


def _require_digest(wanted: str, found: str, where: str) -> None:
    if found != wanted:
        raise SharedStoreError(f"{where} is damaged: it is {found}, not {wanted}")


def _hash(file: Any, cancellation: Cancellation | None) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        if cancellation is not None:
            cancellation.check()
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


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
    """What boto3 calls while it sends: raises Cancelled there."""
    return lambda _: None if cancellation is None else cancellation.check()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
