"""Actions that inspect an image: CollectImageMetadata, CollectImageScanFindings (spec/workflows.md 5.5, 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.builds import inspection
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.read_inventories import inventory_reported
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.inspection.inventory_calls import inventory_of_mount


def collect_metadata(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Store operating system and packages of an instance for ListImagePackages."""
    container, storage = run.attach_container(inputs), run.worker_context.storage
    with storage.scratch() as scratch, inventory_reported():
        inventory = inventory_of_mount(
            storage.sealed, container.namespace, container.root, scratch, run.cancellation
        )
    os_version = inventory.system.os_version
    run.worker_context.inspections.put_inventory(
        run.plan.image_arn, inventory.rows(), os_version=os_version, system=inventory.system.to_json()
    )
    run.log.line("inventory", inventory.summary())
    return Outcome({"osVersion": os_version, "associationId": run.command_id})


def collect_scan_findings(run: StepRun, _inputs: Mapping[str, Any]) -> Outcome:
    """Scan the output image and store the findings for ListImageScanFindings."""
    if run.plan.scan is not None and run.plan.scan.on_demand:
        raise StepFailed(
            "imageScanningTypes is ON_DEMAND_AMI_CVE, so the AMI is scanned and not the test instance: run the "
            "step only if $.imagebuilder.collectImageScanFindings is true"
        )
    if run.plan.scan is None:
        raise StepFailed(
            "scanning is not enabled for this image: set imageScanningConfiguration.imageScanningEnabled, or run "
            "the step only if $.imagebuilder.collectImageScanFindings is true"
        )
    with run.timed("scan"):
        words = inspection.format_counts(inspection.scan(run, run.plan.scan, run.output_digest()))
    return Outcome({"runCommandId": run.command_id, "status": "Success", "output": words})
