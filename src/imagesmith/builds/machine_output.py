"""The output of a build of a machine image: its disk by digest, as an AMI of the build Region.

Every function may run again after a crash: disks are found by digest, AMI ids are derived from their image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.distribution.destinations.catalog_region import own_id, register_output
from imagesmith.store.amis import Ami
from imagesmith.values.names import human_size


def require_disk(work: Work, digest: str) -> None:
    """Refuse to distribute an image whose disk is gone or damaged. Raises StepFailed, Cancelled."""
    try:
        work.worker_context.disks.whole(digest, cancellation=work.cancellation)
    except DiskError as error:
        raise StepFailed(f"the image {own_id(work.plan)} cannot be distributed: {error}") from error


def register_disk(work: Work, disk: Disk, *, entry: str, more: Mapping[str, Any] | None = None) -> Ami:
    """Register a disk as the output of the run; `more` goes into the document of the AMI."""
    if work.worker_context.exchange is not None:
        work.worker_context.exchange.publish_disk(
            work.worker_context.disks, disk.digest, cancellation=work.cancellation
        )
    ami = register_output(work.distribution, disk.digest, entry=entry, more=more)
    size = f"{human_size(disk.size)}, {human_size(disk.virtual_size)} for a guest"
    work.log.line("image", f"{ami.ami_id} '{ami.name}' is {disk.digest} ({size})")
    return ami
