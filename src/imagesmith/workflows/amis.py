"""The AMIs that a run makes: entries of Regions and accounts, their names and tags, who may launch them.

A copy costs nothing: every entry stands for the same disk. The entry of the build Region is made by CreateImage; a
distribution changes it in place (spec/workflows.md 5.17). Where the settings name a host for a Region, the disk is
copied there as well, and an entry whose disk did not arrive is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from imagesmith.artifacts.disks import DiskError
from imagesmith.distribution.machine_host import CopyFailed, copy_disk, file_name
from imagesmith.recipes.plan import PlannedMachine
from imagesmith.store import amis
from imagesmith.store.amis import Ami, AmiNameTaken, ami_id_for
from imagesmith.values.names import iso_instant
from imagesmith.workflows.ami_texts import rendered, rendered_tags
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.role_access import refused_host
from imagesmith.workflows.work import Work

Entries = Sequence[Mapping[str, Any]]
Told = list[dict[str, Any]]
"""What a distribution step puts out: one map per Region and account."""

_CARRIED = ("entry", "bootMode", "architecture", "platform")
"""What a copy takes over from the AMI of the build Region, because it is about the disk."""


def may_launch(ami: Ami, account: str) -> bool:
    """Whether an account owns an AMI or was permitted to launch it."""
    permission = ami.document.get("launchPermission", {})
    return (
        ami.account == account
        or account in permission.get("userIds", ())
        or "all" in permission.get("userGroups", ())
    )


def register_output(work: Work, digest: str, *, entry: str, more: Mapping[str, Any] | None = None) -> Ami:
    """The AMI of the build Region: its name is that of the distribution's entry, or the default (5.10).

    `more`: what else its document says, such as `bootMode`; tags among it are under the recipe's.
    """
    plan, more = work.plan, dict(more or {})
    given = dict(_ami_part(_entry_of_region(attached(work), plan.region)))
    below = {**more.pop("tags", {}), **_planned(work).ami_tags}
    given.setdefault("description", more.pop("description", "") or _planned(work).description)
    ami = _entry(
        work, given, digest=digest, account=plan.account, region=plan.region, more={"entry": entry, **more},
        below=below,
    )  # fmt: skip
    put(work, ami)
    return ami


def copy_to_regions(work: Work, given: Entries | None) -> Told:
    """One AMI per Region and account; `given` replaces the attached distribution (5.17)."""
    plan, own = work.plan, own_ami(work)
    entries: Entries = given if given is not None else [flat(entry) for entry in attached(work)]
    carried = {name: own.document[name] for name in _CARRIED if name in own.document}
    told: Told = []
    for entry in entries or [{"region": plan.region}]:
        region = str(entry["region"])
        if entry.get("kmsKeyId"):
            work.log.line(
                "distribute", f"warning: kmsKeyId of {region} means nothing here: disks are not encrypted"
            )
        for account in dict.fromkeys((plan.account, *entry.get("targetAccountIds", ()))):
            started = iso_instant(work.shop.clock())
            ami = _entry(work, entry, digest=own.digest, account=account, region=region, more=carried)
            if ami.ami_id == own.ami_id:
                tags = {**own.document.get("tags", {}), **ami.document["tags"]}
                ami = replace(own, document={**own.document, "tags": tags})
            told.append(_copied(work, ami, started, own=ami.ami_id == own.ami_id))
    return told


def insist_completed(told: Entries, name: str = "distributedImages") -> None:
    """Raise StepFailed when an entry is not Completed; the others stay. `name` is that of the step's output."""
    failures = [
        {
            "region": item["region"], "targetAccountId": item["accountId"], "status": "FAILED",
            "errorMessage": item["errorMessage"],
        }
        for item in told
        if item["status"] != "Completed"
    ]  # fmt: skip
    if failures:
        message = str(failures[0]["errorMessage"])
        context = {"distributionFailure": {"errorMessage": message, "regionFailures": failures}}
        raise StepFailed(message, context, {name: list(told)})


def permit(work: Work, distributed: Entries, given: Entries | None) -> Told:
    """Launch permissions (5.18); a watermarked AMI cannot be made public (spec/api.md 4.3)."""
    entries = given if given is not None else [flat(entry) for entry in attached(work)]
    by_region = {str(entry["region"]): entry.get("launchPermission") for entry in entries}
    told: Told = []
    for item in distributed:
        permission = by_region.get(str(item["region"]))
        if permission is None:
            told.append(completed(item))
            continue
        if "all" in permission.get("userGroups", ()) and _planned(work).watermarked:
            told.append(
                stopped(work, item, "ModifyAmiRunning", f"{item['amiId']} is watermarked: it stays private")
            )
            continue
        try:
            ami = known(work, str(item["amiId"]))
        except DiskError as error:
            told.append(stopped(work, item, "ModifyAmiRunning", str(error)))
            continue
        put(work, replace(ami, document={**ami.document, "launchPermission": dict(permission)}))
        work.log.line("distribute", f"{ami.ami_id}: launch permission {dict(permission)}")
        for member in ("organizationArns", "organizationalUnitArns"):
            if permission.get(member):
                work.log.line("distribute", f"warning: {member} are recorded, but no account here belongs to one")
        told.append(completed(item))
    return told


