"""A disk into a bucket of S3: an object is there when it is whole.

Long files go in parts, which S3 puts together at the end; parts of an attempt that was killed are taken away first,
because a store keeps them, unseen, for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imagesmith.processes import Cancellation


class ExportFailed(RuntimeError):
    """A disk that did not reach its bucket: says which object and what the store said."""


def export_object(client: Any, source: Path, bucket: str, key: str, *, cancellation: Cancellation) -> None:
    """Upload a file, over an object that is there. Raises ExportFailed, Cancelled."""
    # imported late: a run without a bucket does not pay for it
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    cancellation.check()
    size = source.stat().st_size
    try:
        _forget_parts(client, bucket, key)
        client.upload_file(str(source), bucket, key, Callback=lambda _: cancellation.check())
        arrived = int(client.head_object(Bucket=bucket, Key=key)["ContentLength"])
    except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
        raise ExportFailed(
            f"the disk cannot be exported to s3://{bucket}/{key}: {error}; "
            "see s3_endpoint_url and s3_access_key_id in the settings, and that the bucket exists"
        ) from error
    if arrived != size:
        raise ExportFailed(f"{arrived} of {size} bytes arrived at s3://{bucket}/{key}")


def _forget_parts(client: Any, bucket: str, key: str) -> None:
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key):
        for upload in page.get("Uploads", ()):
            if upload["Key"] == key:
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
