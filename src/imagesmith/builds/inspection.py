"""Inspection of built images: inventory, SBOM documents, provenance, vulnerabilities, kept beside the image.

    end of the build   export -> inventory -> CycloneDX and SPDX documents -> signed provenance
    a scanning step    PENDING -> SCANNING -> COLLECTING -> COMPLETED
                                           \\-> FAILED | TIMED_OUT, with advice; the step's onFailure decides

Every part may run again after a crash: documents of one kind replace each other, and so do findings.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.artifacts.disk_root import open_root, unpack
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.layout import ImageArtifact
from imagesmith.artifacts.referrers import Document, attach
from imagesmith.build_logs.logs import BuildLog
from imagesmith.builds.evidence import keep_scan
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.read_inventories import inventory_reported, read_inventory
from imagesmith.builds.revoked_images import refuse_revoked
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.destinations.registry import push_built_image
from imagesmith.distribution.push_request import PushFailed
from imagesmith.inspection import provenance
from imagesmith.inspection.inventory import Inventory, is_read
from imagesmith.inspection.inventory_calls import inventory_of_folder
from imagesmith.inspection.packages import OsRelease
from imagesmith.inspection.provenance import disk_provenance
from imagesmith.inspection.sbom import CYCLONEDX_TYPE, SPDX_TYPE, DescribedImage
from imagesmith.inspection.sbom.cyclonedx import cyclonedx_document
from imagesmith.inspection.sbom.spdx import spdx_document
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.drivers import grype, trivy
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.scanner import ScanFailed, Scanner, ScanReport, ScanTarget, ScanTimedOut
from imagesmith.inspection.scanning.severities import SEVERITIES
from imagesmith.inspection.signing import ENVELOPE_TYPE, SigningError, SigningKey
from imagesmith.inspection.statements import Predicate, statement_bytes, subject
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan, PlannedScan
from imagesmith.settings import Settings
from imagesmith.store.build_outcome import BuildParent
from imagesmith.store.outage import is_outage
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ScanStatus

_INVENTORY = "inventory.json"


def keep_inventory(work: Work, artifact: ImageArtifact, image_id: str) -> Inventory:
    """Store the inventory, and keep it beside the image as CycloneDX and SPDX, signed. Raises Cancelled."""
    worker_context, plan, cancellation = work.worker_context, work.plan, work.cancellation
    inventory = read_inventory(worker_context, plan, image_id, cancellation)
    worker_context.inspections.put_inventory(
        plan.image_arn, inventory.rows(), os_version=inventory.system.os_version, system=inventory.system.to_json()
    )
    image = DescribedImage.of(plan.layout_reference, artifact.digest, artifact.created, account=plan.account)
    key = SigningKey.open(worker_context.settings.data_dir)
    for kind, predicate, data in (
        (CYCLONEDX_TYPE, Predicate.CYCLONEDX, cyclonedx_document(image, inventory, cancellation)),
        (SPDX_TYPE, Predicate.SPDX, spdx_document(image, inventory, cancellation)),
    ):
        attach(worker_context.layout, artifact.digest, Document(kind, kind, data))
        try:
            about = subject(image.name, artifact.digest)
            envelope = key.envelope(statement_bytes([about], predicate, data))
        except SigningError as error:
            work.log.line("inventory", f"warning: {kind} is attached without a signature: {error}")
            continue
        attach(worker_context.layout, artifact.digest, Document(predicate.kind, ENVELOPE_TYPE, envelope))
    work.log.line("inventory", inventory.summary())
    return inventory


def keep_provenance(
    worker_context: WorkerContext,
    plan: BuildPlan,
    log: BuildLog,
    digest: str,
    *,
    parent_digest: str,
    started: datetime,
    cached: Sequence[Mapping[str, Any]],
    inventory: Inventory | None,
) -> None:
    """Sign the provenance of the image and keep it beside the image."""
    envelope, id = signed_provenance(
        worker_context, plan, digest, parent_digest=parent_digest, started=started, cached=cached,
        inventory=inventory,
    )  # fmt: skip
    annotations = {provenance.IMAGE_ANNOTATION: plan.image_arn}
    attach(worker_context.layout, digest, Document(provenance.KIND, provenance.MEDIA_TYPE, envelope, annotations))
    log.line("provenance", f"signed with key {id[:16]}")


def signed_provenance(
    worker_context: WorkerContext,
    plan: BuildPlan,
    digest: str,
    *,
    parent_digest: str,
    started: datetime,
    parent: str = "",
    cached: Sequence[Mapping[str, Any]] = (),
    inventory: Inventory | None = None,
) -> tuple[bytes, str]:
    """The provenance of an image as a signed envelope, and the id of the key."""
    key = SigningKey.open(worker_context.settings.data_dir)
    details = provenance.RunDetails(
        plan.layout_reference, digest, parent_digest, started, worker_context.clock(), key.public.id, parent,
        tuple(cached), inventory,
    )  # fmt: skip
    return key.envelope(provenance.statement(plan, details)), key.public.id


def scan(work: Work, wanted: PlannedScan, digest: str) -> ScanReport:
    """Scan for known vulnerabilities and store the findings, except of a scan on demand (spec/api.md 5.4).

    Raises StepFailed for any failure, and Cancelled.
    """
    worker_context, plan, log = work.worker_context, work.plan, work.log
    worker_context.inspections.set_scan_state(plan.image_arn, ScanStatus.SCANNING)
    started = iso_instant(worker_context.clock())
    try:
        with work.kind.scan_target(work, wanted, digest) as target:
            report = _matched(worker_context, target, work.cancellation)
        worker_context.inspections.set_scan_state(plan.image_arn, ScanStatus.COLLECTING)
        if not wanted.on_demand:
            worker_context.inspections.put_findings(
                plan.image_arn, [finding.to_json() for finding in report.findings]
            )
        keep_scan(work, digest, report, started)
    except ScanTimedOut as error:
        raise _record_failure(work, ScanStatus.TIMED_OUT, str(error)) from error
    except (ScanFailed, PushFailed, StepFailed) as error:
        raise _record_failure(work, ScanStatus.FAILED, str(error)) from error
    except Exception as error:
        if is_outage(error):
            raise
        raise _record_failure(
            work, ScanStatus.FAILED, f"the scan ended with {type(error).__name__}: {error}"
        ) from error
    for note in report.notes:
        log.line("scan", note)
    worker_context.inspections.set_scan_state(plan.image_arn, ScanStatus.COMPLETED)
    log.line("scan", f"COMPLETED: {format_counts(report)}")
    return report


def make_scanner(settings: Settings) -> Scanner:
    """The scanner that the settings name."""
    chosen = settings.advisories
    if chosen.scanner == "embedded":
        return EmbeddedScanner(AdvisoryDatabase.of(settings), seconds=chosen.timeout_seconds)
    make = trivy if chosen.scanner == "trivy" else grype
    return make(chosen.scanner_database, seconds=chosen.timeout_seconds)


def _matched(worker_context: WorkerContext, target: ScanTarget, cancellation: Cancellation) -> ScanReport:
    """The findings for the packages; never a clean report for unreadable packages. Raises ScanFailed."""
    scanner = make_scanner(worker_context.settings)
    problems = "; ".join(target.inventory.problems)
    if problems and scanner.name == EmbeddedScanner.name:
        raise ScanFailed(f"the packages of the image cannot be read: {problems}")
    report = scanner.scan(target, cancellation)
    if problems and not report.findings:
        raise ScanFailed(f"{scanner.name} found nothing in an image whose packages cannot be read: {problems}")
    return report


def disk_inventory(worker_context: WorkerContext, digest: str, cancellation: Cancellation) -> Inventory:
    """Read packages and operating system of an offline disk from its root file system. Raises DiskError."""
    disk = worker_context.disks.get(digest)
    with tempfile.TemporaryDirectory(prefix="inventory-", dir=worker_context.machines.folder.parent) as folder:
        with open_root(disk.path) as found:
            found.require_packages()
            unpack(found, Path(folder), wanted=is_read, cancellation=cancellation)
        storage = worker_context.storage
        with storage.scratch() as scratch, inventory_reported():
            return inventory_of_folder(storage.sealed, Path(folder), scratch, cancellation)


def keep_disk_documents(work: Work, digest: str, *, parent: BuildParent, started: datetime) -> None:
    """Keep the inventory of a disk beside it, as CycloneDX and SPDX, and its signed provenance."""
    worker_context, plan, log = work.worker_context, work.plan, work.log
    inventory = keep_disk_inventory(work, digest, started)
    with work.timed("provenance"):
        envelope, id = signed_provenance(
            worker_context, plan, digest, parent_digest=parent.digest, parent=parent.image, started=started,
            inventory=inventory,
        )  # fmt: skip
        worker_context.disks.attach(digest, disk_provenance(plan.image_arn), envelope)
    log.line("provenance", f"signed with key {id[:16]}")


def keep_disk_inventory(work: Work, digest: str, made: datetime) -> Inventory | None:
    """Store the inventory of a disk, if the plan wants metadata, and keep it beside the disk.

    A disk that cannot be read from outside keeps the inventory of CollectImageMetadata, if that ran inside.
    """
    if not work.plan.collect_metadata:
        return None
    try:
        with work.timed("inventory"):
            found = _disk_inventory(work, digest, made)
    except DiskError as error:
        work.log.line("inventory", f"warning: the packages of the disk cannot be read from outside: {error}")
        return None
    work.worker_context.inspections.put_inventory(
        work.plan.image_arn, found["rows"], os_version=found["osVersion"], system=found.get("system")
    )
    work.log.line("inventory", found["words"])
    return Inventory.of_rows(OsRelease(**found.get("system", {})), found["rows"])


def _disk_inventory(work: Work, digest: str, started: datetime) -> dict[str, Any]:
    """The inventory of a disk; a disk that several builds made is read once."""
    disks = work.worker_context.disks
    known = disks.documents(digest).get(_INVENTORY)
    if known is not None:
        found: dict[str, Any] = json.loads(known.read_bytes())
        return found
    inventory = disk_inventory(work.worker_context, digest, work.cancellation)
    image = DescribedImage.of(work.plan.layout_reference, digest, iso_instant(started), account=work.plan.account)
    disks.attach(digest, "cyclonedx.json", cyclonedx_document(image, inventory, work.cancellation))
    disks.attach(digest, "spdx.json", spdx_document(image, inventory, work.cancellation))
    kept = inventory.to_json()
    disks.attach(digest, _INVENTORY, json.dumps(kept).encode())
    return kept


def push_for_scan(work: Work, wanted: PlannedScan, digest: str) -> None:
    """If a registry is configured, push the image under scan to the requested repository."""
    worker_context, plan = work.worker_context, work.plan
    registry = worker_context.settings.registry_for(plan.account, plan.region)
    if registry is None:
        work.log.line("scan", f"no registry is configured for {plan.region}: the image under scan is not pushed")
        return
    refuse_revoked(work)
    # Images of many recipes share the default repository, so the tag identifies the image.
    tags = wanted.tags or (f"{Arn.parse(plan.image_arn).slug}-{plan.default_tag}",)
    pushed = push_built_image(
        work.distribution, registry, stage="scan", digest=digest, repository=wanted.repository, tags=tags
    )
    work.log.line("scan", f"under scan: {', '.join(pushed.uris)}")


def _record_failure(work: Work, status: ScanStatus, reason: str) -> StepFailed:
    work.worker_context.inspections.set_scan_state(work.plan.image_arn, status, reason)
    work.log.line("scan", f"{status}: {reason}")
    return StepFailed(f"the scan is {status}: {reason}")


def format_counts(report: ScanReport) -> str:
    """`3 findings: 1 high, 2 low`."""
    counts = {label: sum(item.severity == label for item in report.findings) for label in SEVERITIES}
    shown = ", ".join(f"{count} {label.lower()}" for label, count in counts.items() if count)
    return f"{len(report.findings)} findings{': ' * bool(shown)}{shown}"
