"""Runs that build nothing: an AMI that exists is distributed, a disk of a bucket is imported (spec/api.md 5.3).

distribute   PENDING -> DISTRIBUTING (the disk becomes the image's AMI; copies) -> INTEGRATING -> AVAILABLE
import       PENDING (the object becomes a disk, and the disk an AMI) -> AVAILABLE
install      PENDING (the object is installed on a disk, and the disk becomes an AMI) -> AVAILABLE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.builds.disk_import import take_object
from imagesmith.builds.image_end import ImageResult
from imagesmith.builds.iso_install import install_object
from imagesmith.builds.run_base import RunBase
from imagesmith.builds.work import Work
from imagesmith.values.states import ImageStatus


def distribute_disk(run: RunBase) -> ImageResult:
    """Register the disk of the source as the run's output, and distribute that; a retry begins with the copies."""

    def adopt(work: Work) -> Mapping[str, Any]:
        if work.plan.unused:
            work.log.line("adopt", f"members without effect on an AMI: {', '.join(work.plan.unused)}")
        kept = work.worker_context.outcomes.get(run.arn).digest
        return {"digest": kept or run.kind.adopt_parent(work)}

    adopted = run.stage("adopt", ImageStatus.DISTRIBUTING, adopt)
    if not adopted.ok:
        return ImageResult.failed(ImageStatus.DISTRIBUTING, adopted)
    done = run.stage(
        "distribute",
        ImageStatus.DISTRIBUTING,
        lambda work: {"containers": run.kind.distribute(work, adopted.digest)},
    )
    if not done.ok:
        return ImageResult.failed(ImageStatus.DISTRIBUTING, done)
    return ImageResult(ImageStatus.AVAILABLE)


def import_disk(run: RunBase) -> ImageResult:
    """Make the object that the plan names the image's AMI."""
    taken = run.stage("import", ImageStatus.PENDING, lambda work: {"digest": take_object(work)})
    if not taken.ok:
        return ImageResult.failed(ImageStatus.PENDING, taken)
    return ImageResult(ImageStatus.AVAILABLE)


def install_iso(run: RunBase) -> ImageResult:
    """Install the ISO that the plan names; the disk is the image's AMI."""
    made = run.stage("install", ImageStatus.PENDING, lambda work: {"digest": install_object(work)})
    if not made.ok:
        return ImageResult.failed(ImageStatus.PENDING, made)
    return ImageResult(ImageStatus.AVAILABLE)
