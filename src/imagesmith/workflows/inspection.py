"""What is found out about a built image and kept beside it: inventory, its documents, provenance, vulnerabilities.

    end of the build   export -> inventory -> CycloneDX and SPDX documents -> signed provenance
    a scanning step    PENDING -> SCANNING -> COLLECTING -> COMPLETED
                                           \\-> FAILED | TIMED_OUT, with what to do; the step's onFailure decides

Everything may run again after a crash: documents of one kind replace each other, findings as well.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.artifacts.disk_root import open_root, unpack
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.layout import ImageArtifact
from imagesmith.artifacts.referrers import Document, attach, attached
from imagesmith.artifacts.rootfs import Root
from imagesmith.distribution.client import RegistryError
from imagesmith.distribution.referrers import push_referrers
from imagesmith.distribution.registry import PushFailed
from imagesmith.inspection import provenance
from imagesmith.inspection.inventory import Inventory, is_read, take_inventory
from imagesmith.inspection.provenance import disk_provenance
from imagesmith.inspection.sbom import CYCLONEDX_TYPE, SPDX_TYPE, DescribedImage
from imagesmith.inspection.sbom.cyclonedx import cyclonedx_document
from imagesmith.inspection.sbom.spdx import spdx_document
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.drivers import grype, trivy
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.findings import SEVERITIES
from imagesmith.inspection.scanning.protocol import ScanFailed, Scanner, ScanReport, ScanTarget, ScanTimedOut
from imagesmith.inspection.signing import SigningKey
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan, PlannedScan
from imagesmith.settings import Registry, Settings
from imagesmith.values.names import iso_instant
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.kept_push import push_kept
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.stores import advisories_folder
from imagesmith.workflows.work import Work
from imagesmith.workflows.workshop import Workshop, instance_name, layout_reference

_INVENTORY = "inventory.json"


def read_inventory(shop: Workshop, plan: BuildPlan, image_id: str) -> Inventory:
    """Packages and operating system, read from the root file system from outside."""
    name = instance_name(plan, "after")
    shop.storage.remove(name)
    shop.storage.create(name, image_id)
    try:
        with Root(shop.storage.mount(name)) as root:
            return take_inventory(root)
    finally:
        shop.storage.remove(name)


def keep_inventory(shop: Workshop, plan: BuildPlan, log: BuildLog, artifact: ImageArtifact, image_id: str) -> None:
    """Store what is in the image, and keep it beside the image as CycloneDX and SPDX."""
    inventory = read_inventory(shop, plan, image_id)
    shop.records.put_inventory(plan.image_arn, inventory.rows(), os_version=inventory.system.os_version)
    image = DescribedImage.of(layout_reference(plan), artifact.digest, artifact.created)
    for kind, data in (
        (CYCLONEDX_TYPE, cyclonedx_document(image, inventory)),
        (SPDX_TYPE, spdx_document(image, inventory)),
    ):
        attach(shop.layout, artifact.digest, Document(kind, kind, data))
    log.line("inventory", inventory.words())


def keep_provenance(
    shop: Workshop, plan: BuildPlan, log: BuildLog, digest: str, *, parent_digest: str, started: datetime
) -> None:
    """Sign how the image came to be and keep that beside it."""
    envelope, id = signed_provenance(shop, plan, digest, parent_digest=parent_digest, started=started)
    annotations = {provenance.IMAGE_ANNOTATION: plan.image_arn}
    attach(shop.layout, digest, Document(provenance.KIND, provenance.MEDIA_TYPE, envelope, annotations))
    log.line("provenance", f"signed with key {id[:16]}")


def signed_provenance(
    shop: Workshop, plan: BuildPlan, digest: str, *, parent_digest: str, started: datetime, parent: str = ""
) -> tuple[bytes, str]:
    """How an image came to be, as a signed envelope, and the id of the key."""
    key = SigningKey.open(shop.settings.data_dir)
    facts = provenance.BuildFacts(
        layout_reference(plan), digest, parent_digest, started, shop.clock(), key.public.id, parent
    )
    return key.envelope(provenance.statement(plan, facts)), key.public.id


def push_documents(
    shop: Workshop, log: BuildLog, source: str, registry: Registry, repository: str, digest: str
) -> None:
    """Attach to a pushed image what is kept beside it. A registry that refuses does not undo the push: the log
    says so, and the documents stay beside the image in the layout."""
    documents = attached(shop.layout, digest)
    try:
        push_referrers(registry, repository, digest, documents)
    except RegistryError as error:
        log.line(source, f"warning: what is known about the image could not be attached to it: {error}")
        return
    if documents:
        kinds = ", ".join(sorted({item.document.kind for item in documents}))
        log.line(source, f"attached to {repository}@{digest}: {kinds}")


def scan(work: Work, wanted: PlannedScan, digest: str) -> ScanReport:
    """Look for known vulnerabilities; what is found is kept, but for a scan on demand (spec/api.md 5.4).

    Raises StepFailed, whatever went wrong, and Cancelled.
    """
    shop, plan, log = work.shop, work.plan, work.log
    shop.records.set_scan_state(plan.image_arn, "SCANNING")
    try:
        if plan.kind == "container":
            _push_for_scan(work, wanted, digest)
        report = _scanned(shop, plan, digest, work.cancellation)
        shop.records.set_scan_state(plan.image_arn, "COLLECTING")
        if not wanted.on_demand:
            shop.records.put_findings(plan.image_arn, [finding.to_json() for finding in report.findings])
    except ScanTimedOut as error:
        raise _ended(work, "TIMED_OUT", str(error)) from error
    except (ScanFailed, PushFailed) as error:
        raise _ended(work, "FAILED", str(error)) from error
    except Exception as error:
        raise _ended(work, "FAILED", f"the scan ended with {type(error).__name__}: {error}") from error
    for note in report.notes:
        log.line("scan", note)
    shop.records.set_scan_state(plan.image_arn, "COMPLETED")
    log.line("scan", f"COMPLETED: {found_words(report)}")
    return report


def make_scanner(settings: Settings) -> Scanner:
    """The scanner that the settings name."""
    chosen = settings.advisories
    if chosen.scanner == "embedded":
        return EmbeddedScanner(AdvisoryDatabase(advisories_folder(settings)), seconds=chosen.timeout_seconds)
    make = trivy if chosen.scanner == "trivy" else grype
    return make(chosen.scanner_database, seconds=chosen.timeout_seconds)


def _scanned(shop: Workshop, plan: BuildPlan, digest: str, cancellation: Cancellation) -> ScanReport:
    if plan.kind == "machine":
        return _scanned_disk(shop, digest, cancellation)
    image_id = shop.layout.ensure_in_storage(shop.storage, digest, cancellation=cancellation)
    inventory = read_inventory(shop, plan, image_id)
    with shop.layout.view(digest) as view:
        return make_scanner(shop.settings).scan(ScanTarget(inventory, view), cancellation)


def _scanned_disk(shop: Workshop, digest: str, cancellation: Cancellation) -> ScanReport:
    if shop.settings.advisories.scanner != "embedded":
        raise ScanFailed(
            f"{shop.settings.advisories.scanner} reads container images; disks are scanned by the embedded "
            'scanner: set `scanner = "embedded"` in [advisories]'
        )
    try:
        inventory = disk_inventory(shop, digest, cancellation)
    except DiskError as error:
        raise ScanFailed(f"the packages of the disk cannot be read: {error}") from error
    return make_scanner(shop.settings).scan(ScanTarget(inventory, shop.disks.folder), cancellation)


def disk_inventory(shop: Workshop, digest: str, cancellation: Cancellation) -> Inventory:
    """Packages and operating system of a disk that does not run, read from its root. Raises DiskError."""
    disk = shop.disks.get(digest)
    with tempfile.TemporaryDirectory(prefix="inventory-", dir=shop.machines.folder.parent) as folder:
        with open_root(disk.path) as found:
            unpack(found, Path(folder), wanted=is_read, cancellation=cancellation)
        with Root(Path(folder)) as root:
            return take_inventory(root)


def keep_disk_documents(work: Work, digest: str, *, parent: Mapping[str, str], started: datetime) -> None:
    """Keep beside a disk what is in it, as CycloneDX and SPDX, and how it came to be, signed."""
    shop, plan, log = work.shop, work.plan, work.log
    keep_disk_inventory(work, digest, started)
    with work.timed("provenance"):
        envelope, id = signed_provenance(
            shop, plan, digest,
            parent_digest=parent.get("digest", ""), parent=parent.get("image", ""), started=started,
        )  # fmt: skip
        shop.disks.attach(digest, disk_provenance(plan.image_arn), envelope)
    log.line("provenance", f"signed with key {id[:16]}")


def keep_disk_inventory(work: Work, digest: str, made: datetime) -> None:
    """Store what is in a disk, where metadata is wanted, and keep it beside the disk.

    A disk that cannot be read from outside keeps what CollectImageMetadata read inside, if it ran.
    """
    if not work.plan.collect_metadata:
        return
    try:
        with work.timed("inventory"):
            facts = _disk_facts(work, digest, made)
    except DiskError as error:
        work.log.line("inventory", f"warning: the packages of the disk cannot be read from outside: {error}")
        return
    work.shop.records.put_inventory(work.plan.image_arn, facts["rows"], os_version=facts["osVersion"])
    work.log.line("inventory", facts["words"])


def _disk_facts(work: Work, digest: str, started: datetime) -> dict[str, Any]:
    """What is in a disk; a disk that other builds made as well is read once."""
    disks = work.shop.disks
    known = disks.documents(digest).get(_INVENTORY)
    if known is not None:
        found: dict[str, Any] = json.loads(known.read_bytes())
        return found
    inventory = disk_inventory(work.shop, digest, work.cancellation)
    image = DescribedImage.of(layout_reference(work.plan), digest, iso_instant(started))
    disks.attach(digest, "cyclonedx.json", cyclonedx_document(image, inventory))
    disks.attach(digest, "spdx.json", spdx_document(image, inventory))
    facts = {"rows": inventory.rows(), "osVersion": inventory.system.os_version, "words": inventory.words()}
    disks.attach(digest, _INVENTORY, json.dumps(facts).encode())
    return facts


def _push_for_scan(work: Work, wanted: PlannedScan, digest: str) -> None:
    """Where a registry is configured, the image under scan is pushed to the repository that was asked for."""
    shop, plan = work.shop, work.plan
    registry = shop.settings.registry_for(plan.account, plan.region)
    if registry is None:
        work.log.line("scan", f"no registry is configured for {plan.region}: the image under scan is not pushed")
        return
    # Images of many recipes share the default repository, so its tag says which one it is.
    tags = wanted.tags or (f"{plan.image_arn.split('/')[1]}-{plan.default_tag}",)
    pushed = push_kept(work, registry, stage="scan", digest=digest, repository=wanted.repository, tags=tags)
    work.log.line("scan", f"under scan: {', '.join(pushed.uris)}")


def _ended(work: Work, status: str, reason: str) -> StepFailed:
    work.shop.records.set_scan_state(work.plan.image_arn, status, reason)
    work.log.line("scan", f"{status}: {reason}")
    return StepFailed(f"the scan is {status}: {reason}")


def found_words(report: ScanReport) -> str:
    """`3 findings: 1 high, 2 low`."""
    counts = {label: sum(item.severity == label for item in report.findings) for label in SEVERITIES}
    shown = ", ".join(f"{count} {label.lower()}" for label, count in counts.items() if count)
    return f"{len(report.findings)} findings{': ' * bool(shown)}{shown}"
