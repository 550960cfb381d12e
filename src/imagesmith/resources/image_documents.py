"""The first document of an image: PENDING, with copies of its recipe and configurations (spec/api.md 5)."""

from __future__ import annotations

from imagesmith.recipes.parents import ParentKind, classify_parent
from imagesmith.recipes.plan import BuildPlan
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import select_members
from imagesmith.resources.resolved_runs import ResolvedRun
from imagesmith.resources.run_members import tests_configuration
from imagesmith.resources.run_plans import RunOrder
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument
from imagesmith.values.arn import Arn
from imagesmith.values.states import ImageStatus, ScanStatus
from imagesmith.values.version import Version


def pending_image(call: Call, order: RunOrder, resolved: ResolvedRun, plan: BuildPlan) -> Record:
    """The record of an image whose build has a number and a plan."""
    recipe = {
        **resolved.recipe.to_api(),
        "parentImage": plan.parent.reference,
        "components": [shown for _, shown in resolved.components],
    }
    parent = resolved.parent_record
    kind = plan.image_kind
    arn = Arn.parse(plan.image_arn)
    os_version = resolved.recipe.internal.os_version or (parent.document.get("osVersion") if parent else None)
    scanned = order.members.get("imageScanningConfiguration", {}).get("imageScanningEnabled")
    document: ApiDocument = {
        "arn": plan.image_arn,
        "type": kind.image_type,
        "name": plan.name,
        "version": f"{plan.version}/{plan.build}",
        "platform": recipe["platform"],
        "enhancedImageMetadataEnabled": plan.collect_metadata,
        "state": {"status": ImageStatus.PENDING},
        kind.recipe_member: recipe,
        "infrastructureConfiguration": dict(resolved.infrastructure),
        "imageTestsConfiguration": dict(tests_configuration(order.members)),
        "dateCreated": call.stamp,
        "outputResources": {kind.outputs_member: []},
        "buildType": order.build_type,
        "imageSource": _image_source(resolved, plan),
        **select_members(order.members, ("imageScanningConfiguration", "executionRole", "workflows")),
        **({"osVersion": os_version} if os_version else {}),
        **({"distributionConfiguration": dict(resolved.distribution)} if resolved.distribution is not None else {}),
        **({"sourcePipelineArn": plan.pipeline_arn} if plan.pipeline_arn else {}),
        **({"loggingConfiguration": {"logGroupName": order.log_group}} if order.log_group else {}),
        **({"scanState": {"status": ScanStatus.PENDING}} if scanned else {}),
    }
    return Record(
        arn=plan.image_arn, account=call.account, region=call.region, kind="image", slug=arn.slug, name=plan.name,
        created=call.now, document=document, tags=order.tags, version=Version.parse(plan.version), build=plan.build,
        status=ImageStatus.PENDING, source=plan.pipeline_arn,
    )  # fmt: skip


def _image_source(resolved: ResolvedRun, plan: BuildPlan) -> str:
    """Where the parent came from (spec/api.md 4.1)."""
    if plan.parent.kind == "managed":
        return "AMAZON_MANAGED"
    if classify_parent(resolved.recipe.document["parentImage"]).kind is ParentKind.MARKETPLACE:
        return "AWS_MARKETPLACE"
    parent = resolved.parent_record
    imported = parent is not None and parent.document.get("buildType") in ("IMPORT", "IMPORT_ISO")
    return "IMPORTED" if imported else "CUSTOM"
