"""Builds of machine images.

parent -> overlay -> machine -> CreateImage or RegisterImage -> disk by digest -> Regions, hosts, buckets
                     (steps)                                    finish
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from imagesmith.artifacts.disks import DiskError
from imagesmith.builds import inspection
from imagesmith.builds.evidence import keep_evidence
from imagesmith.builds.failures import REFUSED_OUTPUT, StepFailed
from imagesmith.builds.kind import Finish
from imagesmith.builds.machine_output import register_disk, require_disk
from imagesmith.builds.machine_source import ami_source, parent_source
from imagesmith.builds.revoked_images import refuse_revoked, refuse_revoked_parent
from imagesmith.builds.steps.context import Action, Outcome, StepRun
from imagesmith.builds.steps.machine import launch_instance
from imagesmith.builds.steps.table import MACHINE_ACTIONS
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.ami_post_distribution import distribute_amis
from imagesmith.distribution.destinations.catalog_region import own_id
from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.scanning.scanner import ScanFailed, ScanTarget
from imagesmith.recipes.parents import is_ami_id
from imagesmith.recipes.plan import BuildPlan, PlannedScan
from imagesmith.store import amis
from imagesmith.values.states import ImageStatus

_UNBUILT: Final = MappingProxyType(
    {
        "CreateImageFromIso": "installation media are not built by this version",
        "RunSysPrep": "Windows machines are not built by this version",
    }
)


class MachineBuild:
    """The BuildKind of image recipes."""

    actions: Final[Mapping[str, Action]] = MappingProxyType(MACHINE_ACTIONS)

    def refusal(self, action: str) -> str:
        reason = _UNBUILT.get(action, "it is for container images, and this run makes a machine image")
        return f"{action} cannot be carried out: {reason}"

    def start(self, run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
        return launch_instance(run, inputs)

    def without_components(self, _: BuildPlan) -> str:
        return ""

    def finish(self, started: datetime) -> Sequence[tuple[str, Finish]]:
        def adopt(run: StepRun, outputs: Mapping[str, Any]) -> dict[str, Any]:
            return {"digest": _adopt_output(run, outputs, started=started)}

        return (("keep", adopt),)

    def adopt_parent(self, work: Work) -> str:
        source = parent_source(work)
        refuse_revoked_parent(work, source.disk.digest)
        register_disk(work, source.disk, entry=source.entry, more=source.ami_members)
        digest = source.disk.digest
        work.worker_context.outcomes.keep_output(
            work.plan.image_arn, digest=digest, size=source.disk.size, parent_digest=digest
        )
        inspection.keep_disk_inventory(work, digest, work.worker_context.clock())
        return digest

    def inventory(self, work: Work, digest: str) -> Inventory:
        return inspection.disk_inventory(work.worker_context, digest, work.cancellation)

    @contextmanager
    def scan_target(self, work: Work, _: PlannedScan, digest: str) -> Iterator[ScanTarget]:
        scanner = work.worker_context.settings.advisories.scanner
        if scanner != "embedded":
            raise ScanFailed(
                f"{scanner} reads container images; disks are scanned by the embedded "
                'scanner: set `scanner = "embedded"` in [advisories]'
            )
        try:
            inventory = self.inventory(work, digest)
        except DiskError as error:
            raise ScanFailed(f"the packages of the disk cannot be read: {error}") from error
        if not inventory.packages and not inventory.problems:
            # A machine that boots has software: an inventory without packages means that it could not be read.
            raise ScanFailed("the disk has no known package database, so it cannot be scanned")
        yield ScanTarget(inventory, work.worker_context.disks.folder)

    def distribute(self, work: Work, digest: str) -> Sequence[Mapping[str, Any]]:
        refuse_revoked(work)
        require_disk(work, digest)
        keep_evidence(work, digest)
        distribute_amis(work.distribution)
        return ()

    def outputs(
        self, worker_context: WorkerContext, plan: BuildPlan, _: Sequence[Mapping[str, Any]], *, built: bool
    ) -> Mapping[str, Any]:
        """All AMIs in the catalog, also of an image that is not AVAILABLE, because they exist."""
        del built
        return {"amis": amis_to_api(worker_context, plan.image_arn)}


def _adopt_output(work: Work, outputs: Mapping[str, Any], *, started: datetime) -> str:
    """The digest of the disk of a BUILD workflow's output ImageId. Raises StepFailed."""
    wanted = outputs.get("ImageId")
    if not isinstance(wanted, str) or not is_ami_id(wanted.strip()):
        message = "Invalid ImageId output value, must be AMI ID as a string."
        raise StepFailed(message, {REFUSED_OUTPUT: "ImageId"})
    wanted = wanted.strip()
    source = ami_source(work, wanted)
    if wanted != own_id(work.plan):
        # this build did not make the AMI, whichever step names it: the image adopts it (spec/workflows.md 2.4)
        refuse_revoked_parent(work, source.disk.digest, wanted)
        register_disk(work, source.disk, entry=source.entry, more=source.ami_members)
    parent = work.worker_context.outcomes.get(work.plan.image_arn).parent
    work.worker_context.outcomes.keep_output(
        work.plan.image_arn,
        digest=source.disk.digest,
        size=source.disk.size,
        parent_digest=parent.digest,
    )
    inspection.keep_disk_documents(work, source.disk.digest, parent=parent, started=started)
    return source.disk.digest


def amis_to_api(worker_context: WorkerContext, image_arn: str) -> list[dict[str, Any]]:
    """outputResources.amis of an image: all its AMIs."""
    found = worker_context.records.database.query(lambda tx: amis.list_amis(tx, image_arn=image_arn))
    return [
        {
            "region": ami.region, "image": ami.ami_id, "name": ami.name, "accountId": ami.account,
            "description": str(ami.document.get("description", "")), "state": {"status": ImageStatus.AVAILABLE},
        }
        for ami in sorted(found, key=lambda item: (item.region, item.account))
    ]  # fmt: skip
