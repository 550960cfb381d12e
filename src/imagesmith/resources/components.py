"""Components: immutable, versioned documents with build numbers (spec/api.md 3.7, 4.5, 4.6, 4.10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.resources import versioned
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import invalid_value, quota_exceeded
from imagesmith.resources.lists import member, version_text
from imagesmith.resources.resolution import resolve
from imagesmith.resources.sources import given_document
from imagesmith.resources.versioned import DocumentKind, create_build, delete_build
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.diagnostics import errors_of
from imagesmith.values.states import ResourceStatus

KIND = "component"
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


def create(call: Call, request: ApiRequest) -> ApiResponse:
    """A new component, or the next build of a version whose content changed."""
    text, path = given_document(call, request)
    return store_document(call, request, text=text, path=path)


def store_document(call: Call, request: ApiRequest, *, text: str, path: str) -> ApiResponse:
    """Check a document and store it; `path` is the member of the request that it comes from. Raises ApiError."""
    from imagesmith.components.grammar import parse_component  # late: cli/startup.py
    from imagesmith.components.model import component_type, parameter_details
    from imagesmith.components.parsed import folded_message

    parsed = parse_component(text, platform=request["platform"])
    if parsed.document is None or errors_of(parsed.problems):
        raise invalid_value(path, folded_message(parsed.problems))
    parameters = parameter_details(parsed.document)
    limit = call.settings.quotas.parameters_per_component
    if len(parameters) > limit:
        raise quota_exceeded("parameters per component", limit)
    content = {
        **select_members(request, ("description", "platform", "supportedOsVersions", "kmsKeyId")),
        "data": text,
        "type": component_type(parsed.document),
    }
    return create_build(
        _COMPONENT, call, request, content=content,
        state={"status": ResourceStatus.ACTIVE}, parameters=parameters, encrypted=True,
    )  # fmt: skip


def _check_successor(latest: Record, content: Mapping[str, Any]) -> None:
    for name in ("platform", "type"):
        if latest.document.get(name) != content.get(name):
            raise invalid_value(
                name if name == "platform" else "data",
                f"The existing version {latest.arn} has the {name} {latest.document.get(name)}; "
                "builds of one version cannot differ in it.",
            )


_COMPONENT = DocumentKind(
    KIND,
    quota=lambda call: call.settings.quotas.components,
    identity=("data", "description", "platform", "supportedOsVersions", "kmsKeyId"),
    check_successor=_check_successor,
)


def get(call: Call, request: ApiRequest) -> ApiResponse:
    record = resolve(call, request["componentBuildVersionArn"], path="componentBuildVersionArn", kind=KIND)
    return {"component": record.to_api(), "latestVersionReferences": record.parsed.latest_references()}


def delete(call: Call, request: ApiRequest) -> ApiResponse:
    """Delete one build unless a recipe needs it; wildcards do not protect (spec/api.md 4.5)."""
    return delete_build(_COMPONENT, call, request)


def list_versions(call: Call, request: ApiRequest) -> ApiResponse:
    """One entry per semantic version, or per name; deprecated ones when the filter asks for them."""
    names = (
        "name", "version", "description", "platform", "supportedOsVersions", "type", "owner", "dateCreated",
    )  # fmt: skip
    return versioned.list_versions(
        KIND, call, request, filters=_FILTERS, names=names,
        more=lambda record: {"status": record.status},
        keep=None if _asks_status(request.get("filters", ())) else _not_deprecated,
    )  # fmt: skip


def _asks_status(filters: Any) -> bool:
    return any(entry.get("name") == "status" for entry in filters)


def _not_deprecated(record: Record) -> bool:
    return record.status != ResourceStatus.DEPRECATED


def list_builds(call: Call, request: ApiRequest) -> ApiResponse:
    """Build versions of one exact version, or of all own components; without deprecated ones."""
    return versioned.list_builds(KIND, call, request, show=_summary, keep=_not_deprecated)


def _summary(record: Record) -> ApiDocument:
    names = (
        "arn", "name", "version", "platform", "supportedOsVersions", "state", "type", "owner", "description",
        "changeDescription", "dateCreated",
    )  # fmt: skip
    return {**select_members(record.document, names), "tags": dict(record.tags), "obfuscate": False}
