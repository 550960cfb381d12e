"""What infrastructure and distribution configurations share: create, get, update, delete, list.

Both are named, unversioned and replaced as a whole; `dateUpdated` appears with the first update (spec/api.md 4.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from imagesmith.resources.call import Call
from imagesmith.resources.errors import already_exists, in_dependency, quota_exceeded
from imagesmith.resources.lists import list_stored, member
from imagesmith.resources.references import require
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.arn import slug_of

Members = Mapping[str, Any]


@dataclass(frozen=True)
class ConfigurationKind:
    """What differs between the two."""

    kind: str
    """ARN type."""
    arn_member: str
    """Request and response member that holds the ARN."""
    result_member: str
    list_member: str
    plural: str
    quota: Callable[[Call], int]
    check: Callable[[Call, Members], None]
    """Cross-member rules and references; raises ApiError."""
    document: Callable[[Members], dict[str, Any]]
    """Request -> the settable members of the document, defaults filled in."""
    summary: Callable[[Record], dict[str, Any]]


def create(kind: ConfigurationKind, call: Call, request: Members) -> dict[str, Any]:
    kind.check(call, request)
    arn = str(call.arn(kind.kind, slug_of(request["name"])))
    if queries.get(call.tx, arn) is not None:
        raise already_exists(kind.kind, arn)
    limit = kind.quota(call)
    if queries.count(call.tx, call.own(kind.kind)) >= limit:
        raise quota_exceeded(kind.plural, limit)
    call.end_of_checks()
    document = {"arn": arn, "name": request["name"], "dateCreated": call.stamp, **kind.document(request)}
    queries.insert(
        call.tx,
        Record(
            arn=arn, account=call.account, region=call.region, kind=kind.kind, slug=slug_of(request["name"]),
            name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
        ),
    )  # fmt: skip
    return {kind.arn_member: arn}


def get(kind: ConfigurationKind, call: Call, request: Members) -> dict[str, Any]:
    record = require(call, request[kind.arn_member], kind.kind, path=kind.arn_member)
    return {kind.result_member: record.shown}


def update(kind: ConfigurationKind, call: Call, request: Members) -> dict[str, Any]:
    """Full replace of everything but name, ARN, date of creation and tags (spec/api.md 4.2)."""
    kind.check(call, request)
    record = require(call, request[kind.arn_member], kind.kind, path=kind.arn_member)
    kept = {name: record.document[name] for name in ("arn", "name", "dateCreated")}
    document = {**kept, "dateUpdated": call.stamp, **kind.document(request)}
    queries.replace(call.tx, replace(record, document=document))
    return {kind.arn_member: record.arn}


def delete(kind: ConfigurationKind, call: Call, request: Members) -> dict[str, Any]:
    record = require(call, request[kind.arn_member], kind.kind, path=kind.arn_member)
    if queries.is_needed(call.tx, record.arn):
        raise in_dependency(record.arn)
    queries.delete(call.tx, record.arn)
    return {kind.arn_member: record.arn}


def list_all(kind: ConfigurationKind, call: Call, _request: Members) -> dict[str, Any]:
    return list_stored(
        call, call.own(kind.kind), key=kind.list_member, filters={"name": member("name")}, show=kind.summary
    )


def picked(source: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The members that are there; a member that was not sent stays absent (spec/api.md 2.2)."""
    return {name: source[name] for name in names if name in source}
