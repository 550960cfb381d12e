"""What follows the copies of an AMI in a Region, in this order (spec/workflows.md 5.19):

    licences -> launch templates -> parameters -> fast launch -> exports to S3

Only AMIs of the account of the run, but for parameters, which belong to the accounts of their Region. An entry ends
at the first thing that fails and says where; what was done before stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imagesmith.artifacts.disks import DiskError
from imagesmith.distribution.bucket import ExportFailed, export_object
from imagesmith.settings import Role
from imagesmith.store import amis
from imagesmith.store.parameters import Parameter, put_parameter
from imagesmith.workflows.amis import (
    Entries,
    Told,
    attached,
    completed,
    copy_to_regions,
    insist_completed,
    known,
    permit,
    put,
    stopped,
)
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.role_access import RoleRefused, export_s3
from imagesmith.workflows.work import Work

_MEMBERS = (
    "licenseConfigurationArns", "launchTemplateConfigurations", "ssmParameterConfigurations",
    "fastLaunchConfigurations", "s3ExportConfiguration",
)  # fmt: skip
STATUS = "INTEGRATING"


@dataclass(frozen=True)
class _Place:
    """One distributed AMI and what its Region's entry wants."""

    work: Work
    item: Mapping[str, Any]
    wanted: Mapping[str, Any]
    accounts: frozenset[str]
    """Those that the Region's AMIs were distributed to."""

    @property
    def own(self) -> bool:
        return bool(self.item["accountId"] == self.work.plan.account)

    @property
    def ami_id(self) -> str:
        return str(self.item["amiId"])

    @property
    def region(self) -> str:
        return str(self.item["region"])

    def listed(self, member: str) -> Entries:
        """A map or a list of maps: documents have both (5.19)."""
        value = self.wanted.get(member, ())
        return [value] if isinstance(value, Mapping) else list(value)

    def say(self, text: str) -> None:
        self.work.log.line("distribute", text)


def distribute_amis(work: Work) -> None:
    """The plan's own distribution, without a workflow (7.2). Raises StepFailed."""
    told = copy_to_regions(work, None)
    insist_completed(told)
    insist_completed(permit(work, told, None))
    if any(entry.get(member) for entry in attached(work) for member in _MEMBERS):
        integrate(work, told, None)


def integrate(work: Work, distributed: Entries, given: Entries | None) -> Told:
    """Enter INTEGRATING and configure; a failure belongs to that stage. Raises StepFailed."""
    work.shop.records.move(work.plan.image_arn, STATUS)
    told = configure(work, distributed, given)
    try:
        insist_completed(told, "configuredImages")
    except StepFailed as error:
        error.context = {"imageStatus": STATUS, **error.context}
        raise
    return told


def configure(work: Work, distributed: Entries, given: Entries | None) -> Told:
    """One entry per distributed AMI, with the step at which it stopped."""
    entries = given if given is not None else attached(work)
    by_region = {str(entry["region"]): entry for entry in entries}
    told: Told = []
    for item in distributed:
        region = str(item["region"])
        accounts = frozenset(str(other["accountId"]) for other in distributed if other["region"] == region)
        told.append(_configured(_Place(work, item, by_region.get(region, {}), accounts)))
    return told


def _configured(place: _Place) -> dict[str, Any]:
    steps = (
        ("AssociateLicensesRunning", _licences), ("UpdateLaunchTemplateRunning", _templates),
        ("PutSsmParametersRunning", _parameters), ("UpdateFastLaunchConfiguration", _fast_launch),
        ("ExportAmiRunning", _exports),
    )  # fmt: skip
    for name, action in steps:
        try:
            action(place)
        except (DiskError, ExportFailed, RoleRefused, _Unfit) as error:
            return stopped(place.work, place.item, name, str(error))
    return completed(place.item)


class _Unfit(ValueError):
    """A configuration that cannot be carried out: says which and why."""


def _licences(place: _Place) -> None:
    arns = [str(arn) for arn in place.wanted.get("licenseConfigurationArns", ())]
    if not arns or not place.own:
        return
    ami = known(place.work, place.ami_id)
    put(place.work, replace(ami, document={**ami.document, "licenseConfigurationArns": arns}))
    place.say(f"{place.ami_id}: licence configurations recorded: {', '.join(arns)}")


def _templates(place: _Place) -> None:
    for template in place.listed("launchTemplateConfigurations") if place.own else ():
        account = str(template.get("accountId") or place.item["accountId"])
        name, default = str(template["launchTemplateId"]), bool(template.get("setDefaultVersion", True))
        with place.work.shop.records.database.write(f"{account}/{place.region}") as tx:
            number = amis.put_launch_template(tx, account, place.region, name, ami_id=place.ami_id, default=default)
        place.say(
            f"launch template {name} of {place.region}: version {number} starts {place.ami_id}"
            + (", the default" if default else "")
        )


def _parameters(place: _Place) -> None:
    for parameter in place.listed("ssmParameterConfigurations"):
        account = str(parameter.get("amiAccountId") or place.work.plan.account)
        name = str(parameter["parameterName"])
        if account not in place.accounts:
            raise _Unfit(
                f"the parameter {name} is for the account {account}, which is no target account of {place.region}"
            )
        if account != place.item["accountId"]:
            continue
        with place.work.shop.records.database.write(f"{account}/{place.region}") as tx:
            put_parameter(tx, account, place.region, Parameter(name, place.ami_id, place.work.shop.clock()))
        place.say(f"parameter {name} of {place.region}: {place.ami_id}")


def _fast_launch(place: _Place) -> None:
    if place.own and any(item.get("enabled") for item in place.listed("fastLaunchConfigurations")):
        place.say(f"warning: fastLaunchConfigurations of {place.region} are for Windows and ignored")


def _exports(place: _Place) -> None:
    for wanted in place.listed("s3ExportConfiguration") if place.own else ():
        _export(place, wanted)


def _export(place: _Place, wanted: Mapping[str, Any]) -> None:
    """The disk into a bucket, whole or not at all, in the format that was asked for (spec/api.md 6.3)."""
    work, form = place.work, str(wanted["diskImageFormat"]).lower()
    bucket, key = str(wanted["s3Bucket"]), f"{wanted.get('s3Prefix', '')}export-{place.ami_id}.{form}"
    roles: Mapping[str, Role] = work.shop.settings.roles
    access = export_s3(work.plan, work.shop.s3, roles, role=str(wanted["roleName"]), bucket=bucket)
    ami = known(work, place.ami_id)
    with work.timed("export"), work.shop.disks.draft() as draft:
        work.shop.disks.write(ami.digest, draft, form, cancellation=work.cancellation)
        work.shop.check_fence(work.cancellation)
        export_object(access.client(), draft, bucket, key, cancellation=work.cancellation)
    place.say(f"{place.ami_id} is at s3://{bucket}/{key}")
