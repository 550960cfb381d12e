"""The AMIs that a run makes: names, entries of Regions and accounts, permissions, templates, parameters, exports.

A copy costs nothing: every entry stands for the same disk. The entry of the build Region is made by CreateImage; a
distribution changes it in place (spec/workflows.md 5.17).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imagesmith.artifacts.disks import DiskError
from imagesmith.distribution.machine_host import CopyFailed, copy_disk, file_name
from imagesmith.store import amis
from imagesmith.store.amis import Ami, AmiNameTaken, ami_id_for
from imagesmith.store.parameters import Parameter, put_parameter
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.role_access import s3_of
from imagesmith.workflows.work import Work

_TOKEN = re.compile(r"\{\{\s*imagebuilder:(buildDate|buildVersion)(?::([^{}]*?))?\s*\}\}")
_FORMATS = (("yyyy", "%Y"), ("MM", "%m"), ("dd", "%d"), ("HH", "%H"), ("mm", "%M"), ("ss", "%S"))

Entries = Sequence[Mapping[str, Any]]
Told = list[dict[str, Any]]
"""What a distribution step puts out: one map per Region and account."""


def rendered(text: str, work: Work) -> str:
    """`{{ imagebuilder:buildDate }}` and `{{ imagebuilder:buildVersion }}` replaced (spec/api.md 5.2)."""
    moment = str(work.plan.variables.get("dateTime") or iso_instant(work.shop.clock()))

    def value(found: re.Match[str]) -> str:
        if found[1] == "buildVersion":
            return str(work.plan.build)
        pattern = found[2]
        if not pattern:
            return moment.replace(":", "-")
        for token, directive in _FORMATS:
            pattern = pattern.replace(token, directive)
        return parse_instant(moment).strftime(pattern)

    return _TOKEN.sub(value, text)


def may_launch(ami: Ami, account: str) -> bool:
    """Whether an account owns an AMI or was permitted to launch it."""
    permission = ami.document.get("launchPermission", {})
    return (
        ami.account == account
        or account in permission.get("userIds", ())
        or "all" in permission.get("userGroups", ())
    )


def register_output(work: Work, digest: str, *, entry: str) -> Ami:
    """The AMI of the build Region: its name is that of the distribution's entry, or the default (5.10)."""
    plan = work.plan
    given = _ami_part(_entry_of_region(_attached(work), plan.region))
    ami = _entry(work, given, digest=digest, account=plan.account, region=plan.region, more={"entry": entry})
    put(work, ami)
    return ami


def distribute_amis(work: Work) -> None:
    """The plan's own distribution, without a workflow (7.2). Raises AmiNameTaken, StepFailed."""
    told = copy_to_regions(work, None)
    insist_completed(told)
    permit(work, told, None)
    configure(work, told, None)


def copy_to_regions(work: Work, given: Entries | None) -> Told:
    """One AMI per Region and account; `given` replaces the attached distribution (5.17)."""
    plan, own = work.plan, own_ami(work)
    entries: Entries = given if given is not None else [_flat(entry) for entry in _attached(work)]
    told: Told = []
    for entry in entries or [{"region": plan.region}]:
        region = str(entry["region"])
        for account in dict.fromkeys((plan.account, *entry.get("targetAccountIds", ()))):
            started = iso_instant(work.shop.clock())
            ami = _entry(
                work, entry, digest=own.digest, account=account, region=region,
                more={"entry": own.document.get("entry", "cloud-init")},
            )  # fmt: skip
            if ami.ami_id == own.ami_id:
                ami = replace(own, document={**own.document, "tags": ami.document["tags"]})
            told.append(_copied(work, ami, started))
    return told


def insist_completed(told: Entries) -> None:
    """Raise StepFailed when an entry is not Completed; the others stay."""
    failures = [
        {
            "region": item["region"], "targetAccountId": item["accountId"], "status": "FAILED",
            "errorMessage": item["errorMessage"][:1024],
        }
        for item in told
        if item["status"] != "Completed"
    ]  # fmt: skip
    if failures:
        message = str(failures[0]["errorMessage"])
        context = {"distributionFailure": {"errorMessage": message, "regionFailures": failures}}
        raise StepFailed(message, context, {"distributedImages": list(told)})


