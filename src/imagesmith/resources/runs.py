"""What pipelines and single images share: the members of a run, their rules and defaults, and starting one.

A run is started in one transaction: every reference is resolved into a build plan, the build number is taken, the
image is written as PENDING, and the engine hears of it after the commit. Should the process die in between, the
sweep at start-up enqueues what is PENDING (design.md, How data flows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from imagesmith.recipes.parents import ParentKind, classify_parent, parameter_names
from imagesmith.recipes.plan import (
    BuildPlan,
    PlannedComponent,
    PlannedMachine,
    PlannedParent,
    PlannedScan,
    PlannedWorkflow,
    PushTarget,
)
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import picked
from imagesmith.resources.errors import (
    invalid_combination,
    invalid_request,
)
from imagesmith.resources.planned_workflows import planned_workflows, system_variables
from imagesmith.resources.references import require_stored, resolve
from imagesmith.resources.roles import planned_role
from imagesmith.resources.run_tags import read_wishes
from imagesmith.resources.workflow_members import check_entries, needed_arns, resolve_entries
from imagesmith.store import queries
from imagesmith.store.numbers import Numbers
from imagesmith.store.parameters import get_parameter
from imagesmith.store.records import Build, Record
from imagesmith.values.arn import Arn
from imagesmith.values.version import Version
from imagesmith.workflows.role_access import OWN_LOG_GROUPS

Request = Mapping[str, Any]

RECIPE_MEMBERS = {"imageRecipeArn": "image-recipe", "containerRecipeArn": "container-recipe"}
TESTS_TIMEOUT_MINUTES = 720
_SCAN_REPOSITORY = "image-builder-image-scanning-repository"


def recipe_member(request: Request) -> str:
    """Which of the two recipe members is given: exactly one must be (spec/api.md 4.3)."""
    given = [name for name in RECIPE_MEMBERS if name in request]
    if len(given) != 1:
        raise invalid_combination(
            "imageRecipeArn", "You must specify exactly one of imageRecipeArn and containerRecipeArn."
        )
    return given[0]


def check_members(call: Call, request: Request) -> None:
    """The cross-member rules that pipelines and images share (spec/api.md 4.3)."""
    member = recipe_member(request)
    check_entries(call, request)
    for name, group in request.get("loggingConfiguration", {}).items():
        if not group.startswith(OWN_LOG_GROUPS) and "executionRole" not in request:
            raise invalid_combination(
                f"loggingConfiguration.{name}", f"A log group outside {OWN_LOG_GROUPS} needs executionRole."
            )
    _check_scanning(request, member)


def _check_scanning(request: Request, member: str) -> None:
    scanning = request.get("imageScanningConfiguration", {})
    path = "imageScanningConfiguration"
    types = scanning.get("imageScanningTypes", ())
    on_demand = "ON_DEMAND_AMI_CVE" in types
    if on_demand and member == "containerRecipeArn":
        raise invalid_combination(f"{path}.imageScanningTypes", "ON_DEMAND_AMI_CVE is not valid for containers.")
    if "scanResultCondition" in scanning and not on_demand:
        raise invalid_combination(f"{path}.scanResultCondition", "It needs the scanning type ON_DEMAND_AMI_CVE.")
    tests = request.get("imageTestsConfiguration", {})
    if scanning.get("imageScanningEnabled") and tests.get("imageTestsEnabled") is False:
        raise invalid_combination(path, "Image scanning needs imageTestsEnabled.")


def check_references(call: Call, request: Request) -> tuple[Record, list[str]]:
    """Resolve what a pipeline or an image refers to; gives the recipe and the ARNs that must stay."""
    member = recipe_member(request)
    recipe = resolve(call, request[member], path=member, kind=RECIPE_MEMBERS[member])
    needs = [] if Arn.parse(request[member]).has_wildcard else [recipe.arn]
    for name, kind in (
        ("infrastructureConfigurationArn", "infrastructure-configuration"),
        ("distributionConfigurationArn", "distribution-configuration"),
    ):
        if name in request:
            needs.append(require_stored(call, request[name], kind, path=name))
    needs += needed_arns(call, resolve_entries(call, request, recipe))
    return recipe, needs


def tests_configuration(request: Request) -> dict[str, Any]:
    """Each inner member has its own default (spec/api.md 4.1)."""
    return {
        "imageTestsEnabled": True,
        "timeoutMinutes": TESTS_TIMEOUT_MINUTES,
        **request.get("imageTestsConfiguration", {}),
    }


@dataclass(frozen=True)
class ResolvedRun:
    """What the references of a run mean now."""

    recipe: Record
    components: Sequence[tuple[PlannedComponent, dict[str, Any]]]
    """Each component at its concrete build, and the entry of the image's recipe copy (spec/api.md 5.2)."""
    parent: PlannedParent
    parent_record: Record | None
    infrastructure: Mapping[str, Any]
    distribution: Mapping[str, Any] | None
    workflows: tuple[PlannedWorkflow, ...] = ()


