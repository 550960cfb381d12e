"""Request -> its members, by their model names and still unchecked.

Unknown members and query parameters are dropped and JSON null means absent (spec/api.md 2.1). An unreadable body is
a SerializationException. An empty body is an empty object: missing required members are then reported by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, unquote

from imagesmith.resources.errors import ApiError
from imagesmith.wire.messages import MAX_PARAMETERS, Request
from imagesmith.wire.model import Member, Operation, Shape

_SHOWN_NAME: Final = 128
"""Characters of a member's name that an error shows."""


def parse_request(
    operation: Operation, label: str, request: Request
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """All values of a request to an operation, and those of them that are members, as JSON values.

    `label` is the path label, still encoded. Raises ApiError(SerializationException).
    """
    document = _read_object(request.body) if "body" in operation.locations else {}
    parameters = _read_query(request.query) if "query" in operation.locations else {}
    members: dict[str, Any] = {}
    for name, member in operation.input.members.items():
        if member.location == "body":
            value = document.get(name)
        elif member.location == "query":
            value = _from_query(member, parameters.get(member.wire_name))
        else:
            value = _read_label(label)
        if value is not None:
            members[name] = value
    return {**parameters, **document}, members


def _read_object(body: bytes) -> Mapping[str, Any]:
    if not body:
        return {}
    try:
        document = _DECODER.decode(body.decode("utf-8"))
        if b"\\u" in body:
            # An escaped half of a surrogate pair is valid JSON but not a text: nothing below could store it.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(f"it is not UTF-8 at byte {error.start}") from None
    except UnicodeEncodeError:
        raise _unreadable("it contains half of a surrogate pair") from None
    except RecursionError:
        raise _unreadable("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _unreadable(f"{error.msg} at character {error.pos}") from None
    except _UncertainJson as error:
        raise _unreadable(str(error)) from None
    except ValueError:
        raise _unreadable("a number in it has too many digits") from None
    if not isinstance(document, dict):
        raise _unreadable("it must be an object")
    return document


class _UncertainJson(ValueError):
    """JSON that Python would read, but whose meaning is not certain."""


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _UncertainJson(f"the member '{name[:_SHOWN_NAME]}' occurs twice in one object")
        seen.add(name)
    raise AssertionError("fewer names than pairs, but none twice")


def _refuse_constant(text: str) -> NoReturn:
    raise _UncertainJson(f"{text} is not a JSON number")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _read_query(query: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise ApiError("SerializationException", "The query string cannot be read: it is not UTF-8.") from None
    except ValueError:
        message = f"The query string cannot be read: it has more than {MAX_PARAMETERS} parameters."
        raise ApiError("SerializationException", message) from None
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _from_query(member: Member, values: list[str] | None) -> Any:
    if values is None:
        return None
    shape = member.shape
    if shape.type == "list" and shape.item is not None:
        return [_from_text(shape.item, value) for value in values]
    if len(values) > 1:
        message = f"The query string cannot be read: the parameter '{member.wire_name}' occurs twice."
        raise ApiError("SerializationException", message)
    return _from_text(shape, values[0])


def _from_text(shape: Shape, text: str) -> Any:
    """A text of the query as the JSON value that it represents; other texts stay as they are and fail later."""
    if shape.type == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if shape.type in ("integer", "long") and text.removeprefix("-").isdecimal() and len(text) < 20:
        return int(text)
    return text


def _read_label(label: str) -> str:
    try:
        return unquote(label, errors="strict")
    except UnicodeDecodeError:
        raise ApiError("SerializationException", "The path cannot be read: it is not UTF-8.") from None


def _unreadable(why: str) -> ApiError:
    return ApiError("SerializationException", f"The request body cannot be read as JSON: {why}.")