def own_ami(work: Work) -> Ami:
    """The AMI of the build Region and account."""
    return known(work, own_id(work))


def own_id(work: Work) -> str:
    return ami_id_for(work.plan.account, work.plan.region, "", source=work.plan.image_arn)


def put(work: Work, ami: Ami) -> None:
    """Write an entry of the catalog. Raises AmiNameTaken."""
    with work.shop.records.database.write(f"{ami.account}/{ami.region}") as tx:
        amis.put_ami(tx, ami)


def known(work: Work, ami_id: str) -> Ami:
    """An entry of the catalog. Raises DiskError when it is gone."""
    with work.shop.records.database.read() as tx:
        found = amis.get_ami(tx, ami_id)
    if found is None:
        raise DiskError(f"there is no AMI {ami_id} any more; it was taken out of the catalog")
    return found


def completed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "status": "Completed", "step": "Completed"}


def stopped(work: Work, item: Mapping[str, Any], step: str, message: str) -> dict[str, Any]:
    """An entry that did not get further than `step`; the log has the whole message."""
    work.log.line("distribute", f"{item['region']}, {item['accountId']}: {message}")
    now = iso_instant(work.shop.clock())
    return {**item, "dateStopped": now, "status": "Failed", "step": step, "errorMessage": message[:1024]}


def attached(work: Work) -> Entries:
    """The entries of the plan's distribution that are about AMIs."""
    return _planned(work).distributions


def flat(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry of the API in the shape of a DistributeImage step's input."""
    return {**_ami_part(entry), "region": entry["region"]}


def _entry(
    work: Work, given: Mapping[str, Any], *, digest: str, account: str, region: str, more: Mapping[str, Any],
    below: Mapping[str, str] | None = None,
) -> Ami:  # fmt: skip
    """An entry as a distribution's entry wants it; tags of `below` give way to its own."""
    plan = work.plan
    tags = rendered_tags({**(below or {}), **given.get("amiTags", {})}, work)
    own_tags = {"CreatedBy": "EC2 Image Builder", "Ec2ImageBuilderArn": plan.image_arn}
    name = rendered(str(given.get("name") or f"{plan.name} {{{{ imagebuilder:buildDate }}}}"), work)
    document = {
        "description": str(given.get("description", "")), "tags": {**tags, **own_tags}, "origin": "image",
        "platform": str(plan.variables.get("platform", "Linux")), "architecture": "x86_64", **more,
    }  # fmt: skip
    id = ami_id_for(account, region, "", source=plan.image_arn)
    return Ami(id, account, region, name, digest, work.shop.clock(), plan.image_arn, document)


def _copied(work: Work, ami: Ami, started: str, *, own: bool) -> dict[str, Any]:
    told = {
        "region": ami.region, "name": ami.name, "amiId": ami.ami_id, "accountId": ami.account,
        "dateStarted": started,
    }  # fmt: skip
    try:
        put(work, ami)
        _copy_to_host(work, ami)
    except (CopyFailed, DiskError) as error:
        if not own:
            _take_back(work, ami)
        return stopped(work, told, "CopyAmiRunning", str(error))
    except AmiNameTaken as error:
        return stopped(work, told, "CopyAmiRunning", str(error))
    work.log.line("distribute", f"{ami.region}, {ami.account}: {ami.ami_id} '{ami.name}'")
    return completed({**told, "dateStopped": iso_instant(work.shop.clock())})


def _take_back(work: Work, ami: Ami) -> None:
    with work.shop.records.database.write(f"{ami.account}/{ami.region}") as tx:
        amis.remove_ami(tx, ami.ami_id)


def _copy_to_host(work: Work, ami: Ami) -> None:
    """The disk to the host that runs the machines of a Region, where the settings name one. Raises CopyFailed."""
    host = work.shop.settings.machine_host_for(ami.account, ami.region)
    if host is None:
        return
    refused = refused_host(work.plan, ami.account, ami.region, host)
    if refused:
        raise CopyFailed(refused)

    def say(line: str) -> None:
        work.log.line("distribute", f"{ami.ami_id}: {line}")

    disk = work.shop.disks.get(ami.digest)
    name = file_name(f"{ami.name}-{ami.ami_id}", "qcow2")
    work.shop.check_fence(work.cancellation)
    copy_disk(host, disk.path, name, cancellation=work.cancellation, on_line=say)


def _planned(work: Work) -> PlannedMachine:
    return work.plan.machine or PlannedMachine()


def _entry_of_region(entries: Entries, region: str) -> Mapping[str, Any]:
    return next((entry for entry in entries if entry.get("region") == region), {})


def _ami_part(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    part: Mapping[str, Any] = entry.get("amiDistributionConfiguration", {})
    return part
