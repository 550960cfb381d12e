"""The workflows in the plan of a run: from the request, or else the managed ones (spec/workflows.md 7).

A running image keeps its copy of each document, so deleting a workflow does not touch it
(spec/workflows.md 13, no. 23).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from imagesmith.build_logs.log_groups import image_group
from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.resources.call import Call
from imagesmith.resources.resolution import resolve
from imagesmith.resources.workflow_members import resolve_entries
from imagesmith.store.records import Record

_DEFAULTS: Final = {
    "container-recipe": ("build/build-container", "test/test-container"),
    "image-recipe": ("build/build-image", "test/test-image"),
}
"""Kind of the recipe -> the workflows that run without `workflows`; the service itself distributes
(spec/workflows.md 9)."""


def planned_workflows(call: Call, members: Mapping[str, Any], recipe: Record) -> tuple[PlannedWorkflow, ...]:
    """The workflows of a run, as concrete builds, in the order of the request. Raises ApiError."""
    if members.get("workflows"):
        return tuple(_plan_given(call, members, recipe))
    return tuple(_defaults(call, members, recipe))


def _plan_given(call: Call, members: Mapping[str, Any], recipe: Record) -> Iterator[PlannedWorkflow]:
    for used in resolve_entries(call, members, recipe):
        yield PlannedWorkflow(
            arn=used.record.arn, type=used.type, text=used.record.document["data"],
            parameters={item["name"]: tuple(item["value"]) for item in used.entry.get("parameters", ())},
            parallel_group=used.entry.get("parallelGroup", ""),
            continue_on_failure=used.entry.get("onFailure") == "CONTINUE",
        )  # fmt: skip


def _defaults(call: Call, members: Mapping[str, Any], recipe: Record) -> Iterator[PlannedWorkflow]:
    tests = members.get("imageTestsConfiguration", {}).get("imageTestsEnabled", True)
    for name in _DEFAULTS[recipe.kind]:
        if name.startswith("test/") and not tests:
            continue
        arn = f"arn:{call.caller.partition}:imagebuilder:{call.region}:aws:workflow/{name}/x.x.x"
        record = resolve(call, arn, path="workflows", kind="workflow")
        yield PlannedWorkflow(record.arn, record.document["type"], record.document["data"])


def system_variables(
    plan: BuildPlan, *, platform: str, infrastructure: Mapping[str, Any], stamp: str
) -> Mapping[str, Any]:
    """The values of `$.imagebuilder` throughout a run; each workflow adds the phase (spec/workflows.md 3.5)."""
    s3_logs = infrastructure.get("logging", {}).get("s3Logs")
    return {
        "cloudWatchLogGroup": image_group(plan),
        "cloudWatchLogStream": f"{plan.version}/{plan.build}",
        "collectImageMetadata": plan.collect_metadata,
        "collectImageScanFindings": plan.scan is not None and not plan.scan.on_demand,
        "dateTime": stamp,
        "imageBuildNumber": plan.build,
        "imageId": plan.parent.reference,
        "imageName": plan.name,
        "imageType": plan.image_kind.image_type,
        "imageVersionNumber": plan.version,
        "instanceProfileName": infrastructure.get("instanceProfileName", ""),
        "platform": platform,
        "s3Logs": {"s3Logs": s3_logs} if s3_logs else {},
        "securityGroups": list(infrastructure.get("securityGroupIds", ())),
        "sourceImageARN": plan.image_arn,
        "subnetId": infrastructure.get("subnetId", ""),
        "terminateInstanceOnFailure": infrastructure.get("terminateInstanceOnFailure", True),
        "workingDirectory": plan.working_directory,
    }
