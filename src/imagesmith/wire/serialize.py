"""The members that an operation answers -> the JSON body, by output shape.

Absent members are left out, never null; timestamps are numbers and every other date is the text that it is
(spec/api.md 2.2). Members that the shape does not have are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from imagesmith.values.json_text import json_bytes
from imagesmith.wire.model import Operation, Shape


def success_body(
    operation: Operation, answer: Mapping[str, Any], *, request_id: str, client_token: str | None
) -> bytes:
    """The JSON text of a successful answer.

    `requestId` and `clientToken` are filled in where the output shape has them and the answer does not: the
    answer to a repeated request keeps the id of the first one.
    """
    echoes = {"requestId": request_id, "clientToken": client_token}
    return json_bytes(_structure(operation.output, {**echoes, **answer}))


def _structure(shape: Shape, value: Mapping[str, Any]) -> dict[str, Any]:
    members = shape.members
    return {
        name: _value(members[name].shape, item)
        for name, item in value.items()
        if item is not None and name in members
    }


def _value(shape: Shape, value: Any) -> Any:
    match shape.type:
        case "structure":
            return _structure(shape, value)
        case "list" if shape.item is not None:
            return [_value(shape.item, item) for item in value if item is not None]
        case "map" if shape.item is not None:
            return {key: _value(shape.item, item) for key, item in value.items() if item is not None}
        case "timestamp":
            return _epoch(value)
        case _:
            return value


def _epoch(moment: datetime) -> int | float:
    """Seconds since the epoch, to the millisecond; a moment without a zone is one in UTC."""
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    seconds = round(zoned.timestamp(), 3)
    return int(seconds) if seconds.is_integer() else seconds
