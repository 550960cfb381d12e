"""The two kinds of shared stores: a folder that every host mounts, and a bucket of any S3 endpoint."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagesmith.artifacts.intact import IntactFiles, digest_of_file
from imagesmith.artifacts.shared import (
    DOCUMENT_BYTES,
    NAME,
    NotShared,
    SharedStore,
    SharedStoreError,
    blob_name,
    checked_name,
    checker,
    copy_checked,
    require_digest,
    whole_or_gone,
)
from imagesmith.files import written_atomically
from imagesmith.processes import Cancellation

_MARK = "imagesmith-digest"
"""Metadata of an S3 object: the digest of its bytes when they were put."""


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
        path = self._folder / blob_name(digest)
        if not self._intact.fault(path, digest, cancellation=cancellation):
            return
        with self._drafted(path) as draft, source.open("rb") as file:
            copy_checked(file, draft, digest, where=str(source), cancellation=cancellation)

    def fetch_blob(self, digest: str, target: Path, *, cancellation: Cancellation | None = None) -> None:
        path = self._folder / blob_name(digest)
        with whole_or_gone(target), self._reading(path) as file:
            copy_checked(file, target, digest, where=str(path), cancellation=cancellation)

    def put(self, name: str, data: bytes) -> None:
        with self._drafted(self._folder / checked_name(name)) as draft:
            draft.write_bytes(data)

    def put_file(self, name: str, source: Path) -> None:
        with self._drafted(self._folder / checked_name(name)) as draft:
            shutil.copyfile(source, draft)

    def get(self, name: str) -> bytes:
        with self._reading(self._folder / checked_name(name)) as file:
            data: bytes = file.read(DOCUMENT_BYTES)
        return data

    def names(self, prefix: str = "") -> Iterator[str]:
        try:
            for parent, folders, files in os.walk(self._folder, onerror=_raise):
                if Path(parent) == self._folder:
                    folders[:] = [name for name in folders if name != self._drafts.name]
                found = (str((Path(parent) / name).relative_to(self._folder)) for name in files)
                yield from (name for name in found if name.startswith(prefix) and NAME.fullmatch(name))
        except OSError as error:
            raise SharedStoreError(f"the folder {self._folder} cannot be read: {error}") from error

    def fetch(self, name: str, target: Path) -> None:
        with (
            whole_or_gone(target),
            self._reading(self._folder / checked_name(name)) as file,
            target.open("xb") as copy,
        ):
            shutil.copyfileobj(file, copy)

    def remove(self, name: str) -> None:
        path = self._folder / checked_name(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise SharedStoreError(f"{path} cannot be removed: {error}") from error

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
        name = blob_name(digest)
        if self._is_stored(name, digest, source.stat().st_size):
            return
        with source.open("rb") as file:
            require_digest(digest, digest_of_file(file, cancellation=cancellation), str(source))
        with self._asking(name, "written"):
            self._client.upload_file(
                str(source), self._bucket, self._key(name), Callback=checker(cancellation),
                ExtraArgs={"Metadata": {_MARK: digest}},
            )  # fmt: skip

    def fetch_blob(self, digest: str, target: Path, *, cancellation: Cancellation | None = None) -> None:
        name = blob_name(digest)
        with whole_or_gone(target), self._reading(name) as body:
            copy_checked(body, target, digest, where=self._where(name), cancellation=cancellation)

    def check_blob(self, digest: str) -> None:
        """Read a blob to its end. Raises NotShared, SharedStoreError for other bytes."""
        name = blob_name(digest)
        with self._reading(name) as body:
            require_digest(digest, digest_of_file(body), self._where(name))

    def put(self, name: str, data: bytes) -> None:
        with self._asking(checked_name(name), "written"):
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data)

    def put_new(self, name: str, data: bytes) -> bool:
        """Keep a document unless there is one of this name; whether it was kept."""
        from botocore.exceptions import ClientError

        with self._asking(checked_name(name), "written"):
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=data, IfNoneMatch="*")
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in (
                    "PreconditionFailed",
                    "ConditionalRequestConflict",
                ):
                    return False
                raise
        return True

    def put_file(self, name: str, source: Path) -> None:
        # of its current length: a log grows while it is read
        with self._asking(checked_name(name), "written"):
            size = source.stat().st_size
            with source.open("rb") as file:
                self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=file.read(size))

    def get(self, name: str) -> bytes:
        with self._reading(checked_name(name)) as body:
            data: bytes = body.read(DOCUMENT_BYTES)
        return data

    def names(self, prefix: str = "") -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._asking(f"{prefix}*", "listed"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._key(prefix)):
                found = (str(item["Key"]).removeprefix(self._prefix) for item in page.get("Contents", ()))
                yield from (name for name in found if NAME.fullmatch(name))

    def fetch(self, name: str, target: Path) -> None:
        with whole_or_gone(target), self._asking(checked_name(name), "read"):
            self._client.download_file(self._bucket, self._key(name), str(target))

    def remove(self, name: str) -> None:
        with self._asking(checked_name(name), "removed"):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

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
    def _reading(self, name: str) -> Iterator[Any]:
        with self._asking(name, "read"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            with contextlib.closing(answer["Body"]) as body:
                yield body

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


def _raise(error: OSError) -> None:
    raise error
