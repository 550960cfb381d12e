"""The common part of components and workflows, versioned documents with builds (spec/api.md 3.3, 3.7, 4.5, 4.6),
and of the lists of images, which have the same versions and builds.

A create stores a new resource, or the next build of a version whose content changed; builds never change. The
number of a deleted build is never reused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from imagesmith.policies.sharing import SHAREABLE
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import (
    already_exists,
    in_dependency,
    not_found,
    quota_exceeded,
)
from imagesmith.resources.lists import FilterTable, empty_page, list_given, list_stored
from imagesmith.resources.resolution import exact_version, find, parse_arn, refuse_wildcard
from imagesmith.resources.shared import is_shared, listed
from imagesmith.store import counters, queries
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.arn import slug_of

NO_FILTERS: Final[FilterTable] = MappingProxyType({})


@dataclass(frozen=True)
class DocumentKind:
    """The differences between the two kinds."""

    kind: str
    """ARN type."""
    quota: Callable[[Call], int]
    identity: tuple[str, ...]
    """Members that make two builds of one version identical (spec/api.md 3.7)."""
    check_successor: Callable[[Record, Mapping[str, Any]], None]
    """Compares the newest build of the version with the content of the next; raises ApiError."""


def create_build(
    kind: DocumentKind,
    call: Call,
    request: ApiRequest,
    *,
    content: Mapping[str, Any],
    family: str = "",
    **more: Any,
) -> ApiResponse:
    """Store a build whose document was checked; `more` are members outside its identity."""
    version = exact_version(request["semanticVersion"])
    slug = slug_of(request["name"])
    stored = queries.versions(call.tx, call.account, call.region, kind.kind, slug, family=family)
    earlier = [record for record in stored if record.version == version]
    if earlier:
        kind.check_successor(earlier[0], content)
        if all(earlier[0].document.get(name) == content.get(name) for name in kind.identity):
            raise already_exists(kind.kind, earlier[0].arn)
    limit = kind.quota(call)
    if queries.count(call.tx, call.own(kind.kind)) >= limit:
        raise quota_exceeded(f"{kind.kind}s", limit)
    call.stop_if_dry_run()
    # two spellings of one number are one version: the first spelling stays
    spelling = earlier[0].parsed.version if earlier else request["semanticVersion"]
    path = "/".join(part for part in (kind.kind, family, slug) if part)
    build = counters.next_number(call.tx, f"{call.account}/{call.region}/{path}/{version}")
    arn = call.arn(kind.kind, slug, version=spelling, build=build, family=family or None)
    document = {
        "arn": str(arn), "name": request["name"], "version": spelling, **content,
        **select_members(request, ("changeDescription",)), **more, "owner": call.account, "dateCreated": call.stamp,
    }  # fmt: skip
    queries.insert(
        call.tx,
        Record(
            arn=str(arn), account=call.account, region=call.region, kind=kind.kind, family=family, slug=slug,
            name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
            version=version, build=build, status=more.get("state", {}).get("status", ""),
        ),
    )  # fmt: skip
    return {f"{kind.kind}BuildVersionArn": str(arn), "latestVersionReferences": arn.latest_references()}


def delete_build(kind: DocumentKind, call: Call, request: ApiRequest) -> ApiResponse:
    """Delete a build unless it is shared, or a resource names it, or its version and it is the last build."""
    path = f"{kind.kind}BuildVersionArn"
    refuse_wildcard(request[path], path=path)
    record = find(call, request[path], path=path, kind=kind.kind)
    if record.account != call.account:
        raise not_found(kind.kind, request[path])
    if (
        is_shared(call, record.arn)
        or queries.is_needed(call.tx, record.arn)
        or (_is_last_build(call, record) and queries.is_needed(call.tx, str(record.parsed.without_build)))
    ):
        raise in_dependency(record.arn)
    queries.delete(call.tx, record.arn)
    return {path: record.arn}


def _is_last_build(call: Call, record: Record) -> bool:
    others = queries.versions(
        call.tx, call.account, call.region, record.kind, record.slug, family=record.family
    )  # fmt: skip
    return sum(1 for other in others if other.version == record.version) == 1


def list_versions(
    kind: str,
    call: Call,
    request: ApiRequest,
    *,
    filters: FilterTable,
    names: tuple[str, ...],
    more: Callable[[Record], ApiDocument] = lambda _record: {},
    keep: Callable[[Record], bool] | None = None,
) -> ApiResponse:
    """One entry per semantic version, or per name; `names` are the members that an entry shows."""
    by_name = bool(request.get("byName"))

    def show(record: Record) -> ApiDocument:
        arn = record.parsed.with_version("x.x.x") if by_name else record.parsed.without_build
        return {"arn": str(arn), **select_members(record.document, names), **more(record)}

    key = f"{kind}VersionList"
    owner = request.get("owner", "Self")
    if owner == "Amazon":
        records = call.managed.records(kind, call.caller.partition, call.region)
        return list_given(call, records, key=key, filters=filters, show=show)
    if owner == "Shared" and kind in SHAREABLE:
        shared = [record for record in listed(call, kind) if keep is None or keep(record)]
        return list_given(call, _newest(shared, by_name=by_name), key=key, filters=filters, show=show)
    if owner != "Self":
        return empty_page(key)
    selection = call.own(kind, newest_build_only=not by_name, newest_version_only=by_name)
    return list_stored(call, selection, key=key, filters=filters, show=show, keep=keep)


def _newest(records: Sequence[Record], *, by_name: bool) -> list[Record]:
    """The highest build of each version, or of each name, of each account."""
    found: dict[tuple[object, ...], Record] = {}
    for record in sorted(records, key=lambda record: record.order):
        found[record.account, record.slug, None if by_name else record.version] = record
    return list(found.values())


def list_builds(
    kind: str,
    call: Call,
    request: ApiRequest,
    *,
    show: Callable[[Record], ApiDocument],
    filters: FilterTable = NO_FILTERS,
    keep: Callable[[Record], bool] | None = None,
) -> ApiResponse:
    """Build versions of one exact version, or of all own resources of a kind."""
    key, path = f"{kind}SummaryList", f"{kind}VersionArn"
    text = request.get(path)
    selection = call.own(kind)
    if text is not None:
        arn = parse_arn(call, text, path=path, kind=kind)
        version = exact_version(arn.version or "")
        if arn.owner != call.account:
            found = [record for record in call.managed.versions(arn) if record.version == version]
            return list_given(call, found, key=key, filters=filters, show=show)
        selection = call.own(kind, slug=arn.slug, version=version)
    return list_stored(call, selection, key=key, filters=filters, show=show, keep=keep)
