"""What image recipes and container recipes share: versions, components, parents, get, delete, list.

Recipes are immutable; `x` in semanticVersion takes the next free number (spec/api.md 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.recipes.parents import ParentKind, classify_parent
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import picked
from imagesmith.resources.errors import (
    already_exists,
    in_dependency,
    invalid_combination,
    invalid_request,
    invalid_value,
    invalid_version,
    quota_exceeded,
)
from imagesmith.resources.lists import FilterTable, empty_page, list_stored
from imagesmith.resources.references import find, refuse_wildcard, resolve
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn, slug_of
from imagesmith.values.version import Version, VersionError, VersionPattern

Request = Mapping[str, Any]


@dataclass(frozen=True)
class RecipeKind:
    """What differs between the two."""

    kind: str
    arn_member: str
    result_member: str
    list_member: str
    plural: str
    quota: Callable[[Call], int]
    filters: FilterTable
    summary: Callable[[Record], dict[str, Any]]


@dataclass(frozen=True)
class ParentFacts:
    """What is known of a parent when a recipe is made."""

    platform: str | None
    os_version: str | None
    needs: tuple[str, ...] = ()
    """ARNs that must stay for the recipe to be usable."""


def create(
    kind: RecipeKind, call: Call, request: Request, content: Mapping[str, Any], needs: Sequence[str]
) -> dict[str, Any]:
    """Store a recipe whose references were checked; `content` holds the members besides name and version."""
    slug = slug_of(request["name"])
    version, spelling = _new_version(kind, call, slug, request["semanticVersion"])
    arn = call.arn(kind.kind, slug, version=spelling)
    limit = kind.quota(call)
    if queries.count(call.tx, call.own(kind.kind)) >= limit:
        raise quota_exceeded(kind.plural, limit)
    call.end_of_checks()
    for prefix, number in _automatic_keys(kind, call, slug, version):
        queries.raise_counter(call.tx, prefix, number)
    document = {
        "arn": str(arn), "name": request["name"], "version": spelling, "owner": call.account,
        "dateCreated": call.stamp, **content,
    }  # fmt: skip
    queries.insert(
        call.tx,
        Record(
            arn=str(arn), account=call.account, region=call.region, kind=kind.kind, slug=slug,
            name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
            version=version,
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
    """Counters that remember the highest number used at each node, so that none comes back after a delete."""
    base = f"{call.account}/{call.region}/{kind.kind}/{slug}"
    nodes = version.nodes
    return [(f"{base}/{'.'.join(map(str, nodes[:depth]))}", nodes[depth]) for depth in range(3)]


def _spent(kind: RecipeKind, call: Call, slug: str, pattern: VersionPattern) -> list[Version]:
    prefix = pattern.prefix
    key = f"{call.account}/{call.region}/{kind.kind}/{slug}/{'.'.join(map(str, prefix))}"
    number = queries.counter(call.tx, key)
    if number is None:
        return []
    nodes = [*prefix, number, 0, 0][:3]
    return [Version(nodes[0], nodes[1], nodes[2])]


def get(kind: RecipeKind, call: Call, request: Request) -> dict[str, Any]:
    record = resolve(call, request[kind.arn_member], path=kind.arn_member, kind=kind.kind)
    return {kind.result_member: record.shown, "latestVersionReferences": record.parsed.latest_references()}


def delete(kind: RecipeKind, call: Call, request: Request) -> dict[str, Any]:
    refuse_wildcard(request[kind.arn_member], path=kind.arn_member)
    record = find(call, request[kind.arn_member], path=kind.arn_member, kind=kind.kind)
    if queries.is_needed(call.tx, record.arn):
        raise in_dependency(record.arn)
    queries.delete(call.tx, record.arn)
    return {kind.arn_member: record.arn}


def list_all(kind: RecipeKind, call: Call, request: Request) -> dict[str, Any]:
    owner = request.get("owner", "Self")
    if owner != "Self":
        return empty_page(kind.list_member)
    return list_stored(call, call.own(kind.kind), key=kind.list_member, filters=kind.filters, show=kind.summary)


def check_components(call: Call, request: Request, parent: ParentFacts) -> tuple[list[dict[str, Any]], list[str]]:
    """The component list as stored, and the ARNs it needs to exist. Raises ApiError (spec/api.md 4.3, 4.4)."""
    entries: list[dict[str, Any]] = []
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
        if record.status in ("DEPRECATED", "DISABLED"):
            raise invalid_request(f"The component {record.arn} is {record.status} and cannot be added to a recipe.")
        _check_fit(record, parent, path)
        check_parameters(call, record, entry.get("parameters", ()), path)
        entries.append(dict(entry))
        if not Arn.parse(entry["componentArn"]).has_wildcard and record.account == call.account:
            arn = Arn.parse(entry["componentArn"])
            needs.append(record.arn if arn.build else str(record.parsed.without_build))
    return entries, needs


def _check_fit(record: Record, parent: ParentFacts, path: str) -> None:
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


def check_parameters(call: Call, record: Record, given: Sequence[Mapping[str, Any]], path: str) -> None:
    """Every value names a parameter of the document, and none without default is missing."""
    declared = {item["name"]: item for item in record.document.get("parameters", ())}
    unknown = [item["name"] for item in given if item["name"] not in declared]
    if unknown:
        raise invalid_combination(
            f"{path}.parameters",
            f"The following parameters are not defined in the provided component: {', '.join(unknown)}",
        )
    names = {item["name"] for item in given}
    missing = [name for name, item in declared.items() if name not in names and "defaultValue" not in item]
    if missing:
        raise invalid_combination(
            f"{path}.parameters",
            f"The following parameters have no default value and need one: {', '.join(missing)}",
        )
    limit = call.settings.quotas.parameter_value_characters
    for item in given:
        if any(len(value) > limit for value in item.get("value", ())):
            raise quota_exceeded(f"characters per value of the parameter {item['name']}", limit)


def check_parent(call: Call, text: str, *, container: bool) -> ParentFacts:
    """What a parent image is; an Image Builder ARN must resolve now (spec/api.md 4.4). Raises ApiError."""
    parent = classify_parent(text)
    if parent.kind is ParentKind.INVALID:
        raise invalid_value("parentImage", parent.problem)
    if container and parent.kind in (ParentKind.AMI, ParentKind.MARKETPLACE, ParentKind.SSM, ParentKind.DISK):
        raise invalid_value("parentImage", f"{text} is not a container image.")
    if not container and parent.kind in (ParentKind.LAYOUT, ParentKind.REGISTRY):
        raise invalid_value("parentImage", f"{text} is not a machine image.")
    if parent.kind is not ParentKind.IMAGE:
        return ParentFacts(None, None)
    record = resolve(call, text, path="parentImage", kind="image")
    expected = "DOCKER" if container else "AMI"
    if record.document.get("type") != expected:
        raise invalid_value("parentImage", f"{record.arn} is an image of type {record.document.get('type')}.")
    arn = Arn.parse(text)
    needs = (record.arn,) if arn.build and record.account == call.account else ()
    return ParentFacts(record.document.get("platform"), record.document.get("osVersion"), needs)


SUMMARY = ("arn", "name", "platform", "owner", "parentImage", "dateCreated")


def summary(record: Record, names: tuple[str, ...]) -> dict[str, Any]:
    return {**picked(record.document, names), "tags": dict(record.tags)}
