"""The copies of a run's AMI: entries of Regions and accounts, and who may launch them.

Every copy goes to each AMI destination that accepts it: the catalog, and the host that the settings name for a
Region. An entry whose disk did not arrive is withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from imagesmith.artifacts.disks import DiskError
from imagesmith.distribution.destination import DistributionContext, deliver
from imagesmith.distribution.destinations.catalog_region import (
    Entries,
    ami_part,
    attached,
    new_entry,
    own_ami,
    put,
    require_ami,
    withdraw,
)
from imagesmith.distribution.failures import DeliveryFailed, DistributionFailed
from imagesmith.distribution.table import accepting
from imagesmith.store.amis import Ami, AmiNameTaken
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus

Results = list[Mapping[str, Any]]
"""Output of a distribution step: one map per Region and account."""

CONFIGURATION_STEPS: Final[Mapping[str, str]] = {
    "AssociateLicensesRunning": "ASSOCIATE_LICENSES", "UpdateLaunchTemplateRunning": "UPDATE_LAUNCH_TEMPLATES",
    "PutSsmParametersRunning": "PUT_SSM_PARAMETERS",
    "UpdateFastLaunchConfiguration": "UPDATE_FAST_LAUNCH_CONFIGURATIONS", "ExportAmiRunning": "EXPORT_AMI",
}  # fmt: skip
"""Step of an entry -> the step in a failureContext."""

_CARRIED = ("entry", "bootMode", "architecture", "platform")
"""Members that a copy inherits from the AMI of the build Region, because they describe the disk."""


def copy_to_regions(context: DistributionContext, given: Entries | None) -> Results:
    """Make one AMI per Region and account; `given` replaces the attached distribution (spec/workflows.md 5.17)."""
    plan, own = context.plan, own_ami(context)
    entries: Entries = given if given is not None else [flat(entry) for entry in attached(plan)]
    carried = {name: own.document[name] for name in _CARRIED if name in own.document}
    results: Results = []
    for entry in entries or [{"region": plan.region}]:
        region = str(entry["region"])
        if entry.get("kmsKeyId"):
            context.log.line("distribute", f"warning: kmsKeyId of {region} has no effect: disks are not encrypted")
        for account in dict.fromkeys((plan.account, *entry.get("targetAccountIds", ()))):
            started = iso_instant(context.clock())
            ami = new_entry(context, entry, digest=own.digest, account=account, region=region, more=carried)
            if ami.ami_id == own.ami_id:
                tags = {**own.document.get("tags", {}), **ami.document["tags"]}
                ami = replace(own, document={**own.document, "tags": tags})
            results.append(_copied(context, ami, started, own=ami.ami_id == own.ami_id))
    return results


def require_completed(results: Entries, name: str = "distributedImages") -> None:
    """Raise DistributionFailed if an entry is not Completed; the others stay. `name`: name of the step's output."""
    failures = [
        {
            "region": item["region"], "targetAccountId": item["accountId"], "status": ImageStatus.FAILED,
            "errorMessage": item["errorMessage"], **_configuration_step(item),
        }
        for item in results
        if item["status"] != "Completed"
    ]  # fmt: skip
    if failures:
        message = str(failures[0]["errorMessage"])
        context = {"distributionFailure": {"errorMessage": message, "regionFailures": failures}}
        raise DistributionFailed(message, context, {name: list(results)})


def _configuration_step(item: Mapping[str, Any]) -> Mapping[str, str]:
    """The member for a failure behind the copy; none for the copy itself (spec/api.md 5.1)."""
    step = CONFIGURATION_STEPS.get(str(item.get("step", "")))
    return {} if step is None else {"imageConfigurationStep": step}


def set_launch_permissions(context: DistributionContext, distributed: Entries, given: Entries | None) -> Results:
    """Set launch permissions (spec/workflows.md 5.18); a watermarked AMI cannot be public (spec/api.md 4.3)."""
    entries = given if given is not None else [flat(entry) for entry in attached(context.plan)]
    watermarked = context.plan.machine is not None and context.plan.machine.watermarked
    by_region = {str(entry["region"]): entry.get("launchPermission") for entry in entries}
    results: Results = []
    for item in distributed:
        permission = by_region.get(str(item["region"]))
        if permission is None:
            results.append(completed(item))
            continue
        if "all" in permission.get("userGroups", ()) and watermarked:
            results.append(
                stopped(context, item, "ModifyAmiRunning", f"{item['amiId']} is watermarked: it remains private")
            )
            continue
        try:
            ami = require_ami(context, str(item["amiId"]))
        except DiskError as error:
            results.append(stopped(context, item, "ModifyAmiRunning", str(error)))
            continue
        put(context, replace(ami, document={**ami.document, "launchPermission": dict(permission)}))
        context.log.line("distribute", f"{ami.ami_id}: launch permission {dict(permission)}")
        for member in ("organizationArns", "organizationalUnitArns"):
            if permission.get(member):
                context.log.line(
                    "distribute", f"warning: {member} are recorded, but no account here belongs to any of them"
                )
        results.append(completed(item))
    return results


def completed(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**item, "status": "Completed", "step": "Completed"}


def stopped(context: DistributionContext, item: Mapping[str, Any], step: str, message: str) -> Mapping[str, Any]:
    """An entry that stopped at `step`; the log has the whole message."""
    context.log.line("distribute", f"{item['region']}, {item['accountId']}: {message}")
    now = iso_instant(context.clock())
    return {**item, "dateStopped": now, "status": "Failed", "step": step, "errorMessage": message[:1024]}


def flat(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry of the API in the shape of a DistributeImage step's input."""
    return {**ami_part(entry), "region": entry["region"]}


def _copied(context: DistributionContext, ami: Ami, started: str, *, own: bool) -> Mapping[str, Any]:
    results = {
        "region": ami.region, "name": ami.name, "amiId": ami.ami_id, "accountId": ami.account,
        "dateStarted": started,
    }  # fmt: skip
    delivery = context.delivery(ami)
    try:
        for destination in accepting("AMI", delivery):
            deliver(destination, context, delivery)
    except (DeliveryFailed, DiskError) as error:
        if not own:
            withdraw(context, ami)
        return stopped(context, results, "CopyAmiRunning", f"{ami.ami_id}: {error}")
    except AmiNameTaken as error:
        return stopped(context, results, "CopyAmiRunning", str(error))
    context.log.line("distribute", f"{ami.region}, {ami.account}: {ami.ami_id} '{ami.name}'")
    return completed({**results, "dateStopped": iso_instant(context.clock())})
