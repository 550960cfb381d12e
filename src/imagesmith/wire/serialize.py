"""The members of an operation's answer -> the JSON body, by output shape.

Absent members are left out, never null, and so is an empty description, or any text that the model does not allow
to be empty. Timestamps are numbers and every other date is its text (spec/api.md 2.2). Members that the
shape does not have are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

from imagesmith.values.api import ApiResponse
from imagesmith.values.json_text import json_bytes
from imagesmith.wire.model import Member, Operation, Shape

Writer = Callable[[Any], Any]


def success_body(operation: Operation, answer: ApiResponse, *, request_id: str, client_token: str | None) -> bytes:
    """The JSON text of a successful answer.

    `requestId` and `clientToken` are filled in where the output shape has them and the answer does not: the
    answer to a repeated request keeps the id of the first one.
    """
    echoes = {"requestId": request_id, "clientToken": client_token}
    write = _writer(operation.output)
    assert write is not None  # it is a structure
    return json_bytes(write({**echoes, **answer}))


@lru_cache(maxsize=4096)
def _writer(shape: Shape) -> Writer | None:
    """The function that converts a value of a shape to JSON; None: the value already is JSON."""
    match shape.type:
        case "structure":
            return partial(_structure, {name: _member_writer(member) for name, member in shape.members.items()})
        case "list" if shape.item is not None:
            return partial(_list, _writer(shape.item))
        case "map" if shape.item is not None:
            return partial(_map, _writer(shape.item))
        case "timestamp":
            return _epoch
        case _:
            return None


def _member_writer(member: Member) -> Writer | None:
    if member.shape.type == "string" and (member.shape.minimum or member.name.lower().endswith("description")):
        return _some_text
    return _writer(member.shape)


def _some_text(text: str) -> str | None:
    return text or None


def _structure(writers: Mapping[str, Writer | None], value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        name: written
        for name, item in value.items()
        if item is not None and name in writers
        if (written := item if (write := writers[name]) is None else write(item)) is not None
    }


def _list(write: Writer | None, value: Iterable[Any]) -> list[Any]:
    return [item if write is None else write(item) for item in value if item is not None]


def _map(write: Writer | None, value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: item if write is None else write(item) for key, item in value.items() if item is not None}


def _epoch(moment: datetime) -> int | float:
    """Seconds since the epoch, to the millisecond; a time without a zone is in UTC."""
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    seconds = round(zoned.timestamp(), 3)
    return int(seconds) if seconds.is_integer() else seconds
