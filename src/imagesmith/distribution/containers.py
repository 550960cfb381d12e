"""Distributes a container image to the repository of every target, or keeps it in the embedded layout
(spec/api.md 5.2, 6.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.distribution.destination import Delivery, DistributionContext, deliver
from imagesmith.distribution.destinations.embedded_layout import local_location, local_outputs
from imagesmith.distribution.failures import DeliveryFailed, DistributionFailed
from imagesmith.distribution.role_access import refused_log_group
from imagesmith.distribution.table import accepting
from imagesmith.recipes.plan import BuildPlan, PushTarget
from imagesmith.settings import Settings
from imagesmith.values.states import ImageStatus


@dataclass(frozen=True)
class Distributed:
    """Delivered images: entries of outputResources.containers, and their Regions."""

    containers: Sequence[Mapping[str, Any]]
    regions: Sequence[str]


def distribute(context: DistributionContext, digest: str) -> Distributed:
    """Deliver to every target and collect failures of single Regions. Raises DistributionFailed, Cancelled."""
    plan = context.plan
    _check_access(context)
    containers: list[Mapping[str, Any]] = []
    failures: list[Mapping[str, Any]] = []
    regions: list[str] = []
    for target in plan.targets:
        delivery = _delivery(plan, context.settings, target, digest)
        try:
            uris = deliver(accepting("container image", delivery)[0], context, delivery)
        except DeliveryFailed as error:
            context.log.line("distribute", f"{target.region}: {error}")
            failures.append(_region_failure(plan, target, str(error)))
            continue
        if uris:
            containers.append({"region": target.region, "imageUris": list(uris)})
        regions.append(target.region)
    if failures:
        message = (
            f"{failures[0]['errorMessage']} The image itself was built and is kept at {_local_location(context)}"
        )
        raise DistributionFailed(
            message,
            {"distributionFailure": {"errorMessage": message[:1024], "regionFailures": failures}},
            {"status": "Failed", "succeededRegions": regions, "failedRegions": [f["region"] for f in failures]},
            containers or local_outputs(plan, context.layout, context.shared_url),
        )
    return Distributed(containers, regions)


def refused_targets(plan: BuildPlan, settings: Settings) -> list[tuple[PushTarget, str]]:
    """The targets without access for the role, each with a sentence that says what to try."""
    refused = []
    for target in plan.targets:
        delivery = _delivery(plan, settings, target, "")
        reason = accepting("container image", delivery)[0].refusal(delivery)
        if reason:
            refused.append((target, reason))
    return refused


def _check_access(context: DistributionContext) -> None:
    """Check all targets before the first push: a run without access to all of them pushes nothing."""
    plan = context.plan
    refused = refused_targets(plan, context.settings)
    reasons = [reason for _, reason in refused] + [reason for reason in [refused_log_group(plan)] if reason]
    if not reasons:
        return
    for reason in reasons:
        context.log.line("distribute", reason)
    location = _local_location(context)
    message = f"{'; '.join(reasons)}. Nothing was pushed. The image itself was built and is kept at {location}"
    failures = [_region_failure(plan, target, reason) for target, reason in refused]
    failure = {"distributionFailure": {"errorMessage": message[:1024], "regionFailures": failures}}
    failed = {"status": "Failed", "succeededRegions": [], "failedRegions": [item["region"] for item in failures]}
    outputs = local_outputs(plan, context.layout, context.shared_url)
    raise DistributionFailed(message, failure if failures else {}, failed, outputs)


def _delivery(plan: BuildPlan, settings: Settings, target: PushTarget, digest: str) -> Delivery:
    wanted = {"repository": target.repository, "tags": target.tags}
    return Delivery(
        plan=plan, settings=settings, digest=digest, account=plan.account, region=target.region, wanted=wanted
    )


def _local_location(context: DistributionContext) -> str:
    return local_location(context.plan, context.layout, context.shared_url)


def _region_failure(plan: BuildPlan, target: PushTarget, message: str) -> Mapping[str, Any]:
    return {
        "region": target.region,
        "targetAccountId": plan.account,
        "status": ImageStatus.FAILED,
        "errorMessage": message[:1024],
    }