@dataclass(frozen=True)
class PreparedRun:
    """A run that has its number but is not stored yet."""

    image: Record
    plan: BuildPlan


def resolve_run(call: Call, members: Request) -> ResolvedRun:
    """Resolve every reference of a run without starting it; writes nothing. Raises ApiError."""
    recipe, _ = check_references(call, members)
    components = _planned_components(call, recipe)
    parent, parent_record = _planned_parent(call, recipe)
    infrastructure = _copy(call, members["infrastructureConfigurationArn"]) or {}
    distribution = _copy(call, members.get("distributionConfigurationArn"))
    workflows = planned_workflows(call, members, recipe)
    return ResolvedRun(recipe, components, parent, parent_record, infrastructure, distribution, workflows)


def start_run(
    call: Call,
    members: Request,
    *,
    pipeline: Record | None,
    tags: Mapping[str, str],
    build_type: str,
    log_group: str | None = None,
) -> Record:
    """Resolve, number, store and enqueue one build; gives the PENDING image. Raises ApiError.

    `members` has the shape of CreateImage; a pipeline's document has it too.
    """
    prepared = prepare_run(
        call, members, resolve_run(call, members),
        pipeline=pipeline, tags=tags, build_type=build_type, log_group=log_group,
    )  # fmt: skip
    store_runs(call, [prepared])
    return prepared.image


def store_runs(call: Call, prepared: Sequence[PreparedRun]) -> None:
    """Write images and plans; the engine hears of them after the commit."""
    queries.insert_many(call.tx, [run.image for run in prepared])
    queries.put_builds(call.tx, [Build(run.image.arn, run.plan.to_json(), {}) for run in prepared])
    if call.builds is not None and prepared:
        call.effects.append(partial(call.builds.start_many, [run.image.arn for run in prepared]))


