"""The operations of infrastructure and distribution configurations: create, get, update, delete, list.

Both are named, unversioned and replaced as a whole; `dateUpdated` appears with the first update (spec/api.md 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from imagesmith.resources.call import Call, Handler
from imagesmith.resources.errors import already_exists, in_dependency, quota_exceeded
from imagesmith.resources.lists import list_stored, member
from imagesmith.resources.resolution import require
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.arn import slug_of

V = TypeVar("V")


@dataclass(frozen=True)
class ConfigurationKind:
    """The differences between the two kinds."""

    kind: str
    """ARN type."""
    arn_member: str
    """Request and response member that holds the ARN."""
    result_member: str
    list_member: str
    plural: str
    quota: Callable[[Call], int]
    document: Callable[[ApiRequest], ApiDocument]
    """Request -> the settable members of the document, defaults filled in."""
    summary: Callable[[Record], ApiDocument]
    check: Callable[[Call, ApiRequest], None]
    """What needs more than the request: references and quotas. Raises ApiError."""


def create(kind: ConfigurationKind, call: Call, request: ApiRequest) -> ApiResponse:
    kind.check(call, request)
    arn = str(call.arn(kind.kind, slug_of(request["name"])))
    if queries.get(call.tx, arn) is not None:
        raise already_exists(kind.kind, arn)
    limit = kind.quota(call)
    if queries.count(call.tx, call.own(kind.kind)) >= limit:
        raise quota_exceeded(kind.plural, limit)
    call.stop_if_dry_run()
    document = {"arn": arn, "name": request["name"], "dateCreated": call.stamp, **kind.document(request)}
    queries.insert(
        call.tx,
        Record(
            arn=arn, account=call.account, region=call.region, kind=kind.kind, slug=slug_of(request["name"]),
            name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
        ),
    )  # fmt: skip
    return {kind.arn_member: arn}


def get(kind: ConfigurationKind, call: Call, request: ApiRequest) -> ApiResponse:
    record = require(call, request[kind.arn_member], kind.kind, path=kind.arn_member)
    return {kind.result_member: record.to_api()}


def update(kind: ConfigurationKind, call: Call, request: ApiRequest) -> ApiResponse:
    """Replace everything but name, ARN, date of creation and tags (spec/api.md 4.2)."""
    kind.check(call, request)
    record = require(call, request[kind.arn_member], kind.kind, path=kind.arn_member)
    kept = {name: record.document[name] for name in ("arn", "name", "dateCreated")}
    document = {**kept, "dateUpdated": call.stamp, **kind.document(request)}
    queries.replace(call.tx, replace(record, document=document))
    return {kind.arn_member: record.arn}


def delete(kind: ConfigurationKind, call: Call, request: ApiRequest) -> ApiResponse:
    record = require(call, request[kind.arn_member], kind.kind, path=kind.arn_member)
    if queries.is_needed(call.tx, record.arn):
        raise in_dependency(record.arn)
    queries.delete(call.tx, record.arn)
    return {kind.arn_member: record.arn}


def list_all(kind: ConfigurationKind, call: Call, _request: ApiRequest) -> ApiResponse:
    return list_stored(
        call, call.own(kind.kind), key=kind.list_member, filters={"name": member("name")}, show=kind.summary
    )


@dataclass(frozen=True)
class ConfigurationHandlers:
    """The operations of a kind."""

    create: Handler
    get: Handler
    update: Handler
    delete: Handler
    list_all: Handler


def handlers(kind: ConfigurationKind) -> ConfigurationHandlers:
    return ConfigurationHandlers(*(partial(handle, kind) for handle in (create, get, update, delete, list_all)))


def select_members(source: Mapping[str, V], names: tuple[str, ...]) -> dict[str, V]:
    """The members that were sent; other members stay absent (spec/api.md 2.2)."""
    return {name: source[name] for name in names if name in source}
