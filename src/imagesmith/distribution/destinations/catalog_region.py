"""The AMI catalog of a Region and account as a destination: names, tags and disks of entries.

A copy costs nothing: every entry of an image names the same disk. CreateImage makes the entry of the build Region;
a distribution changes it in place (spec/workflows.md 5.17).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagesmith.artifacts.disks import DiskError
from imagesmith.distribution.ami_texts import rendered, rendered_tags
from imagesmith.distribution.destination import Delivery, DistributionContext
from imagesmith.recipes.plan import BuildPlan, PlannedMachine
from imagesmith.store import amis
from imagesmith.store.amis import Ami, ami_id_for

Entries = Sequence[Mapping[str, Any]]


class CatalogRegion:
    """Accepts every AMI: users launch the entry, wherever its disk is."""

    member = ""

    def accepts(self, delivery: Delivery, /) -> bool:
        return delivery.ami is not None

    def refusal(self, _: Delivery, /) -> str:
        return ""

    def deliver(self, context: DistributionContext, delivery: Delivery) -> tuple[str, ...]:
        """Write the entry. Raises AmiNameTaken as well."""
        assert delivery.ami is not None
        put(context, delivery.ami)
        return (delivery.ami.ami_id,)


def register_output(
    context: DistributionContext, digest: str, *, entry: str, more: Mapping[str, Any] | None = None
) -> Ami:
    """Register the AMI of the build Region under the name in the distribution's entry, or the default
    (spec/workflows.md 5.10).

    `more`: further members of its document, such as `bootMode`; the recipe's tags override tags in it.
    """
    plan, more = context.plan, dict(more or {})
    machine = _planned(plan)
    given = dict(ami_part(next((item for item in attached(plan) if item.get("region") == plan.region), {})))
    below = {**more.pop("tags", {}), **machine.ami_tags}
    given.setdefault("description", more.pop("description", "") or machine.description)
    ami = new_entry(
        context, given, digest=digest, account=plan.account, region=plan.region, more={"entry": entry, **more},
        below=below,
    )  # fmt: skip
    put(context, ami)
    return ami


def new_entry(
    context: DistributionContext, given: Mapping[str, Any], *, digest: str, account: str, region: str,
    more: Mapping[str, Any], below: Mapping[str, str] | None = None,
) -> Ami:  # fmt: skip
    """A catalog entry for a distribution's entry, whose tags override those of `below`."""
    plan = context.plan
    tags = rendered_tags({**(below or {}), **given.get("amiTags", {})}, context)
    own_tags = {"CreatedBy": "EC2 Image Builder", "Ec2ImageBuilderArn": plan.image_arn}
    name = rendered(str(given.get("name") or f"{plan.name} {{{{ imagebuilder:buildDate }}}}"), context)
    document = {
        "description": str(given.get("description", "")), "tags": {**tags, **own_tags}, "origin": "image",
        "platform": str(plan.variables.get("platform", "Linux")), "architecture": "x86_64", **more,
    }  # fmt: skip
    id = ami_id_for(account, region, "", source=plan.image_arn)
    return Ami(
        ami_id=id,
        account=account,
        region=region,
        name=name,
        digest=digest,
        created=context.clock(),
        image_arn=plan.image_arn,
        document=document,
    )


def put(context: DistributionContext, ami: Ami) -> None:
    """Write an entry of the catalog. Raises AmiNameTaken."""
    context.database.change(f"{ami.account}/{ami.region}", lambda tx: amis.put_ami(tx, ami))


def withdraw(context: DistributionContext, ami: Ami) -> None:
    """Remove an entry whose disk did not arrive."""
    context.database.change(f"{ami.account}/{ami.region}", lambda tx: amis.remove_ami(tx, ami.ami_id))


def require_ami(context: DistributionContext, ami_id: str) -> Ami:
    """An entry of the catalog. Raises DiskError if it is gone."""
    found = context.database.query(lambda tx: amis.get_ami(tx, ami_id))
    if found is None:
        raise DiskError(f"the AMI {ami_id} no longer exists; it was removed from the catalog")
    return found


def own_ami(context: DistributionContext) -> Ami:
    """The AMI of the build Region and account."""
    return require_ami(context, own_id(context.plan))


def own_id(plan: BuildPlan) -> str:
    return ami_id_for(plan.account, plan.region, "", source=plan.image_arn)


def attached(plan: BuildPlan) -> Entries:
    """The AMI entries of the plan's distribution."""
    return _planned(plan).distributions


def ami_part(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The AMI members of an entry of the API."""
    part: Mapping[str, Any] = entry.get("amiDistributionConfiguration", {})
    return part


def _planned(plan: BuildPlan) -> PlannedMachine:
    return plan.machine or PlannedMachine()
