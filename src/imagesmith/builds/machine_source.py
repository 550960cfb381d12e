"""The disks that machines of a build start on: the parent of the plan, an AMI of the catalog, the output image.

builds/machine_output.py registers the disk that a build made; MachineBuild (builds/machine_build.py) has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagesmith.artifacts.bases import ParentError
from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.managed_parent import configured_source
from imagesmith.builds.work import Work
from imagesmith.distribution.destinations.catalog_region import own_ami, own_id
from imagesmith.instances.machine.hardware import Firmware
from imagesmith.instances.machine.options import Entry
from imagesmith.managed.bases import managed_base
from imagesmith.recipes.plan import PlannedMachine
from imagesmith.store import amis
from imagesmith.store.amis import Ami, may_launch
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant


@dataclass(frozen=True)
class Source:
    """A disk to start on, and how to enter its machines."""

    disk: Disk
    entry: Entry
    firmware: Firmware = "bios"

    @property
    def ami_members(self) -> Mapping[str, Any]:
        """Members of the document of an AMI of this disk."""
        return {"bootMode": "uefi"} if self.firmware == "uefi" else {}


def planned(work: Work) -> PlannedMachine:
    return work.plan.machine or PlannedMachine()


def parent_source(work: Work) -> Source:
    """The parent of the plan, verified against its digest. Raises StepFailed, Cancelled."""
    parent = work.plan.parent
    work.log.line("parent", parent.reference)
    try:
        source = _find_parent(work)
        if source is not None:
            return source
    except (ParentError, DiskError) as error:
        raise StepFailed(f"the parent image {parent.reference} cannot be used: {error}") from error
    raise StepFailed(
        f"the parent image {parent.reference} cannot be used: a disk by path or URL needs a checksum; add it with "
        "'imagesmith base add' and name the ami- id that it prints"
    )


def _find_parent(work: Work) -> Source | None:
    parent, wanted = work.plan.parent, work.plan.reproducible
    if wanted is not None and wanted.parent:
        return _disk_source(work, wanted.parent)
    if parent.kind == "managed":
        return _managed(work)
    if parent.kind == "image":
        return _disk_source(work, parent.digest)
    return ami_source(work, parent.reference) if parent.reference.startswith("ami-") else None


def ami_source(work: Work, ami_id: str) -> Source:
    """An AMI of the catalog that the run's account may launch. Raises StepFailed."""
    found = work.worker_context.records.database.query(lambda tx: amis.get_ami(tx, ami_id))
    if found is None or not may_launch(found, work.plan.account) or found.region != work.plan.region:
        raise StepFailed(
            f"there is no AMI {ami_id} in {work.plan.region} that account {work.plan.account} may launch; "
            "see: imagesmith ami list"
        )
    try:
        disk = work.worker_context.disks.whole(found.digest, cancellation=work.cancellation)
    except DiskError as error:
        raise StepFailed(f"the AMI {ami_id} cannot be used: {error}") from error
    launched = iso_instant(work.worker_context.clock())
    work.worker_context.records.database.change(
        f"{found.account}/{found.region}", lambda tx: amis.note_launch(tx, ami_id, launched)
    )
    return Source(disk, _entry(found), _firmware(found))


def output_source(work: Work, digest: str) -> Source:
    """The output image; its instances start with cloud-init, as for users. Raises StepFailed."""
    try:
        return Source(
            work.worker_context.disks.whole(digest, cancellation=work.cancellation),
            "cloud-init",
            _firmware(own_ami(work.distribution)),
        )
    except DiskError as error:
        raise StepFailed(f"the output image {own_id(work.plan)} cannot be used: {error}") from error


def _managed(work: Work) -> Source:
    source, bases = configured_source(work), work.worker_context.machine_bases

    def on_line(line: str) -> None:
        work.log.line("parent", line)

    if source.kind == "disk":
        name = Arn.parse(work.plan.parent.reference).slug
        disk = bases.fixed(name, source.location, source.checksum, on_line=on_line, cancellation=work.cancellation)
        return Source(disk, "cloud-init")
    base = managed_base(source.location, "machine")
    if base is None:
        raise StepFailed(f"there is no base {source.location} for machines in this version")
    return Source(bases.managed(base, on_line=on_line, cancellation=work.cancellation), "credentials")


def _disk_source(work: Work, digest: str) -> Source:
    """A disk with firmware and entry of its newest AMI. Raises DiskError."""
    disk = work.worker_context.disks.whole(digest, cancellation=work.cancellation)
    found = work.worker_context.records.database.query(lambda tx: amis.amis_of_digest(tx, digest))
    return Source(disk, _entry(found[0]), _firmware(found[0])) if found else Source(disk, "cloud-init")


def _entry(ami: Ami) -> Entry:
    return "credentials" if ami.document.get("entry") == "credentials" else "cloud-init"


def _firmware(ami: Ami) -> Firmware:
    """The firmware for machines of an AMI, by its boot mode."""
    return "uefi" if str(ami.document.get("bootMode", "")).startswith("uefi") else "bios"
