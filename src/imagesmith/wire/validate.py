"""Members of a request against every constraint of the model; botocore itself checks few on the client.

One walk in the model's member order checks and cleans: unknown members and nulls are dropped, timestamps become
`datetime`. It stops at the first member that fails. Lengths are checked before patterns, which bounds the time
that any pattern can take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from imagesmith.resources.errors import ApiError, invalid_value
from imagesmith.values.api import ApiRequest
from imagesmith.wire.model import Operation, Shape

Check = Callable[[Any], Any]
"""Returns the cleaned value. Raises _Invalid."""

_BITS: Final = {"integer": 31, "long": 63}
_SHOWN_KEY: Final = 128
"""Characters of a map key that an error shows."""


class _Invalid(Exception):
    """A value breaks its shape. The path grows from the value outwards while the exception passes."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        self._names: list[str] = []
        self._indexes = ""
        super().__init__(detail)

    def at(self, index: int) -> _Invalid:
        self._indexes = f"[{index}]{self._indexes}"
        return self

    def under(self, name: str) -> _Invalid:
        self._names.append(name + self._indexes)
        self._indexes = ""
        return self

    @property
    def path(self) -> str:
        """Dotted, with indexes: `distributions[0].region`."""
        return ".".join(reversed(self._names))

    @property
    def member(self) -> str:
        """The last part of the path."""
        return self._names[0]


def python_pattern(pattern: str) -> str:
    """A pattern of the model as Python writes it: `$` of the model never matches before a last line feed."""
    pieces = re.split(r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])", pattern, flags=re.DOTALL)
    return "".join(piece if index % 2 else piece.replace("$", r"\Z") for index, piece in enumerate(pieces))


class Validator:
    """Checks requests; the checks of an operation are built at its first request."""

    def __init__(self) -> None:
        self._checks: dict[Shape, Check] = {}

    def check(self, operation: Operation, members: Mapping[str, Any]) -> ApiRequest:
        """The request without unknown members and nulls, its timestamps as `datetime` in UTC.

        Raises ApiError with the code that the operation uses for a bad member, naming the first one that fails.
        """
        try:
            cleaned: ApiRequest = self._check_of(operation.input)(members)
        except _Invalid as error:
            refusal = invalid_value(error.path, f"{error.member} {error.detail}")
            raise ApiError(operation.invalid_code, refusal.message) from None
        return cleaned

    def _check_of(self, shape: Shape) -> Check:
        """The function that checks and cleans a non-null value of a shape."""
        check = self._checks.get(shape)
        if check is None:
            check = self._checks[shape] = self._make_check(shape)
        return check

    def _make_check(self, shape: Shape) -> Check:
        match shape.type:
            case "string":
                return _string(shape)
            case "boolean":
                return _boolean
            case "structure":
                return _structure(
                    [
                        (member.name, member.required, self._check_of(member.shape))
                        for member in shape.members.values()
                    ]
                )
            case "list":
                assert shape.item is not None
                return _list(shape, self._check_of(shape.item))
            case "map":
                assert shape.key is not None and shape.item is not None
                return _map(shape, self._check_of(shape.key), self._check_of(shape.item))
            case "timestamp":
                return _timestamp
            case _:
                return partial(_number, shape)


def _structure(members: Sequence[tuple[str, bool, Check]]) -> Check:
    def check(value: Any) -> Mapping[str, Any]:
        if not isinstance(value, (dict, Mapping)):
            raise _Invalid("must be an object.")
        cleaned: dict[str, Any] = {}
        for name, required, check_member in members:
            given = value.get(name)
            if given is not None:
                try:
                    cleaned[name] = check_member(given)
                except _Invalid as error:
                    raise error.under(name) from None
            elif required:
                raise _Invalid("cannot be null.").under(name)
        return cleaned

    return check


def _list(shape: Shape, check_item: Check) -> Check:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _Invalid("must be a list.")
        _check_length(shape, value)
        cleaned = []
        for index, item in enumerate(value):
            try:
                cleaned.append(check_item(_present(item)))
            except _Invalid as error:
                raise error.at(index) from None
        return cleaned

    return check


def _map(shape: Shape, check_key: Check, check_item: Check) -> Check:
    def check(value: Any) -> Mapping[str, Any]:
        if not isinstance(value, (dict, Mapping)):
            raise _Invalid("must be an object.")
        _check_length(shape, value)
        cleaned = {}
        for key, item in value.items():
            try:
                cleaned[check_key(key)] = check_item(_present(item))
            except _Invalid as error:
                raise error.under(key[:_SHOWN_KEY]) from None
        return cleaned

    return check


def _string(shape: Shape) -> Check:
    search = re.compile(python_pattern(shape.pattern), re.ASCII).search if shape.pattern is not None else None
    choices = frozenset(shape.choices)

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _Invalid("must be a string.")
        _check_length(shape, value)
        if search is not None and search(value) is None:
            raise _Invalid(f"must match pattern {shape.pattern}")
        if choices and value not in choices:
            raise _Invalid(f"must be one of {', '.join(shape.choices)}.")
        if "\0" in value:
            # The model forbids it only in patterns with [^\x00], but no database can hold it anywhere.
            raise _Invalid("must not contain the character U+0000.")
        return value

    return check


def _boolean(value: Any) -> bool:
    if value is not True and value is not False:
        raise _Invalid("must be a boolean.")
    return value


def _present(value: Any) -> Any:
    if value is None:
        raise _Invalid("cannot be null.")
    return value


def _check_length(shape: Shape, value: str | list[Any] | Mapping[str, Any]) -> None:
    length = len(value)
    if shape.minimum is not None and length < shape.minimum:
        raise _Invalid(f"must have length greater than or equal to {shape.minimum}.")
    if shape.maximum is not None and length > shape.maximum:
        raise _Invalid(f"must have length less than or equal to {shape.maximum}.")


def _number(shape: Shape, value: Any) -> Any:
    """An integer of the shape's width, or a finite float, within the shape's range."""
    if shape.type == "double":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
            raise _Invalid("must be a number.")
    elif isinstance(value, bool) or not isinstance(value, int):
        raise _Invalid("must be an integer.")
    elif value.bit_length() > _BITS[shape.type]:
        raise _Invalid(f"must be an integer of at most {_BITS[shape.type] + 1} bits.")
    if shape.minimum is not None and value < shape.minimum:
        raise _Invalid(f"must have value greater than or equal to {shape.minimum}.")
    if shape.maximum is not None and value > shape.maximum:
        raise _Invalid(f"must have value less than or equal to {shape.maximum}.")
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _timestamp(value: Any) -> datetime:
    """Seconds since the epoch, the wire form of the model's timestamps (spec/api.md 2.2)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Invalid("must be a number of seconds since the epoch.")
    try:
        return datetime.fromtimestamp(value, tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise _Invalid("must be a number of seconds since the epoch, within the years 1 to 9999.") from None
