"""Actions that look at an image: CollectImageMetadata, CollectImageScanFindings (spec/workflows.md 5.5, 5.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import take_inventory
from imagesmith.workflows import inspection
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.steps.context import Outcome, StepRun


def collect_metadata(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Operating system and packages of an instance, as ListImagePackages shows them."""
    with Root(run.container(inputs).root) as root:
        inventory = take_inventory(root)
    os_version = inventory.system.os_version
    run.shop.records.put_inventory(run.plan.image_arn, inventory.rows(), os_version=os_version)
    run.log.line("inventory", inventory.words())
    return Outcome({"osVersion": os_version, "associationId": run.command_id})


def collect_scan_findings(run: StepRun, _inputs: Mapping[str, Any]) -> Outcome:
    """Scan the output image; what is found is kept for ListImageScanFindings."""
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
        words = inspection.found_words(inspection.scan(run, run.plan.scan, run.output_digest()))
    return Outcome({"runCommandId": run.command_id, "status": "Success", "output": words})
