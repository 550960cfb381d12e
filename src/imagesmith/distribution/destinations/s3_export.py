"""An S3 bucket as a destination: a disk in the requested format, whole or not at all (spec/api.md 6.3).

Its checksum, provenance and inventory follow as objects beside it (distribution/companions.py).

Long files are uploaded in parts, which S3 joins at the end; parts of a killed attempt are removed first, because a
store keeps them, hidden, without limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.distribution.companions import companions, write_companions
from imagesmith.distribution.destination import Delivery, DistributionContext, signing_key
from imagesmith.distribution.failures import DeliveryFailed
from imagesmith.distribution.role_access import export_s3, refused_bucket
from imagesmith.inspection.signing import SigningError, SigningKey
from imagesmith.processes import Cancellation
from imagesmith.store.amis import Ami


class ExportFailed(DeliveryFailed):
    """A disk did not reach its bucket; the text names the object and the store's answer."""


@dataclass(frozen=True)
class Export:
    """A distribution's options for an export."""

    role: str
    format: str
    bucket: str
    prefix: str

    @classmethod
    def of(cls, wanted: Mapping[str, Any]) -> Export:
        return cls(
            role=str(wanted["roleName"]), format=str(wanted["diskImageFormat"]).lower(),
            bucket=str(wanted["s3Bucket"]), prefix=str(wanted.get("s3Prefix", "")),
        )  # fmt: skip


class S3Export:
    """Exports the disk of an AMI under the role that the export names."""

    member = "s3ExportConfiguration"

    def accepts(self, delivery: Delivery, /) -> bool:
        return delivery.ami is not None

    def refusal(self, delivery: Delivery, /) -> str:
        export = Export.of(delivery.wanted)
        return refused_bucket(delivery.plan, delivery.settings.roles, role=export.role, bucket=export.bucket)

    def deliver(self, context: DistributionContext, delivery: Delivery) -> tuple[str, ...]:
        assert delivery.ami is not None
        export, signing = Export.of(delivery.wanted), signing_key(delivery.settings)
        access = export_s3(context.plan, context.s3(), context.settings.roles)
        key = f"{export.prefix}export-{delivery.ami.ami_id}.{export.format}"
        with (
            context.timed("export"),
            context.disks.exported(
                delivery.digest, key.rpartition("/")[2], export.format, cancellation=context.cancellation
            ) as whole,
        ):
            context.check_fence()
            client = access.client()
            export_object(client, whole, export.bucket, key, cancellation=context.cancellation)
            for suffix, path in _documents(context, delivery.ami, whole, signing).items():
                export_object(client, path, export.bucket, key + suffix, cancellation=context.cancellation)
        return (f"s3://{export.bucket}/{key}",)


def _documents(context: DistributionContext, ami: Ami, whole: Path, key: SigningKey) -> Mapping[str, Path]:
    """The files beside the disk, by suffix. Raises ExportFailed."""
    try:
        return write_companions(whole, companions(context.disks, ami, whole, key, context.clock()))
    except (OSError, SigningError) as error:
        raise ExportFailed(f"the documents about {ami.ami_id} cannot be made: {error}") from error


def export_object(client: Any, source: Path, bucket: str, key: str, *, cancellation: Cancellation) -> None:
    """Upload a file, over an existing object. Raises ExportFailed, Cancelled."""
    # imported late: a run without a bucket does not need it
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
            "check s3_endpoint_url and s3_access_key_id in the settings, and that the bucket exists"
        ) from error
    if arrived != size:
        raise ExportFailed(f"{arrived} of {size} bytes arrived at s3://{bucket}/{key}")


def _forget_parts(client: Any, bucket: str, key: str) -> None:
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key):
        for upload in page.get("Uploads", ()):
            if upload["Key"] == key:
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
