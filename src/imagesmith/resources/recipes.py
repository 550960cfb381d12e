"""The common part of image recipes and container recipes: versions, components, parents, get, delete, list.

Recipes are immutable; `x` in semanticVersion takes the next free number (spec/api.md 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from imagesmith.recipes.parents import ParentKind, classify_parent
from imagesmith.resources.call import Call, Handler
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import (
    already_exists,
    in_dependency,
    invalid_combination,
    invalid_request,
    invalid_value,
    invalid_version,
    quota_exceeded,
)
from imagesmith.resources.lists import FilterTable, empty_page, list_given, list_stored
from imagesmith.resources.resolution import find, refuse_wildcard, resolve
from imagesmith.resources.shared import is_shared, listed
from imagesmith.store import counters, queries
from imagesmith.store.internal_members import NO_INTERNAL_MEMBERS, InternalMembers
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.arn import Arn, slug_of
from imagesmith.values.states import WITHDRAWN
from imagesmith.values.version import Version, VersionError, VersionPattern


@dataclass(frozen=True)
class RecipeKind:
    """The differences between the two kinds."""

    kind: str
    arn_member: str
    result_member: str
    list_member: str
    plural: str
    quota: Callable[[Call], int]
    filters: FilterTable
    summary: Callable[[Record], ApiDocument]
    kept_while_shared: bool = False
    """A shared recipe cannot be deleted (spec/api.md 4.5)."""
    owners: tuple[str, ...] = ("Self", "Shared", "Amazon", "ThirdParty", "AWSMarketplace")
    """What a list may ask for."""


@dataclass(frozen=True)
class ParentProperties:
    """The known properties of a parent when a recipe is created."""

    platform: str | None
    os_version: str | None
    needs: tuple[str, ...] = ()
    """ARNs of resources that must exist as long as the recipe."""


def create(
    kind: RecipeKind,
    call: Call,
    request: ApiRequest,
    content: Mapping[str, Any],
    needs: Sequence[str],
    *,
    internal: InternalMembers = NO_INTERNAL_MEMBERS,
) -> ApiResponse:
    """Store a recipe whose references were checked; `content` holds the members besides name and version."""
    slug = slug_of(request["name"])
    version, spelling = _new_version(kind, call, slug, request["semanticVersion"])
    arn = call.arn(kind.kind, slug, version=spelling)
    limit = kind.quota(call)
    if queries.count(call.tx, call.own(kind.kind)) >= limit:
        raise quota_exceeded(kind.plural, limit)
    call.stop_if_dry_run()
    for prefix, number in _automatic_keys(kind, call, slug, version):
        counters.raise_counter(call.tx, prefix, number)
    document = {
        "arn": str(arn), "name": request["name"], "version": spelling, "owner": call.account,
        "dateCreated": call.stamp, **content,
    }  # fmt: skip
    queries.insert(
        call.tx,
        Record(
            arn=str(arn), account=call.account, region=call.region, kind=kind.kind, slug=slug,
            name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
            version=version, internal=internal,
        ),
        needs,
    )  # fmt: skip
    return {kind.arn_member: str(arn), "latestVersionReferences": arn.latest_references()}


def _new_version(kind: RecipeKind, call: Call, slug: str, text: str) -> tuple[Version, str]:
    try:
        pattern = VersionPattern.parse(text)
        existing = queries.versions(call.tx, call.account, call.region, kind.kind, slug)
        if pattern.is_exact:
            version = Version.parse(text)
            for record in existing:
                if record.version == version:
                    raise already_exists(kind.kind, record.arn)
            return version, text
        version = pattern.next_after([*(record.version for record in existing), *_spent(kind, call, slug, pattern)])
    except VersionError as error:
        raise invalid_version(text, f"{error}.") from error
    return version, str(version)


def _automatic_keys(kind: RecipeKind, call: Call, slug: str, version: Version) -> list[tuple[str, int]]:
    """Counters with the highest number used at each node, so that no number is reused after a delete."""
    base = f"{call.account}/{call.region}/{kind.kind}/{slug}"
    nodes = version.nodes
    return [(f"{base}/{'.'.join(map(str, nodes[:depth]))}", nodes[depth]) for depth in range(3)]


def _spent(kind: RecipeKind, call: Call, slug: str, pattern: VersionPattern) -> list[Version]:
    prefix = pattern.prefix
    key = f"{call.account}/{call.region}/{kind.kind}/{slug}/{'.'.join(map(str, prefix))}"
    number = counters.counter(call.tx, key)
    if number is None:
        return []
    nodes = [*prefix, number, 0, 0][:3]
    return [Version(nodes[0], nodes[1], nodes[2])]


def get(kind: RecipeKind, call: Call, request: ApiRequest) -> ApiResponse:
    record = resolve(call, request[kind.arn_member], path=kind.arn_member, kind=kind.kind)
    return {kind.result_member: record.to_api(), "latestVersionReferences": record.parsed.latest_references()}


def delete(kind: RecipeKind, call: Call, request: ApiRequest) -> ApiResponse:
    refuse_wildcard(request[kind.arn_member], path=kind.arn_member)
    record = find(call, request[kind.arn_member], path=kind.arn_member, kind=kind.kind)
    if queries.is_needed(call.tx, record.arn) or (kind.kept_while_shared and is_shared(call, record.arn)):
        raise in_dependency(record.arn)
    queries.delete(call.tx, record.arn)
    return {kind.arn_member: record.arn}


def list_all(kind: RecipeKind, call: Call, request: ApiRequest) -> ApiResponse:
    owner = request.get("owner", "Self")
    if owner not in kind.owners:
        raise invalid_value("owner", f"For {kind.plural} it must be one of {', '.join(kind.owners)}.")
    if owner == "Shared":
        return list_given(
            call, listed(call, kind.kind), key=kind.list_member, filters=kind.filters, show=kind.summary
        )
    if owner != "Self":
        return empty_page(kind.list_member)
    return list_stored(call, call.own(kind.kind), key=kind.list_member, filters=kind.filters, show=kind.summary)


def check_components(
    call: Call, request: ApiRequest, parent: ParentProperties, *, container: bool
) -> tuple[list[ApiDocument], list[str]]:
    """The component list as stored, and the ARNs that must exist for it. Raises ApiError (spec/api.md 4.3, 4.4)."""
    from imagesmith.resources.component_checks import check_parameters, check_phases  # late: cli/startup.py
    from imagesmith.resources.nested_components import nested_documents

    entries: list[ApiDocument] = []
    needs: list[str] = []
    seen: set[str] = set()
    limit = call.settings.quotas.components_per_recipe
    given = request.get("components", ())
    if len(given) > limit:
        raise quota_exceeded("components per recipe", limit)
    for index, entry in enumerate(given):
        path = f"components[{index}]"
        record = resolve(call, entry["componentArn"], path=f"{path}.componentArn", kind="component")
        identity = str(record.parsed.with_version("x.x.x"))
        if identity in seen:
            raise invalid_value(f"{path}.componentArn", f"The component {record.name} is listed more than once.")
        seen.add(identity)
        if record.status in WITHDRAWN:
            raise invalid_request(f"The component {record.arn} is {record.status} and cannot be added to a recipe.")
        _check_fit(record, parent, path)
        check_phases(record, path, container=container)
        check_parameters(call, record, entry.get("parameters", ()), path)
        entries.append(dict(entry))
        values = {item["name"]: item["value"][0] for item in entry.get("parameters", ())}
        nested = nested_documents(call, record, values, f"{path}.componentArn", refused=WITHDRAWN)
        needs += [arn for item in nested.values() for arn in _needed(call, item.asked, item.arn)]
        needs += _needed(call, entry["componentArn"], record.arn)
    return entries, list(dict.fromkeys(needs))


def _needed(call: Call, asked: str, found: str) -> list[str]:
    """The ARN that must exist for a recipe with a component: an own build or version, never a wildcard."""
    arn, concrete = Arn.parse(asked), Arn.parse(found)
    if arn.has_wildcard or concrete.owner != call.account:
        return []
    return [found if arn.build else str(concrete.without_build)]


def _check_fit(record: Record, parent: ParentProperties, path: str) -> None:
    platform = record.document.get("platform")
    if parent.platform and platform != parent.platform:
        raise invalid_combination(
            f"{path}.componentArn",
            f"The component {record.arn} is for {platform}, the parent image for {parent.platform}.",
        )
    supported = record.document.get("supportedOsVersions", ())
    if supported and parent.os_version and not any(parent.os_version.startswith(text) for text in supported):
        raise invalid_combination(
            f"{path}.componentArn",
            f"The component {record.arn} supports {', '.join(supported)}, not {parent.os_version}.",
        )


def check_parent(call: Call, text: str, *, container: bool) -> ParentProperties:
    """Properties of a parent image; an Image Builder ARN must resolve now (spec/api.md 4.4). Raises ApiError."""
    parent = classify_parent(text)
    if parent.kind is ParentKind.INVALID:
        raise invalid_value("parentImage", parent.problem)
    if container and parent.kind in (ParentKind.AMI, ParentKind.MARKETPLACE, ParentKind.SSM, ParentKind.DISK):
        raise invalid_value("parentImage", f"{text} is not a container image.")
    if not container and parent.kind in (ParentKind.LAYOUT, ParentKind.REGISTRY):
        raise invalid_value("parentImage", f"{text} is not a machine image.")
    if parent.kind is not ParentKind.IMAGE:
        return ParentProperties(None, None)
    record = resolve(call, text, path="parentImage", kind="image")
    expected = "DOCKER" if container else "AMI"
    if record.document.get("type") != expected:
        raise invalid_value("parentImage", f"{record.arn} is an image of type {record.document.get('type')}.")
    arn = Arn.parse(text)
    needs = (record.arn,) if arn.build and record.account == call.account else ()
    return ParentProperties(record.document.get("platform"), record.document.get("osVersion"), needs)


@dataclass(frozen=True)
class RecipeHandlers:
    """The operations of a kind, except the creation."""

    get: Handler
    delete: Handler
    list_all: Handler


def handlers(kind: RecipeKind) -> RecipeHandlers:
    return RecipeHandlers(*(partial(handle, kind) for handle in (get, delete, list_all)))


SUMMARY = ("arn", "name", "platform", "owner", "parentImage", "dateCreated")


def summary(record: Record, names: tuple[str, ...]) -> ApiDocument:
    return {**select_members(record.document, names), "tags": dict(record.tags)}
