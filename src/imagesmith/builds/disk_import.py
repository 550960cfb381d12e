"""A disk in a bucket becomes the AMI of an image.

The object is untrusted: its size is bounded before and while it is read, and a disk that names other files, is
encrypted or has an unknown format is refused before any tool opens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from imagesmith.artifacts.disk_formats import LARGEST_DISK
from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.builds import inspection
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.machine_output import register_disk
from imagesmith.builds.work import Work
from imagesmith.components.s3 import S3Error, parse_address, store_error
from imagesmith.distribution.role_access import s3_of
from imagesmith.values.names import human_size

_CHUNK: Final = 1024 * 1024
_MIB: Final = 1024 * 1024
_COPIES: Final = 2
"""The object and the disk made of it are there at the same time."""


def take_object(work: Work) -> str:
    """Take the disk at the plan's `s3://` address into the store as the output; returns its digest.

    Raises StepFailed, Cancelled.
    """
    address = work.plan.parent.reference
    disks = work.worker_context.disks
    with work.timed("import"), disks.draft() as draft:
        download(work, address, draft)
        try:
            disk = disks.take(draft, name=address, cancellation=work.cancellation)
        except DiskError as error:
            raise StepFailed(f"the disk cannot be imported: {error}") from error
    return record_disk(work, disk)


def record_disk(work: Work, disk: Disk, more: Mapping[str, Any] | None = None) -> str:
    """Make a disk the output of its import: an AMI, which has `more` members, and an inventory.

    Returns its digest. Raises StepFailed, Cancelled.
    """
    context = work.worker_context
    # an import stays PENDING, so a cancel ends it in the record before this run hears of it
    work.cancellation.check()
    register_disk(work, disk, entry="cloud-init", more=more)
    context.outcomes.keep_output(work.plan.image_arn, digest=disk.digest, size=disk.size, parent_digest="")
    inspection.keep_disk_inventory(work, disk.digest, context.clock())
    return disk.digest


def download(work: Work, text: str, target: Path) -> None:
    """Write the object at an `s3://` address to a file. Raises StepFailed, Cancelled."""
    # imported late: other runs do not need it
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        address = parse_address(text)
        client = s3_of(work.plan, work.worker_context.s3).client()
        answer = client.get_object(Bucket=address.bucket, Key=address.key)
        size = int(answer["ContentLength"])
        _require_room(work, text, size)
        work.log.line("import", f"{text} ({human_size(size)})")
        arrived = _write(work, answer["Body"], target, size)
    except (BotoCoreError, ClientError) as error:
        raise StepFailed(f"the object cannot be read: {store_error(text, error)}") from error
    except S3Error as error:
        raise StepFailed(f"the object cannot be read: {error}") from error
    if arrived != size:
        raise StepFailed(f"{arrived} of {size} bytes of {text} arrived; import it again")


def _require_room(work: Work, text: str, size: int) -> None:
    """Refuse an object that is too long for a disk, or for the disk of this worker. Raises StepFailed."""
    if size > LARGEST_DISK:
        raise StepFailed(f"{text} has {size} bytes; the limit of a disk is {LARGEST_DISK}")
    floor = work.worker_context.settings.builds.free_disk_mb * _MIB
    free = work.worker_context.reserve.free
    if size * _COPIES + floor > free:
        raise StepFailed(
            f"{text} has {human_size(size)}: its import needs twice that and the {human_size(floor)} of "
            f"free_disk_mb, and {human_size(free)} are free; remove images that are not needed"
        )


def _write(work: Work, body: Any, target: Path, size: int) -> int:
    """Write at most `size` bytes; returns their number. Raises Cancelled, OSError."""
    arrived = 0
    with target.open("wb") as file:
        for chunk in body.iter_chunks(_CHUNK):
            work.cancellation.check()
            arrived += len(chunk)
            if arrived > size:
                break
            file.write(chunk)
    return arrived
