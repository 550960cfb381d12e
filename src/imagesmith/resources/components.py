"""Components: immutable, versioned documents with build numbers (spec/api.md 3.7, 4.5, 4.6, 4.10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.components.grammar import folded_message, parse_component
from imagesmith.components.model import component_type, parameter_details
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import picked
from imagesmith.resources.errors import (
    already_exists,
    in_dependency,
    invalid_combination,
    invalid_value,
    quota_exceeded,
)
from imagesmith.resources.lists import empty_page, list_given, list_stored, member, version_text
from imagesmith.resources.references import exact_version, find, parse_arn, refuse_wildcard, resolve
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.arn import slug_of
from imagesmith.values.diagnostics import errors_of

Request = Mapping[str, Any]

KIND = "component"
_IDENTITY = ("data", "description", "platform", "supportedOsVersions", "kmsKeyId")
"""Members that make two builds of one version identical (spec/api.md 3.7)."""

_FILTERS = {
    "description": member("description"),
    "name": member("name"),
    "platform": member("platform"),
    "productCodes": member("productCodes"),
    "status": lambda record: [record.status],
    "supportedOsVersion": member("supportedOsVersions"),
    "type": member("type"),
    "version": version_text,
}


def create(call: Call, request: Request) -> dict[str, Any]:
    """A new component, or the next build of a version whose content changed."""
    text, path = _source(call, request)
    parsed = parse_component(text, platform=request["platform"])
    if parsed.document is None or errors_of(parsed.problems):
        raise invalid_value(path, folded_message(parsed.problems))
    parameters = parameter_details(parsed.document)
    limits = call.settings.quotas
    if len(parameters) > limits.parameters_per_component:
        raise quota_exceeded("parameters per component", limits.parameters_per_component)
    version = exact_version(request["semanticVersion"])
    slug = slug_of(request["name"])
    content = {
        **picked(request, ("description", "platform", "supportedOsVersions", "kmsKeyId")),
        "data": text,
        "type": component_type(parsed.document),
    }
    earlier = [
        record
        for record in queries.versions(call.tx, call.account, call.region, KIND, slug)
        if record.version == version
    ]
    if earlier:
        _check_successor(earlier[0], content)
    if queries.count(call.tx, call.own(KIND)) >= limits.components:
        raise quota_exceeded("components", limits.components)
    call.end_of_checks()
    # two spellings of one number are one version: the first spelling stays
    spelling = earlier[0].parsed.version if earlier else request["semanticVersion"]
    build = queries.next_number(call.tx, f"{call.account}/{call.region}/{KIND}/{slug}/{version}")
    arn = call.arn(KIND, slug, version=spelling, build=build)
    document = {
        "arn": str(arn),
        "name": request["name"],
        "version": spelling,
        **content,
        **picked(request, ("changeDescription",)),
        "state": {"status": "ACTIVE"},
        "parameters": parameters,
        "owner": call.account,
        "encrypted": True,
        "dateCreated": call.stamp,
    }
    queries.insert(
        call.tx,
        Record(
            arn=str(arn), account=call.account, region=call.region, kind=KIND, slug=slug, name=request["name"],
            created=call.now, document=document, tags=request.get("tags", {}), version=version, build=build,
            status="ACTIVE",
        ),
    )  # fmt: skip
    return {"componentBuildVersionArn": str(arn), "latestVersionReferences": arn.latest_references()}


def _source(call: Call, request: Request) -> tuple[str, str]:
    """The document and the member that it came in by."""
    if ("data" in request) == ("uri" in request):
        raise invalid_combination("data", "You must specify exactly one of data and uri.")
    if "data" in request:
        return request["data"], "data"
    text = call.fetched or ""
    limit = call.settings.quotas.document_bytes
    if len(text.encode()) > limit:
        raise invalid_value("uri", f"The document is larger than {limit} bytes.")
    return text, "uri"


def _check_successor(latest: Record, content: Mapping[str, Any]) -> None:
    for name in ("platform", "type"):
        if latest.document.get(name) != content.get(name):
            raise invalid_value(
                name if name == "platform" else "data",
                f"The existing version {latest.arn} has the {name} {latest.document.get(name)}; "
                "builds of one version cannot differ in it.",
            )
    if all(latest.document.get(name) == content.get(name) for name in _IDENTITY):
        raise already_exists(KIND, latest.arn)


def get(call: Call, request: Request) -> dict[str, Any]:
    record = resolve(call, request["componentBuildVersionArn"], path="componentBuildVersionArn", kind=KIND)
    return {"component": record.shown, "latestVersionReferences": record.parsed.latest_references()}


def delete(call: Call, request: Request) -> dict[str, Any]:
    """Delete one build unless a recipe needs it; wildcards do not protect (spec/api.md 4.5)."""
    text = request["componentBuildVersionArn"]
    refuse_wildcard(text, path="componentBuildVersionArn")
    record = find(call, text, path="componentBuildVersionArn", kind=KIND)
    if queries.is_needed(call.tx, record.arn) or (
        _is_last_build(call, record) and queries.is_needed(call.tx, str(record.parsed.without_build))
    ):
        raise in_dependency(record.arn)
    queries.delete(call.tx, record.arn)
    return {"componentBuildVersionArn": record.arn}


def _is_last_build(call: Call, record: Record) -> bool:
    others = queries.versions(call.tx, call.account, call.region, KIND, record.slug)
    return sum(1 for other in others if other.version == record.version) == 1


def list_versions(call: Call, request: Request) -> dict[str, Any]:
    """One entry per semantic version, or per name."""
    by_name = bool(request.get("byName"))
    filters = request.get("filters", ())
    if by_name and any(entry.get("name") == "version" for entry in filters):
        raise invalid_combination("filters", "byName cannot be combined with a filter on version.")
    owner = request.get("owner", "Self")

    def show(record: Record) -> dict[str, Any]:
        arn = record.parsed.with_version("x.x.x") if by_name else record.parsed.without_build
        names = (
            "name",
            "version",
            "description",
            "platform",
            "supportedOsVersions",
            "type",
            "owner",
            "dateCreated",
        )
        return {"arn": str(arn), **picked(record.document, names), "status": record.status}

    key = "componentVersionList"
    table = dict(_FILTERS)
    if owner == "Amazon":
        records = call.managed.records(KIND, call.caller.partition, call.region)
        return list_given(call, records, key=key, filters=table, show=show)
    if owner != "Self":
        return empty_page(key)
    selection = call.own(KIND, newest_build_only=not by_name, newest_version_only=by_name)
    return list_stored(
        call, selection, key=key, filters=table, show=show, keep=None if _asks_status(filters) else _not_deprecated
    )


def _asks_status(filters: Any) -> bool:
    return any(entry.get("name") == "status" for entry in filters)


def _not_deprecated(record: Record) -> bool:
    return record.status != "DEPRECATED"


def list_builds(call: Call, request: Request) -> dict[str, Any]:
    key = "componentSummaryList"
    text = request.get("componentVersionArn")
    selection = call.own(KIND)
    if text is not None:
        arn = parse_arn(call, text, path="componentVersionArn", kind=KIND)
        version = exact_version(arn.version or "")
        if arn.owner != call.account:
            found = [record for record in call.managed.versions(arn) if record.version == version]
            return list_given(call, found, key=key, filters={}, show=_summary)
        selection = call.own(KIND, slug=arn.slug, version=version)
    return list_stored(call, selection, key=key, filters={}, show=_summary, keep=_not_deprecated)


def _summary(record: Record) -> dict[str, Any]:
    names = (
        "arn", "name", "version", "platform", "supportedOsVersions", "state", "type", "owner", "description",
        "changeDescription", "dateCreated",
    )  # fmt: skip
    return {**picked(record.document, names), "tags": dict(record.tags), "obfuscate": False}
