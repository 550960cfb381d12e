"""Workflows: immutable, versioned documents with build numbers (spec/workflows.md 2.6, 10; spec/api.md 3, 4)."""

from __future__ import annotations

from imagesmith.resources import versioned
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import invalid_request, invalid_value
from imagesmith.resources.lists import list_given, list_stored, member, version_text
from imagesmith.resources.resolution import MANAGED_OWNER, parse_arn, reading_pattern, resolve
from imagesmith.resources.sources import given_document
from imagesmith.resources.versioned import DocumentKind, create_build, delete_build
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.workflow_documents.document import parameter_details

KIND = "workflow"
MAX_INLINE_BYTES = 16000
"""The model counts 16,000 characters, the service's guide bytes; both hold (spec/workflows.md 1)."""

_FILTERS = {
    "description": member("description"),
    "name": member("name"),
    "type": member("type"),
    "version": version_text,
}
_SUMMARY = (
    "arn", "name", "version", "description", "changeDescription", "type", "owner", "state", "dateCreated",
)  # fmt: skip
_WORKFLOW = DocumentKind(
    KIND,
    quota=lambda call: call.settings.quotas.workflows,
    identity=("data", "description", "kmsKeyId"),
    check_successor=lambda _latest, _content: None,  # the type is part of the ARN, so it cannot differ
)


def create(call: Call, request: ApiRequest) -> ApiResponse:
    """A new workflow, or the next build of a version whose content changed."""
    from imagesmith.workflow_documents.grammar import parse_workflow, refusal  # late: cli/startup.py

    text, path = given_document(call, request)
    size = len(text.encode())
    if path == "data" and size > MAX_INLINE_BYTES:
        raise invalid_value("data", f"It has {size} bytes; the limit is {MAX_INLINE_BYTES}. Use uri.")
    parsed = parse_workflow(text, request["type"], max_bytes=call.settings.quotas.document_bytes)
    if parsed.document is None:
        assert parsed.first is not None
        raise invalid_request(refusal(parsed.first))
    content = {**select_members(request, ("description", "kmsKeyId")), "data": text, "type": request["type"]}
    return create_build(
        _WORKFLOW, call, request,
        content=content, family=request["type"].lower(), parameters=parameter_details(parsed.document),
    )  # fmt: skip


def get(call: Call, request: ApiRequest) -> ApiResponse:
    path = "workflowBuildVersionArn"
    record = resolve(call, request[path], path=path, kind=KIND)
    references = record.parsed.latest_references()
    if record.account == MANAGED_OWNER:
        # managed workflows are meant as x.x.x only (spec/api.md 3.6)
        references = select_members(references, ("latestVersionArn",))
    return {"workflow": record.to_api(), "latestVersionReferences": references}


def delete(call: Call, request: ApiRequest) -> ApiResponse:
    """Delete one build unless a pipeline names it; wildcards do not protect (spec/api.md 4.5)."""
    return delete_build(_WORKFLOW, call, request)


def list_versions(call: Call, request: ApiRequest) -> ApiResponse:
    """One entry per semantic version, or per name."""
    owner = request.get("owner", "Self")
    if owner in ("Shared", "ThirdParty"):
        raise invalid_value("owner", f"Workflows of owner {owner} cannot be listed.")
    names = ("name", "version", "description", "type", "owner", "dateCreated")
    return versioned.list_versions(KIND, call, request, filters=_FILTERS, names=names)


def list_builds(call: Call, request: ApiRequest) -> ApiResponse:
    """Build versions of every version that an ARN matches, wildcards included, or of all own workflows."""
    key, path = "workflowSummaryList", "workflowVersionArn"
    text = request.get(path)
    if text is None:
        return list_stored(call, call.own(KIND), key=key, filters={}, show=_summary)
    arn = parse_arn(call, text, path=path, kind=KIND)
    wanted = reading_pattern(arn.version or "")
    if arn.owner == MANAGED_OWNER:
        found = [record for record in call.managed.versions(arn) if wanted.matches(record.version)]
        return list_given(call, found, key=key, filters={}, show=_summary)
    return list_stored(
        call, call.own(KIND, slug=arn.slug), key=key, filters={}, show=_summary,
        keep=lambda record: record.family == arn.family and wanted.matches(record.version),
    )  # fmt: skip


def _summary(record: Record) -> ApiDocument:
    return {**select_members(record.document, _SUMMARY), "tags": dict(record.tags)}