def permit(work: Work, distributed: Entries, given: Entries | None) -> Told:
    """Launch permissions (5.18)."""
    entries = given if given is not None else [_flat(entry) for entry in _attached(work)]
    by_region = {str(entry["region"]): entry.get("launchPermission") for entry in entries}
    told: Told = []
    for item in distributed:
        permission = by_region.get(str(item["region"]))
        ami = _known(work, str(item["amiId"]))
        if permission is not None:
            put(work, replace(ami, document={**ami.document, "launchPermission": dict(permission)}))
            work.log.line("distribute", f"{ami.ami_id}: launch permission {dict(permission)}")
        told.append({**item, "step": "Completed"})
    return told


def configure(work: Work, distributed: Entries, given: Entries | None) -> Told:
    """Launch templates, parameters and exports, in this order within a Region (5.19)."""
    entries = given if given is not None else _attached(work)
    by_region = {str(entry["region"]): entry for entry in entries}
    told: Told = []
    for item in distributed:
        entry = by_region.get(str(item["region"]), {})
        own = item["accountId"] == work.plan.account
        if own:
            _templates(work, item, entry.get("launchTemplateConfigurations", ()))
        for ignored in ("licenseConfigurationArns", "fastLaunchConfigurations"):
            if entry.get(ignored):
                work.log.line(
                    "distribute", f"warning: {ignored} of {item['region']} mean nothing here and are ignored"
                )
        _parameters(work, item, _listed(entry.get("ssmParameterConfigurations", ())))
        for export in _listed(entry.get("s3ExportConfiguration", ())) if own else ():
            _export(work, str(item["amiId"]), export)
        _copy_to_host(work, item)
        told.append({**item, "step": "Completed"})
    return told


def own_ami(work: Work) -> Ami:
    """The AMI of the build Region and account."""
    return _known(work, _own_id(work, work.plan.account, work.plan.region))


def put(work: Work, ami: Ami) -> None:
    """Write an entry of the catalog. Raises AmiNameTaken."""
    with work.shop.records.database.write(f"{ami.account}/{ami.region}") as tx:
        amis.put_ami(tx, ami)


def _known(work: Work, ami_id: str) -> Ami:
    with work.shop.records.database.read() as tx:
        found = amis.get_ami(tx, ami_id)
    if found is None:
        raise DiskError(f"there is no AMI {ami_id} any more; it was taken out of the catalog")
    return found


def _own_id(work: Work, account: str, region: str) -> str:
    return ami_id_for(account, region, "", source=work.plan.image_arn)


def _entry(
    work: Work, given: Mapping[str, Any], *, digest: str, account: str, region: str, more: Mapping[str, Any]
) -> Ami:
    plan = work.plan
    tags = {key: rendered(str(value), work) for key, value in given.get("amiTags", {}).items()}
    own_tags = {"CreatedBy": "EC2 Image Builder", "Ec2ImageBuilderArn": plan.image_arn}
    name = rendered(str(given.get("name") or f"{plan.name} {{{{ imagebuilder:buildDate }}}}"), work)
    document = {
        "description": str(given.get("description", "")), "tags": {**tags, **own_tags}, "origin": "image",
        "platform": str(plan.variables.get("platform", "Linux")), "architecture": "x86_64", **more,
    }  # fmt: skip
    return Ami(
        _own_id(work, account, region), account, region, name, digest, work.shop.clock(), plan.image_arn, document
    )


