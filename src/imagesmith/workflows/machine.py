"""A machine image before and after its workflow: what instances start on, and what is kept of it.

    parent -> overlay -> instance of the BUILD workflow -> disk by digest -> AMI of the build Region
                         (its steps change it)

Every function may run again after a crash: disks are found by digest, AMI ids are made from what they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imagesmith.artifacts.bases import ParentError
from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.instances.machine.hardware import Firmware
from imagesmith.instances.machine.options import Entry
from imagesmith.managed.bases import managed_base
from imagesmith.recipes.plan import PlannedMachine
from imagesmith.store import amis
from imagesmith.store.amis import Ami
from imagesmith.values.arn import Arn
from imagesmith.values.names import human_size
from imagesmith.workflows import inspection
from imagesmith.workflows.amis import may_launch, own_ami, own_id, register_output
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.work import Work
from imagesmith.workflows.workshop import Workshop


@dataclass(frozen=True)
class Source:
    """A disk to start on, and how machines made from it let us in."""

    disk: Disk
    entry: Entry
    firmware: Firmware = "bios"


def planned(work: Work) -> PlannedMachine:
    return work.plan.machine or PlannedMachine()


def parent_source(work: Work) -> Source:
    """The parent of the plan, whose bytes were compared with its digest. Raises StepFailed, Cancelled."""
    parent = work.plan.parent
    work.log.line("parent", parent.reference)
    try:
        source = _found_parent(work)
        if source is not None:
            work.shop.disks.check(source.disk.digest)
            return source
    except (ParentError, DiskError) as error:
        raise StepFailed(f"the parent image {parent.reference} cannot be used: {error}") from error
    raise StepFailed(
        f"the parent image {parent.reference} cannot be used: a disk by path or URL needs a checksum; add it with "
        "'imagesmith base add' and name the ami- id that it prints"
    )


def _found_parent(work: Work) -> Source | None:
    parent = work.plan.parent
    if parent.kind == "managed":
        return _managed(work)
    if parent.kind == "image":
        return _disk_source(work, parent.digest)
    return ami_source(work, parent.reference) if parent.reference.startswith("ami-") else None


def ami_source(work: Work, ami_id: str) -> Source:
    """An AMI of the catalog that the run's account may launch. Raises StepFailed."""
    with work.shop.records.database.read() as tx:
        found = amis.get_ami(tx, ami_id)
    if found is None or not may_launch(found, work.plan.account) or found.region != work.plan.region:
        raise StepFailed(
            f"there is no AMI {ami_id} in {work.plan.region} that account {work.plan.account} may launch; "
            "see: imagesmith ami list"
        )
    try:
        return Source(work.shop.disks.get(found.digest), _entry(found), _firmware(found))
    except DiskError as error:
        raise StepFailed(f"the AMI {ami_id} cannot be used: {error}") from error


def output_source(work: Work, digest: str) -> Source:
    """The output image; its instances start as everybody else's would, with cloud-init. Raises StepFailed."""
    try:
        return Source(work.shop.disks.get(digest), "cloud-init", _firmware(own_ami(work)))
    except DiskError as error:
        raise StepFailed(f"the output image is gone: {error}") from error


def keep_disk(work: Work, disk: Disk, *, entry: str, more: Mapping[str, Any] | None = None) -> Ami:
    """Register a disk as the output of the run; `more` goes into the document of the AMI."""
    if work.shop.exchange is not None:
        work.shop.exchange.publish_disk(work.shop.disks, disk.digest, cancellation=work.cancellation)
    ami = register_output(work, disk.digest, entry=entry, more=more)
    size = f"{human_size(disk.size)}, {human_size(disk.virtual_size)} for a guest"
    work.log.line("image", f"{ami.ami_id} '{ami.name}' is {disk.digest} ({size})")
    return ami


def built_disk(work: Work, outputs: Mapping[str, Any], *, started: datetime) -> str:
    """The digest of the image that the output ImageId of a BUILD workflow names. Raises StepFailed."""
    wanted = str(outputs.get("ImageId", "")).strip()
    if not wanted:
        raise StepFailed("Build workflow must have output named ImageId to build AMI.")
    source = ami_source(work, wanted)
    if wanted != own_id(work):
        # made by somebody else, whatever the step that named it: the image adopts it (spec/workflows.md 2.4)
        keep_disk(work, source.disk, entry=source.entry)
    parent = work.shop.records.outcome(work.plan.image_arn).get("parent", {})
    work.shop.records.note(
        work.plan.image_arn,
        digest=source.disk.digest,
        size=source.disk.size,
        parent_digest=parent.get("digest", ""),
    )
    inspection.keep_disk_documents(work, source.disk.digest, parent=parent, started=started)
    return source.disk.digest


def adopted_disk(work: Work) -> str:
    """Without a BUILD workflow the parent's disk is the output image (spec/workflows.md 7.2); gives its digest."""
    source = parent_source(work)
    keep_disk(work, source.disk, entry=source.entry)
    work.shop.records.note(
        work.plan.image_arn, digest=source.disk.digest, size=source.disk.size, parent_digest=source.disk.digest
    )
    inspection.keep_disk_inventory(work, source.disk.digest, work.shop.clock())
    return source.disk.digest


def shown_amis(shop: Workshop, image_arn: str) -> list[dict[str, Any]]:
    """outputResources.amis of an image: every AMI that it became."""
    with shop.records.database.read() as tx:
        found = amis.list_amis(tx, image_arn=image_arn)
    return [
        {
            "region": ami.region, "image": ami.ami_id, "name": ami.name, "accountId": ami.account,
            "description": str(ami.document.get("description", "")), "state": {"status": "AVAILABLE"},
        }
        for ami in sorted(found, key=lambda item: (item.region, item.account))
    ]  # fmt: skip


def _managed(work: Work) -> Source:
    slug = Arn.parse(work.plan.parent.reference).slug
    base = managed_base(slug, "machine")
    if base is None:
        raise StepFailed(f"the managed image {slug} is no base of machines in this version")
    disk = work.shop.machine_bases.managed(
        base, on_line=lambda line: work.log.line("parent", line), cancellation=work.cancellation
    )
    return Source(disk, "credentials")


def _disk_source(work: Work, digest: str) -> Source:
    """How machines of a disk start and let us in: as the newest AMI of that disk does. Raises DiskError."""
    disk = work.shop.disks.get(digest)
    with work.shop.records.database.read() as tx:
        found = amis.amis_of_digest(tx, digest)
    return Source(disk, _entry(found[0]), _firmware(found[0])) if found else Source(disk, "cloud-init")


def _entry(ami: Ami) -> Entry:
    return "credentials" if ami.document.get("entry") == "credentials" else "cloud-init"


def _firmware(ami: Ami) -> Firmware:
    """What starts a machine of an AMI, as RegisterImage was told."""
    return "uefi" if str(ami.document.get("bootMode", "")).startswith("uefi") else "bios"
