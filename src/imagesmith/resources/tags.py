"""Tags of every kind of resource (spec/api.md 4.7). Declared errors: InvalidParameter, NotFound."""

from __future__ import annotations

from dataclasses import replace

from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError, not_found
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.api import ApiRequest, ApiResponse
from imagesmith.values.arn import Arn, ArnError

_MOST = 50


def _find(call: Call, text: str) -> Record:
    try:
        arn = Arn.parse(text)
    except ArnError as error:
        raise _invalid("resourceArn", f"{error}.") from error
    if arn.has_wildcard:
        raise _invalid("resourceArn", "Wildcards are not accepted here; name one version.")
    record = queries.get(call.tx, text) if (arn.owner, arn.region) == (call.account, call.region) else None
    if record is None:
        raise not_found(arn.kind, text)
    return record


def _invalid(path: str, detail: str) -> ApiError:
    return ApiError(
        "InvalidParameterException", f"The value supplied for parameter '{path}' is not valid. {detail}"
    )


def tag(call: Call, request: ApiRequest) -> ApiResponse:
    record = _find(call, request["resourceArn"])
    merged = {**record.tags, **request["tags"]}
    if len(merged) > _MOST:
        raise _invalid("tags", f"A resource can have at most {_MOST} tags.")
    queries.replace(call.tx, replace(record, tags=merged))
    return {}


def untag(call: Call, request: ApiRequest) -> ApiResponse:
    record = _find(call, request["resourceArn"])
    gone = set(request["tagKeys"])
    queries.replace(
        call.tx, replace(record, tags={key: value for key, value in record.tags.items() if key not in gone})
    )
    return {}


def list_tags(call: Call, request: ApiRequest) -> ApiResponse:
    return {"tags": dict(_find(call, request["resourceArn"]).tags)}
