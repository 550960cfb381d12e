"""The build plan of a run: its resolved references, as the one snapshot that the build obeys (recipes/plan.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imagesmith.recipes.kinds import kind_of_recipe
from imagesmith.recipes.plan import BuildPlan, PlannedCache, PlannedMachine, PlannedRole, PlannedScan, PushTarget
from imagesmith.recipes.reproducible import PlannedReproducible, planned
from imagesmith.resources.call import Call
from imagesmith.resources.infrastructure import unused_members
from imagesmith.resources.planned_workflows import system_variables
from imagesmith.resources.resolved_runs import ResolvedRun
from imagesmith.resources.run_members import tests_configuration
from imagesmith.resources.run_tags import RunTags, parse_run_tags, with_recipe_tags
from imagesmith.store.records import Record
from imagesmith.values.api import ApiRequest

_SCAN_REPOSITORY = "image-builder-image-scanning-repository"


@dataclass(frozen=True)
class RunOrder:
    """The request for a run and its caller; `members` has the shape of CreateImage, like a pipeline's document."""

    members: ApiRequest
    pipeline: Record | None
    tags: Mapping[str, str]
    build_type: str
    log_group: str = ""
    counted: bool = True
    """A failed SCHEDULED run counts as a consecutive failure."""


def make_plan(
    call: Call, order: RunOrder, resolved: ResolvedRun, *, build: int, role: PlannedRole | None
) -> BuildPlan:
    """The plan of the build with this number. Raises ApiError."""
    members, recipe = order.members, resolved.recipe
    infrastructure, distribution = resolved.infrastructure, resolved.distribution
    version = recipe.parsed.version or ""
    tests, kind = tests_configuration(members), kind_of_recipe(recipe.kind)
    tags = _run_tags(recipe, order)
    plan = BuildPlan(
        image_arn=str(call.arn("image", recipe.slug, version=version, build=build)),
        account=call.account, region=call.region, name=recipe.name, version=version,
        build=build, kind=kind.name,
        parent=resolved.parent,
        components=tuple(planned for planned, _ in resolved.components),
        dockerfile=recipe.document.get("dockerfileTemplateData", ""),
        working_directory=recipe.document.get("workingDirectory", "/tmp"),  # noqa: S108 (spec/api.md 4.1)
        tests_enabled=tests["imageTestsEnabled"], tests_timeout_minutes=tests["timeoutMinutes"],
        collect_metadata=members.get("enhancedImageMetadataEnabled", True),
        targets=_targets(call, recipe, distribution), pipeline_arn=order.pipeline.arn if order.pipeline else "",
        execution_role=members.get("executionRole", ""),
        role=role, log_group=order.log_group,
        keep_failed_instance=not infrastructure.get("terminateInstanceOnFailure", True),
        scheduled=order.counted and order.build_type == "SCHEDULED",
        scan=_planned_scan(members.get("imageScanningConfiguration", {})),
        workflows=resolved.workflows,
        keep_completed_instance=not infrastructure.get("terminateInstanceOnCompletion", True),
        machine=_planned_machine(recipe, infrastructure, distribution, tags) if kind.is_disk else None,
        cache=_planned_cache(RunTags() if kind.is_disk else tags, order),
        network="none" if tags.network == "none" else "outbound",
        unused=_unused(recipe, infrastructure, distribution),
        reproducible=_reproducible(call, recipe, tags),
    )  # fmt: skip
    return replace(
        plan,
        variables=system_variables(
            plan, platform=str(recipe.document.get("platform", "Linux")), infrastructure=infrastructure,
            stamp=call.stamp,
        ),
    )  # fmt: skip