def _copied(work: Work, ami: Ami, started: str) -> dict[str, Any]:
    told = {
        "region": ami.region, "name": ami.name, "amiId": ami.ami_id, "accountId": ami.account,
        "dateStarted": started,
    }  # fmt: skip
    try:
        put(work, ami)
    except AmiNameTaken as error:
        work.log.line("distribute", f"{ami.region}, {ami.account}: {error}")
        stopped = iso_instant(work.shop.clock())
        told |= {"dateStopped": stopped, "status": "Failed", "step": "CopyAmiRunning"}
        return {**told, "errorMessage": str(error)}
    work.log.line("distribute", f"{ami.region}, {ami.account}: {ami.ami_id} '{ami.name}'")
    return {**told, "dateStopped": iso_instant(work.shop.clock()), "status": "Completed", "step": "Completed"}


def _templates(work: Work, item: Mapping[str, Any], wanted: Entries) -> None:
    for template in wanted:
        account = str(template.get("accountId") or item["accountId"])
        name, region = str(template["launchTemplateId"]), str(item["region"])
        with work.shop.records.database.write(f"{account}/{region}") as tx:
            number = amis.put_launch_template(
                tx, account, region, name,
                ami_id=str(item["amiId"]), default=bool(template.get("setDefaultVersion", False)),
            )  # fmt: skip
        work.log.line("distribute", f"launch template {name} of {region}: version {number} starts {item['amiId']}")


def _parameters(work: Work, item: Mapping[str, Any], wanted: Entries) -> None:
    for parameter in wanted:
        account = str(parameter.get("amiAccountId") or work.plan.account)
        if account != item["accountId"]:
            continue
        name, region = str(parameter["parameterName"]), str(item["region"])
        with work.shop.records.database.write(f"{account}/{region}") as tx:
            put_parameter(tx, account, region, Parameter(name, str(item["amiId"]), work.shop.clock()))
        work.log.line("distribute", f"parameter {name} of {region}: {item['amiId']}")


def _export(work: Work, ami_id: str, wanted: Mapping[str, Any]) -> None:
    """Put the disk into a bucket, in the format that was asked for."""
    form = str(wanted["diskImageFormat"]).lower()
    key = f"{wanted.get('s3Prefix', '')}{ami_id}.{form}"
    ami = _known(work, ami_id)
    with tempfile.TemporaryDirectory(prefix="export-", dir=work.shop.disks.folder) as folder:
        place = Path(folder) / f"{ami_id}.{form}"
        work.shop.disks.export(ami.digest, place, form, cancellation=work.cancellation)
        work.shop.check_fence(work.cancellation)
        s3_of(work.plan, work.shop.s3).client().upload_file(str(place), str(wanted["s3Bucket"]), key)
    work.log.line("distribute", f"{ami_id} is at s3://{wanted['s3Bucket']}/{key}")


def _copy_to_host(work: Work, item: Mapping[str, Any]) -> None:
    """The disk to the host that runs the machines of a Region, where the settings name one."""
    host = work.shop.settings.machine_host_for(str(item["accountId"]), str(item["region"]))
    if host is None:
        return
    ami = _known(work, str(item["amiId"]))

    def say(line: str) -> None:
        work.log.line("distribute", f"{ami.ami_id}: {line}")

    disk = work.shop.disks.get(ami.digest)
    work.shop.check_fence(work.cancellation)
    try:
        copy_disk(
            host, disk.path, file_name(f"{ami.name}-{ami.ami_id}", "qcow2"), cancellation=work.cancellation,
            on_line=say,
        )  # fmt: skip
    except CopyFailed as error:
        raise StepFailed(str(error)) from error


def _attached(work: Work) -> Entries:
    """The entries of the plan's distribution that are about AMIs."""
    return work.plan.machine.distributions if work.plan.machine else ()


def _entry_of_region(entries: Entries, region: str) -> Mapping[str, Any]:
    return next((entry for entry in entries if entry.get("region") == region), {})


def _ami_part(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    part: Mapping[str, Any] = entry.get("amiDistributionConfiguration", {})
    return part


def _flat(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry of the API in the shape of a DistributeImage step's input."""
    return {**_ami_part(entry), "region": entry["region"]}


def _listed(value: Any) -> Entries:
    """A map or a list of maps: documents have both (5.19)."""
    return [value] if isinstance(value, Mapping) else list(value)
