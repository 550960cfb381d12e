"""The resolved references of a run: recipe, concrete builds of components and parent, configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.recipes.parents import ParentKind, classify_parent, parameter_names
from imagesmith.recipes.plan import PlannedComponent, PlannedParent, PlannedWorkflow
from imagesmith.resources.call import Call
from imagesmith.resources.errors import invalid_request
from imagesmith.resources.planned_workflows import planned_workflows
from imagesmith.resources.resolution import MANAGED_OWNER, resolve
from imagesmith.resources.run_members import check_references, stored_document
from imagesmith.store import stored_builds
from imagesmith.store.parameters import get_parameter
from imagesmith.store.records import Record
from imagesmith.store.revocations import revocation_of
from imagesmith.values.api import ApiDocument, ApiRequest
from imagesmith.values.states import ImageStatus, ResourceStatus


@dataclass(frozen=True)
class ResolvedRun:
    """The resolved references of a run."""

    recipe: Record
    components: Sequence[tuple[PlannedComponent, ApiDocument]]
    """Each component at its concrete build, and the entry of the image's recipe copy (spec/api.md 5.2)."""
    parent: PlannedParent
    parent_record: Record | None
    infrastructure: Mapping[str, Any]
    distribution: Mapping[str, Any] | None
    workflows: tuple[PlannedWorkflow, ...] = ()


def resolve_run(call: Call, members: ApiRequest) -> ResolvedRun:
    """Resolve every reference of a run without starting it; writes nothing. Raises ApiError."""
    recipe, _ = check_references(call, members)
    components = _planned_components(call, recipe)
    parent, parent_record = _planned_parent(call, recipe)
    infrastructure = stored_document(call, members["infrastructureConfigurationArn"]) or {}
    distribution = stored_document(call, members.get("distributionConfigurationArn"))
    workflows = planned_workflows(call, members, recipe)
    return ResolvedRun(
        recipe=recipe,
        components=components,
        parent=parent,
        parent_record=parent_record,
        infrastructure=infrastructure,
        distribution=distribution,
        workflows=workflows,
    )


def _planned_components(call: Call, recipe: Record) -> list[tuple[PlannedComponent, ApiDocument]]:
    """Each component at its concrete build, and the entry of the image's recipe copy (spec/api.md 5.2)."""
    from imagesmith.resources.component_checks import check_parameters  # late: cli/startup.py
    from imagesmith.resources.nested_components import nested_documents

    planned: list[tuple[PlannedComponent, ApiDocument]] = []
    for index, entry in enumerate(recipe.document.get("components", ())):
        path = f"components[{index}].componentArn"
        record = resolve(call, entry["componentArn"], path=path, kind="component")
        if record.status == ResourceStatus.DISABLED:
            raise invalid_request(
                f"The component {record.arn} is DISABLED, so the recipe {recipe.arn} cannot be built."
            )
        check_parameters(call, record, entry.get("parameters", ()), f"components[{index}]")
        values = {item["name"]: item["value"][0] if item["value"] else "" for item in entry.get("parameters", ())}
        shown = {**entry, "componentArn": record.arn}
        nested = nested_documents(call, record, values, path, refused=(ResourceStatus.DISABLED,))
        component = PlannedComponent(record.arn, record.document["data"], values, tuple(nested.values()))
        planned.append((component, shown))
    return planned


def _planned_parent(call: Call, recipe: Record) -> tuple[PlannedParent, Record | None]:
    text = recipe.document["parentImage"]
    kind = classify_parent(text).kind
    if kind is ParentKind.IMAGE:
        return planned_image(call, text, path="parentImage")
    if kind is ParentKind.REGISTRY:
        return PlannedParent("registry", text), None
    if kind is ParentKind.LAYOUT:
        return PlannedParent("layout", text), None
    if kind is ParentKind.SSM:
        value = stored_parameter(call, text)
        if value is None:
            raise invalid_request(f"The parent image {text} names a parameter that has no value.")
        return PlannedParent("machine", value), None
    return PlannedParent("machine", text), None


def planned_image(call: Call, text: str, *, path: str) -> tuple[PlannedParent, Record]:
    """The disk or container image of an image that may be used, and its record. Raises ApiError."""
    record = resolve(call, text, path=path, kind="image")
    if record.status not in (ImageStatus.AVAILABLE, ImageStatus.DEPRECATED):
        noun = "parent image" if path == "parentImage" else "image"
        raise invalid_request(f"The {noun} {record.arn} is {record.status}, so it cannot be built on.")
    refuse_revoked(call, record)
    if record.account == MANAGED_OWNER:
        return PlannedParent("managed", record.arn, source=call.managed.sources[record.slug]), record
    build = stored_builds.get_build(call.tx, record.arn)
    digest = build.outcome.digest if build else ""
    return PlannedParent("image", record.arn, digest), record


def refuse_revoked(call: Call, image: Record) -> None:
    """Raise ApiError for an image that is revoked, by itself or with its parent."""
    revoked = revocation_of(call.tx, image.arn)
    if revoked is not None:
        raise invalid_request(f"{revoked.sentence(image.arn)}. Withdraw it with imagesmith image unrevoke.")


def stored_parameter(call: Call, text: str) -> str | None:
    """The current value of an `ssm:` reference; None without one. Raises ApiError for a secure parameter."""
    for name in parameter_names(text, account=call.account, region=call.region):
        found = get_parameter(call.tx, call.account, call.region, name)
        if found is not None and found.secure:
            raise invalid_request(f"The parameter {name} holds a secret, not an image id: put it without --secure.")
        if found is not None:
            return found.value
    return None