def prepare_run(
    call: Call,
    members: Request,
    resolved: ResolvedRun,
    *,
    pipeline: Record | None,
    tags: Mapping[str, str],
    build_type: str,
    counted: bool = True,
    numbers: Numbers | None = None,
    log_group: str | None = None,
) -> PreparedRun:
    """Take the build number and make the records of a run; `resolved` is of this unit of work.

    `counted`: a SCHEDULED run that fails is one more failure in a row. `numbers`: where the number comes from when
    many runs are prepared. Raises ApiError, before a number was taken.
    """
    role = planned_role(call, members.get("executionRole", ""))
    recipe, components = resolved.recipe, resolved.components
    infrastructure, distribution = resolved.infrastructure, resolved.distribution
    key = f"{call.account}/{call.region}/image/{recipe.slug}/{recipe.version}"
    build = queries.next_number(call.tx, key) if numbers is None else numbers.next(key)
    version = recipe.parsed.version or ""
    arn = call.arn("image", recipe.slug, version=version, build=build)
    tests = tests_configuration(members)
    plan = BuildPlan(
        image_arn=str(arn), account=call.account, region=call.region, name=recipe.name, version=version,
        build=build, kind="container" if recipe.kind == "container-recipe" else "machine",
        parent=resolved.parent,
        components=tuple(planned for planned, _ in components),
        dockerfile=recipe.document.get("dockerfileTemplateData", ""),
        working_directory=recipe.document.get("workingDirectory", "/tmp"),  # noqa: S108 (spec/api.md 4.1)
        tests_enabled=tests["imageTestsEnabled"], tests_timeout_minutes=tests["timeoutMinutes"],
        collect_metadata=members.get("enhancedImageMetadataEnabled", True),
        targets=_targets(call, recipe, distribution), pipeline_arn=pipeline.arn if pipeline else "",
        execution_role=members.get("executionRole", ""),
        role=role, log_group=log_group or "",
        keep_failed_instance=not infrastructure.get("terminateInstanceOnFailure", True),
        scheduled=counted and build_type == "SCHEDULED",
        scan=_planned_scan(members.get("imageScanningConfiguration", {})),
        workflows=resolved.workflows,
        keep_completed_instance=not infrastructure.get("terminateInstanceOnCompletion", True),
        machine=_planned_machine(recipe, infrastructure, distribution, tags),
    )  # fmt: skip
    plan = replace(
        plan,
        variables=system_variables(
            plan, platform=str(recipe.document.get("platform", "Linux")), infrastructure=infrastructure,
            stamp=call.stamp,
        ),
    )  # fmt: skip
    record = _image_record(
        call, plan, recipe=_resolved_copy(recipe, resolved.parent, components), infrastructure=infrastructure,
        distribution=distribution, members=members, tests=tests, tags=tags, build_type=build_type,
        parent_record=resolved.parent_record, log_group=log_group,
    )  # fmt: skip
    return PreparedRun(record, plan)


def _planned_machine(
    recipe: Record,
    infrastructure: Mapping[str, Any],
    distribution: Mapping[str, Any] | None,
    tags: Mapping[str, str],
) -> PlannedMachine | None:
    wishes = read_wishes(tags, container=recipe.kind == "container-recipe")
    if recipe.kind == "container-recipe":
        return None
    return PlannedMachine(
        tuple(infrastructure.get("instanceTypes", ())),
        tuple(recipe.document.get("blockDeviceMappings", ())),
        recipe.document.get("additionalInstanceConfiguration", {}).get("userDataOverride", ""),
        tuple((distribution or {}).get("distributions", ())),
        wishes.cache_seconds,
        description=recipe.document.get("description", ""),
        ami_tags=dict(recipe.document.get("amiTags", {})),
        watermarked=bool(recipe.document.get("amiWatermarks")),
        no_boot=wishes.no_boot,
        tokens_required=infrastructure.get("instanceMetadataOptions", {}).get("httpTokens") == "required",
    )


def _copy(call: Call, arn: str | None) -> dict[str, Any] | None:
    record = queries.get(call.tx, arn) if arn else None
    return None if record is None else record.shown


def _planned_components(call: Call, recipe: Record) -> list[tuple[PlannedComponent, dict[str, Any]]]:
    """Each component at its concrete build, and the entry of the image's recipe copy (spec/api.md 5.2)."""
    planned = []
    for index, entry in enumerate(recipe.document.get("components", ())):
        path = f"components[{index}].componentArn"
        record = resolve(call, entry["componentArn"], path=path, kind="component")
        if record.status == "DISABLED":
            raise invalid_request(
                f"The component {record.arn} is DISABLED, so the recipe {recipe.arn} cannot be built."
            )
        values = {item["name"]: item["value"][0] if item["value"] else "" for item in entry.get("parameters", ())}
        shown = {**entry, "componentArn": record.arn}
        planned.append((PlannedComponent(record.arn, record.document["data"], values), shown))
    return planned


