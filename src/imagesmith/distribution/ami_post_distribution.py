"""Configuration of the copies of an AMI in a Region, in this order (spec/workflows.md 5.19):

    licences -> launch templates -> parameters -> fast launch -> exports of the disk

It applies to AMIs of the run's account; parameters go to the accounts of their Region. An entry stops at its first
failure and names the step; completed steps stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.artifacts.disks import DiskError
from imagesmith.distribution.amis import (
    Results,
    completed,
    copy_to_regions,
    require_completed,
    set_launch_permissions,
    stopped,
)
from imagesmith.distribution.destination import DistributionContext, deliver
from imagesmith.distribution.destinations.catalog_region import Entries, attached, put, require_ami
from imagesmith.distribution.failures import DeliveryFailed, DistributionFailed
from imagesmith.distribution.table import DESTINATIONS
from imagesmith.store import amis
from imagesmith.store.parameters import ParameterRecord, put_parameter
from imagesmith.values.states import ImageStatus

_MEMBERS = (
    "licenseConfigurationArns", "launchTemplateConfigurations", "ssmParameterConfigurations",
    "fastLaunchConfigurations", *(destination.member for destination in DESTINATIONS["disk export"]),
)  # fmt: skip
STATUS = ImageStatus.INTEGRATING


@dataclass(frozen=True)
class _AmiTarget:
    """One distributed AMI and the distribution's entry for its Region."""

    context: DistributionContext
    item: Mapping[str, Any]
    wanted: Mapping[str, Any]
    accounts: frozenset[str]
    """The accounts that AMIs of the Region were distributed to."""

    @property
    def own(self) -> bool:
        return bool(self.item["accountId"] == self.context.plan.account)

    @property
    def ami_id(self) -> str:
        return str(self.item["amiId"])

    @property
    def region(self) -> str:
        return str(self.item["region"])

    def listed(self, member: str) -> Entries:
        """The maps of a member, which is a map or a list of maps (spec/workflows.md 5.19)."""
        value = self.wanted.get(member, ())
        return [value] if isinstance(value, Mapping) else list(value)

    def put_template(self, account: str, name: str, *, default: bool) -> int:
        def put(tx: Connection) -> int:
            return amis.put_launch_template(tx, account, self.region, name, ami_id=self.ami_id, default=default)

        return self.context.database.change(f"{account}/{self.region}", put)

    def put_parameter(self, account: str, parameter: ParameterRecord) -> None:
        def put(tx: Connection) -> None:
            put_parameter(tx, account, self.region, parameter)

        self.context.database.change(f"{account}/{self.region}", put)

    def note(self, text: str) -> None:
        self.context.log.line("distribute", text)


def distribute_amis(context: DistributionContext) -> None:
    """The plan's own distribution, without a workflow (spec/workflows.md 7.2). Raises DistributionFailed."""
    results = copy_to_regions(context, None)
    require_completed(results)
    require_completed(set_launch_permissions(context, results, None))
    if any(entry.get(member) for entry in attached(context.plan) for member in _MEMBERS):
        integrate(context, results, None)


def integrate(context: DistributionContext, distributed: Entries, given: Entries | None) -> Results:
    """Enter INTEGRATING and configure; a failure belongs to that stage. Raises DistributionFailed."""
    context.enter_state(STATUS)
    results = configure(context, distributed, given)
    try:
        require_completed(results, "configuredImages")
    except DistributionFailed as error:
        error.context = {"imageStatus": STATUS, **error.context}
        raise
    return results


def configure(context: DistributionContext, distributed: Entries, given: Entries | None) -> Results:
    """Configure each distributed AMI; returns one entry for each, with the step at which it stopped."""
    entries = given if given is not None else attached(context.plan)
    by_region = {str(entry["region"]): entry for entry in entries}
    results: Results = []
    for item in distributed:
        region = str(item["region"])
        accounts = frozenset(str(other["accountId"]) for other in distributed if other["region"] == region)
        results.append(_configured(_AmiTarget(context, item, by_region.get(region, {}), accounts)))
    return results


def _configured(target: _AmiTarget) -> Mapping[str, Any]:
    steps = (
        ("AssociateLicensesRunning", _licences), ("UpdateLaunchTemplateRunning", _templates),
        ("PutSsmParametersRunning", _parameters), ("UpdateFastLaunchConfiguration", _fast_launch),
        ("ExportAmiRunning", _exports),
    )  # fmt: skip
    for name, action in steps:
        try:
            action(target)
        except DiskError as error:
            return stopped(target.context, target.item, name, f"{target.ami_id}: {error}")
        except (DeliveryFailed, _Unfit) as error:
            return stopped(target.context, target.item, name, str(error))
    return completed(target.item)


class _Unfit(ValueError):
    """A configuration that cannot be applied; the text names it and the reason."""


def _licences(target: _AmiTarget) -> None:
    arns = [str(arn) for arn in target.wanted.get("licenseConfigurationArns", ())]
    if not arns or not target.own:
        return
    ami = require_ami(target.context, target.ami_id)
    put(target.context, replace(ami, document={**ami.document, "licenseConfigurationArns": arns}))
    target.note(f"{target.ami_id}: licence configurations recorded: {', '.join(arns)}")


def _templates(target: _AmiTarget) -> None:
    for template in target.listed("launchTemplateConfigurations") if target.own else ():
        account = str(template.get("accountId") or target.item["accountId"])
        name, default = str(template["launchTemplateId"]), bool(template.get("setDefaultVersion", True))
        number = target.put_template(account, name, default=default)
        target.note(
            f"launch template {name} of {target.region}: version {number} starts {target.ami_id}"
            + (", the default" if default else "")
        )


def _parameters(target: _AmiTarget) -> None:
    for parameter in target.listed("ssmParameterConfigurations"):
        account = str(parameter.get("amiAccountId") or target.context.plan.account)
        name = str(parameter["parameterName"])
        if account not in target.accounts:
            raise _Unfit(
                f"the parameter {name} is for account {account}, which is not a target account of {target.region}"
            )
        if account != target.item["accountId"]:
            continue
        target.put_parameter(account, ParameterRecord(name, target.ami_id, target.context.clock()))
        target.note(f"parameter {name} of {target.region}: {target.ami_id}")


def _fast_launch(target: _AmiTarget) -> None:
    if target.own and any(item.get("enabled") for item in target.listed("fastLaunchConfigurations")):
        target.note(f"warning: fastLaunchConfigurations of {target.region} are for Windows and ignored")


def _exports(target: _AmiTarget) -> None:
    for destination in DESTINATIONS["disk export"] if target.own else ():
        for wanted in target.listed(destination.member):
            delivery = target.context.delivery(require_ami(target.context, target.ami_id), wanted)
            for at in deliver(destination, target.context, delivery):
                target.note(f"{target.ami_id} is at {at}")