def _unused(
    recipe: Record, infrastructure: Mapping[str, Any], distribution: Mapping[str, Any] | None
) -> tuple[str, ...]:
    """Members that a run does not use; the log names them, since the request was accepted."""
    container = not kind_of_recipe(recipe.kind).is_disk
    names = tuple(f"recipe.{name}" for name in ("instanceConfiguration", "kmsKeyId") if recipe.document.get(name))
    given = unused_members(infrastructure, container=container)
    placement = [
        f"distributions[{index}].{name}"
        for index, entry in enumerate((distribution or {}).get("distributions", ()))
        for name in entry
        if name != "region" and (name == "containerDistributionConfiguration") is not container
    ]
    return (*(names if container else ()), *(f"infrastructure.{name}" for name in given), *placement)


def _planned_machine(
    recipe: Record,
    infrastructure: Mapping[str, Any],
    distribution: Mapping[str, Any] | None,
    tags: RunTags,
) -> PlannedMachine:
    return PlannedMachine(
        instance_types=tuple(infrastructure.get("instanceTypes", ())),
        block_devices=tuple(recipe.document.get("blockDeviceMappings", ())),
        user_data=recipe.document.get("additionalInstanceConfiguration", {}).get("userDataOverride", ""),
        distributions=tuple((distribution or {}).get("distributions", ())),
        cache_seconds=tags.cache_seconds,
        description=recipe.document.get("description", ""),
        ami_tags=dict(recipe.document.get("amiTags", {})),
        watermarked=bool(recipe.document.get("amiWatermarks")),
        no_boot=tags.no_boot,
        tokens_required=infrastructure.get("instanceMetadataOptions", {}).get("httpTokens") == "required",
    )


def _run_tags(recipe: Record, order: RunOrder) -> RunTags:
    container = not kind_of_recipe(recipe.kind).is_disk
    return parse_run_tags(with_recipe_tags(order.tags, recipe.tags, container=container), container=container)


def _reproducible(call: Call, recipe: Record, tags: RunTags) -> PlannedReproducible | None:
    """The setting is about what can be reproducible: a machine that boots is not asked for it."""
    boots = kind_of_recipe(recipe.kind).is_disk and not tags.no_boot
    return planned(
        tags.reproducible, recipe_created=recipe.created,
        by_default=call.settings.builds.reproducible and not boots,
    )  # fmt: skip


def _planned_cache(tags: RunTags, order: RunOrder) -> PlannedCache:
    """A run of a schedule is there to be fresh: without a tag it uses nothing that may come from the network."""
    age = 0.0 if order.build_type == "SCHEDULED" else None
    return PlannedCache(tags.cache_seconds or age, reads=not tags.no_cache, components=tags.cache_seconds > 0)


def _planned_scan(scanning: Mapping[str, Any]) -> PlannedScan | None:
    if not scanning.get("imageScanningEnabled"):
        return None
    ecr = scanning.get("ecrConfiguration", {})
    condition = scanning.get("scanResultCondition", {})
    return PlannedScan(
        repository=ecr.get("repositoryName", _SCAN_REPOSITORY), tags=tuple(ecr.get("containerTags", ())),
        on_demand="ON_DEMAND_AMI_CVE" in scanning.get("imageScanningTypes", ()),
        maximum_severity=condition.get("maximumSeverityLabel", ""),
        fixable_only=condition.get("fixAvailable", True),
    )  # fmt: skip


def _targets(call: Call, recipe: Record, distribution: Mapping[str, Any] | None) -> tuple[PushTarget, ...]:
    """Where the image is pushed: per region the distribution's repository, else the recipe's (spec/api.md 6.2)."""
    targets = []
    for entry in (distribution or {}).get("distributions", ()):
        container = entry.get("containerDistributionConfiguration")
        if container is not None:
            tags = tuple(container.get("containerTags", ()))
            targets.append(PushTarget(entry["region"], container["targetRepository"]["repositoryName"], tags))
    repository = recipe.document.get("targetRepository")
    if repository and call.region not in [target.region for target in targets]:
        targets.append(PushTarget(call.region, repository["repositoryName"], ()))
    return tuple(targets)