def _planned_parent(call: Call, recipe: Record) -> tuple[PlannedParent, Record | None]:
    text = recipe.document["parentImage"]
    kind = classify_parent(text).kind
    if kind is ParentKind.IMAGE:
        record = resolve(call, text, path="parentImage", kind="image")
        if record.status not in ("AVAILABLE", "DEPRECATED"):
            raise invalid_request(f"The parent image {record.arn} is {record.status}, so it cannot be built on.")
        if record.account != call.account:
            return PlannedParent("managed", record.arn), record
        build = queries.get_build(call.tx, record.arn)
        digest = str(build.outcome.get("digest", "")) if build else ""
        return PlannedParent("image", record.arn, digest), record
    if kind is ParentKind.REGISTRY:
        return PlannedParent("registry", text), None
    if kind is ParentKind.LAYOUT:
        return PlannedParent("layout", text), None
    if kind is ParentKind.SSM:
        return PlannedParent("machine", _parameter(call, text)), None
    return PlannedParent("machine", text), None


def _parameter(call: Call, text: str) -> str:
    """What an `ssm:` reference means now. Raises ApiError."""
    for name in parameter_names(text, account=call.account, region=call.region):
        found = get_parameter(call.tx, call.account, call.region, name)
        if found is not None:
            return found.value
    raise invalid_request(f"The parent image {text} names a parameter that has no value.")


def _planned_scan(scanning: Mapping[str, Any]) -> PlannedScan | None:
    if not scanning.get("imageScanningEnabled"):
        return None
    place = scanning.get("ecrConfiguration", {})
    condition = scanning.get("scanResultCondition", {})
    return PlannedScan(
        place.get("repositoryName", _SCAN_REPOSITORY), tuple(place.get("containerTags", ())),
        "ON_DEMAND_AMI_CVE" in scanning.get("imageScanningTypes", ()),
        condition.get("maximumSeverityLabel", ""), condition.get("fixAvailable", True),
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


def _resolved_copy(
    recipe: Record, parent: PlannedParent, components: Sequence[tuple[PlannedComponent, dict[str, Any]]]
) -> dict[str, Any]:
    return {**recipe.shown, "parentImage": parent.reference, "components": [shown for _, shown in components]}


def _image_record(
    call: Call,
    plan: BuildPlan,
    *,
    recipe: Mapping[str, Any],
    infrastructure: Mapping[str, Any],
    distribution: Mapping[str, Any] | None,
    members: Request,
    tests: Mapping[str, Any],
    tags: Mapping[str, str],
    build_type: str,
    parent_record: Record | None,
    log_group: str | None,
) -> Record:
    container = plan.kind == "container"
    arn = Arn.parse(plan.image_arn)
    document: dict[str, Any] = {
        "arn": plan.image_arn,
        "type": "DOCKER" if container else "AMI",
        "name": plan.name,
        "version": f"{plan.version}/{plan.build}",
        "platform": recipe["platform"],
        "enhancedImageMetadataEnabled": plan.collect_metadata,
        "state": {"status": "PENDING"},
        "containerRecipe" if container else "imageRecipe": dict(recipe),
        "infrastructureConfiguration": dict(infrastructure),
        "imageTestsConfiguration": dict(tests),
        "dateCreated": call.stamp,
        "outputResources": {"containers": []} if container else {"amis": []},
        "buildType": build_type,
        "imageSource": "AMAZON_MANAGED" if plan.parent.kind == "managed" else "CUSTOM",
        **picked(members, ("imageScanningConfiguration", "executionRole", "workflows")),
    }
    os_version = recipe.get("_osVersion") or (parent_record.document.get("osVersion") if parent_record else None)
    if os_version:
        document["osVersion"] = os_version
    if distribution is not None:
        document["distributionConfiguration"] = dict(distribution)
    if plan.pipeline_arn:
        document["sourcePipelineArn"] = plan.pipeline_arn
    if log_group:
        document["loggingConfiguration"] = {"logGroupName": log_group}
    if members.get("imageScanningConfiguration", {}).get("imageScanningEnabled"):
        document["scanState"] = {"status": "PENDING"}
    return Record(
        arn=plan.image_arn, account=call.account, region=call.region, kind="image", slug=arn.slug, name=plan.name,
        created=call.now, document=document, tags=tags, version=Version.parse(plan.version), build=plan.build,
        status="PENDING", source=plan.pipeline_arn,
    )  # fmt: skip
