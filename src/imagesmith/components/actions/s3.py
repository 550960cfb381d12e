"""S3Download and S3Upload against any S3 endpoint (spec/components.md 10.7, 10.8).

Objects pass through the worker, which holds the credentials; the instance never sees them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from imagesmith.components.actions.assertions import InstanceProbe
from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    TypedInputs,
    list_action,
    path_argument,
)
from imagesmith.components.actions.folders import list_folder
from imagesmith.components.actions.shared_inputs import OVERWRITE
from imagesmith.components.actions.transfer import absolute, exists, put, scratch_folder
from imagesmith.components.actions.wildcards import split_wildcard, star_pattern
from imagesmith.components.s3 import S3Address, S3Error, owner_arguments, parse_address, store_error
from imagesmith.components.schema import Schema, flag, inputs, text

MAX_OBJECTS: Final = 1000
_CHUNK: Final = 1024 * 1024
_REFUSED: Final = (
    'S3Download: File already exists and "overwrite" property for "destination" file is set to false. '
    "Cannot download."
)


def actions() -> tuple[Action, ...]:
    owner = text("The account that must own the bucket.", pattern=r"^[0-9]{12}$", expected="12 digits")
    return (
        list_action(
            "S3Download",
            "Downloads an object, or all objects below a prefix.",
            s3_download,
            inputs(
                {
                    "source": _address_text("s3://bucket/key, or s3://bucket/prefix/*."),
                    "destination": text("The file; the folder for a prefix.", minLength=1),
                    "expectedBucketOwner": owner,
                    "overwrite": OVERWRITE,
                },
                required=("source", "destination"),
            ),
        ),
        list_action(
            "S3Upload",
            "Uploads a file, or all files of a folder or a * pattern.",
            s3_upload,
            inputs(
                {
                    "source": text("A file, a folder, or a path with *.", minLength=1),
                    "destination": _address_text("s3://bucket/key, or a prefix that ends with /."),
                    "recurse": flag("Also sub-folders.", default=False),
                    "expectedBucketOwner": owner,
                },
                required=("source", "destination"),
            ),
        ),
    )


def _address_text(description: str) -> Schema:
    return text(description, minLength=1, pattern=r"(?i)^s3://[^/]+/", expected="s3://bucket/key")


def s3_download(context: ActionContext, entry: TypedInputs) -> None:
    source, owner = _address(entry["source"]), entry.get("expectedBucketOwner", "")
    destination = path_argument(entry["destination"])
    client = context.services.s3.client()
    if not source.key.endswith("*"):
        if destination.endswith("/"):
            destination += posixpath.basename(source.key)
        _download_object(context, client, source, destination, owner, overwrite=entry["overwrite"])
        return
    prefix = source.key.removesuffix("*")
    keys = _keys(client, source.bucket, prefix, owner)
    if not keys:
        raise ActionFailed(f"{source}: no object matches")
    for key in keys:
        below = key[len(prefix.rpartition("/")[0]) :].lstrip("/")
        if ".." in below.split("/"):
            raise ActionFailed(f"the key '{key}' would leave the destination")
        target = f"{destination.rstrip('/')}/{below}"
        address = S3Address(source.bucket, key)
        _download_object(context, client, address, target, owner, overwrite=entry["overwrite"])


def s3_upload(context: ActionContext, entry: TypedInputs) -> None:
    target, owner = _address(entry["destination"]), entry.get("expectedBucketOwner", "")
    source = path_argument(entry["source"])
    client = context.services.s3.client()
    folder, name = split_wildcard(source.rstrip("/"))
    if "*" in name:
        pairs = _matches(context, folder, name, recurse=entry["recurse"])
        if not pairs:
            raise ActionFailed(f"'{source}': no file matches")
    elif InstanceProbe(context).folder_exists(source):
        if not entry["recurse"]:
            raise ActionFailed(f"'{source}' is a folder, which needs 'recurse: true'")
        pairs = _below(context, source, recursive=True)
    else:
        key = target.key + posixpath.basename(source) if target.key.endswith("/") or not target.key else target.key
        _upload_object(context, client, source, S3Address(target.bucket, key), owner)
        return
    prefix = target.key if target.key.endswith("/") or not target.key else f"{target.key}/"
    for path, relative in pairs:
        _upload_object(context, client, path, S3Address(target.bucket, prefix + relative), owner)


def _address(value: str) -> S3Address:
    try:
        return parse_address(value)
    except S3Error as error:
        raise ActionFailed(str(error)) from error


def _keys(client: Any, bucket: str, prefix: str, owner: str) -> list[str]:
    """Keys below a prefix, except folder markers. Raises ActionFailed beyond MAX_OBJECTS."""
    found: list[str] = []
    with _convert_errors(f"s3://{bucket}/{prefix}*"):
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, **owner_arguments(owner)
        )
        for page in pages:
            found += [item["Key"] for item in page.get("Contents", ()) if not item["Key"].endswith("/")]
            if len(found) > MAX_OBJECTS:
                raise ActionFailed(f"s3://{bucket}/{prefix}* has more than {MAX_OBJECTS} objects")
    return found


def _download_object(
    context: ActionContext, client: Any, source: S3Address, destination: str, owner: str, *, overwrite: bool
) -> None:
    if not overwrite and exists(context, destination):
        raise ActionFailed(_REFUSED)
    with scratch_folder(context) as folder:
        local = folder / "object"
        with _convert_errors(str(source)), local.open("wb") as file:
            answer = client.get_object(Bucket=source.bucket, Key=source.key, **owner_arguments(owner))
            if answer["ContentLength"] > context.services.download_bytes:
                raise ActionFailed(f"{source} is longer than {context.services.download_bytes} bytes")
            for chunk in answer["Body"].iter_chunks(_CHUNK):
                file.write(chunk)
                context.cancellation.check()
                context.remaining()
        put(context, local, destination)
    context.note(f"S3Download: {source} -> {destination}")


def _upload_object(context: ActionContext, client: Any, path: str, target: S3Address, owner: str) -> None:
    context.remaining()
    with scratch_folder(context) as folder:
        local = folder / "object"
        context.instance.pull(absolute(context, path), local)
        with _convert_errors(str(target)):
            client.upload_file(str(local), target.bucket, target.key, ExtraArgs=owner_arguments(owner))
    context.note(f"S3Upload: {path} -> {target}")


def _matches(context: ActionContext, folder: str, pattern: str, *, recurse: bool) -> list[tuple[str, str]]:
    """Path and relative name of each file that a `*` matches; with `recurse` also files in matching folders."""
    names = star_pattern(pattern)
    return [
        (path, relative)
        for path, relative in _below(context, folder, recursive=recurse)
        if names.match(relative.partition("/")[0])
    ]


def _below(context: ActionContext, folder: str, *, recursive: bool) -> list[tuple[str, str]]:
    """Path and name relative to the folder of each file in it."""
    root, paths = list_folder(context, folder, recursive=recursive)
    return [(path, path[len(root.rstrip("/")) + 1 :]) for path in paths]


@contextmanager
def _convert_errors(address: str) -> Iterator[None]:
    """Convert exceptions of boto3 to the action's failure."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise ActionFailed(str(store_error(address, error))) from error
