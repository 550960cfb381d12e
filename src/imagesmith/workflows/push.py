"""Distribution of a container image: to every target, or kept in the embedded layout (spec/api.md 5.2, 6.2).

Pushes are by digest, so one that was cut off is simply done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.distribution.registry import PushFailed
from imagesmith.recipes.plan import BuildPlan, PushTarget
from imagesmith.settings import Registry
from imagesmith.workflows import inspection
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.kept_push import push_kept
from imagesmith.workflows.role_access import refused_log_group, refused_targets
from imagesmith.workflows.work import Work
from imagesmith.workflows.workshop import Workshop, layout_reference


@dataclass(frozen=True)
class Distributed:
    """What was pushed where: entries of outputResources.containers, and the Regions they are in."""

    containers: Sequence[dict[str, Any]]
    regions: Sequence[str]


def distribute(work: Work, digest: str) -> Distributed:
    """Push to every target; failures of single Regions are collected. Raises StepFailed, Cancelled."""
    shop, plan, log = work.shop, work.plan, work.log
    _check_access(work)
    kept = kept_at(shop, plan)
    containers: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    regions: list[str] = []
    for target in plan.targets:
        registry = shop.settings.registry_for(plan.account, target.region)
        if registry is None and target.region == plan.region:
            log.line("distribute", f"no registry is configured for {target.region}: the image stays at {kept}")
            regions.append(target.region)
            continue
        try:
            uris = _push(work, target, registry, digest)
            containers.append({"region": target.region, "imageUris": list(uris)})
            regions.append(target.region)
        except PushFailed as error:
            log.line("distribute", f"{target.region}: {error}")
            failures.append(_region_failure(plan, target, str(error)))
    if failures:
        message = f"{failures[0]['errorMessage']} The image itself was built and is kept at {kept}"
        raise StepFailed(
            message,
            {"distributionFailure": {"errorMessage": message[:1024], "regionFailures": failures}},
            {"status": "Failed", "succeededRegions": regions, "failedRegions": [f["region"] for f in failures]},
            containers or kept_containers(shop, plan),
        )
    return Distributed(containers, regions)


def kept_at(shop: Workshop, plan: BuildPlan) -> str:
    """Where the image is kept: in the embedded layout, as skopeo names it, or where all hosts find it."""
    if shop.exchange is not None:
        return f"{shop.exchange.store.url}#{layout_reference(plan)}"
    return f"oci:{shop.layout.path}:{layout_reference(plan)}"


def kept_containers(shop: Workshop, plan: BuildPlan) -> list[dict[str, Any]]:
    """What an image shows that was pushed nowhere."""
    return [{"region": plan.region, "imageUris": [kept_at(shop, plan)]}]


def _check_access(work: Work) -> None:
    """Every target at once, before the first push: a run that may not finish pushes nothing. Raises StepFailed."""
    shop, plan = work.shop, work.plan
    refused = refused_targets(plan, shop.settings)
    reasons = [reason for _, reason in refused] + [reason for reason in [refused_log_group(plan)] if reason]
    if not reasons:
        return
    for reason in reasons:
        work.log.line("distribute", reason)
    kept = kept_at(shop, plan)
    message = f"{'; '.join(reasons)}. Nothing was pushed. The image itself was built and is kept at {kept}"
    failures = [_region_failure(plan, target, reason) for target, reason in refused]
    context = {"distributionFailure": {"errorMessage": message[:1024], "regionFailures": failures}}
    failed = {"status": "Failed", "succeededRegions": [], "failedRegions": [item["region"] for item in failures]}
    raise StepFailed(message, context if failures else {}, failed, kept_containers(shop, plan))


def _push(work: Work, target: PushTarget, registry: Registry | None, digest: str) -> tuple[str, ...]:
    shop, plan, log = work.shop, work.plan, work.log
    if registry is None:
        raise PushFailed(
            f'no registry is configured for the Region {target.region}; add [registries."{target.region}"] '
            "to the settings",
            permanent=True,
        )
    tags = tuple(dict.fromkeys((plan.default_tag, *target.tags)))
    pushed = push_kept(work, registry, stage="distribute", digest=digest, repository=target.repository, tags=tags)
    log.line("distribute", f"{target.region}: {', '.join(pushed.uris)} ({pushed.digest})")
    inspection.push_documents(shop, log, "distribute", registry, target.repository, digest)
    return pushed.uris


def _region_failure(plan: BuildPlan, target: PushTarget, message: str) -> dict[str, Any]:
    return {
        "region": target.region,
        "targetAccountId": plan.account,
        "status": "FAILED",
        "errorMessage": message[:1024],
    }
