"""Members of a request against every constraint of the model; botocore itself checks few on the client.

One walk in the model's member order checks and cleans: unknown members and nulls go, timestamps become
`datetime`. It stops at the first member that fails. Lengths are checked before patterns, which bounds the time
that any pattern can take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from imagesmith.resources.errors import ApiError, invalid_value
from imagesmith.wire.model import Operation, Shape

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
    """A pattern of the model in Python's words: `$` there never matches before a last line feed."""
    pieces = re.split(r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])", pattern, flags=re.DOTALL)
    return "".join(piece if index % 2 else piece.replace("$", r"\Z") for index, piece in enumerate(pieces))


class Validator:
    """Checks requests; holds the compiled patterns."""

    def __init__(self) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}

    def check(self, operation: Operation, members: Mapping[str, Any]) -> dict[str, Any]:
        """The request without unknown members and nulls, its timestamps as `datetime` in UTC.

        Raises ApiError with the code that the operation uses for a bad member, naming the first one that fails.
        """
        try:
            return self._structure(operation.input, members)
        except _Invalid as error:
            refusal = invalid_value(error.path, f"{error.member} {error.detail}")
            raise ApiError(operation.invalid_code, refusal.message) from None

    def _value(self, shape: Shape, value: Any) -> Any:
        if value is None:
            raise _Invalid("cannot be null.")
        match shape.type:
            case "string":
                return self._string(shape, value)
            case "boolean":
                if value is not True and value is not False:
                    raise _Invalid("must be a boolean.")
                return value
            case "structure":
                return self._structure(shape, value)
            case "list":
                return self._list(shape, value)
            case "map":
                return self._map(shape, value)
            case "timestamp":
                return _timestamp(value)
            case _:
                return _number(shape, value)

    def _structure(self, shape: Shape, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _Invalid("must be an object.")
        cleaned: dict[str, Any] = {}
        for name, member in shape.members.items():
            given = value.get(name)
            if given is None:
                if member.required:
                    raise _Invalid("cannot be null.").under(name)
                continue
            try:
                cleaned[name] = self._value(member.shape, given)
            except _Invalid as error:
                raise error.under(name) from None
        return cleaned

    def _list(self, shape: Shape, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _Invalid("must be a list.")
        _check_length(shape, value)
        assert shape.item is not None
        cleaned = []
        for index, item in enumerate(value):
            try:
                cleaned.append(self._value(shape.item, item))
            except _Invalid as error:
                raise error.at(index) from None
        return cleaned

    def _map(self, shape: Shape, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _Invalid("must be an object.")
        _check_length(shape, value)
        assert shape.key is not None and shape.item is not None
        cleaned = {}
        for key, item in value.items():
            try:
                cleaned[self._string(shape.key, key)] = self._value(shape.item, item)
            except _Invalid as error:
                raise error.under(key[:_SHOWN_KEY]) from None
        return cleaned

    def _string(self, shape: Shape, value: Any) -> str:
        if not isinstance(value, str):
            raise _Invalid("must be a string.")
        _check_length(shape, value)
        if shape.pattern is not None and self._pattern(shape.pattern).search(value) is None:
            raise _Invalid(f"must match pattern {shape.pattern}")
        if shape.choices and value not in shape.choices:
            raise _Invalid(f"must be one of {', '.join(shape.choices)}.")
        if "\0" in value:
            # The model forbids it only where it says [^\x00], but no database can hold it anywhere.
            raise _Invalid("must not contain the character U+0000.")
        return value

    def _pattern(self, pattern: str) -> re.Pattern[str]:
        compiled = self._patterns.get(pattern)
        if compiled is None:
            compiled = self._patterns[pattern] = re.compile(python_pattern(pattern), re.ASCII)
        return compiled


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
    """Seconds since the epoch, as the model's timestamps travel (spec/api.md 2.2)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Invalid("must be a number of seconds since the epoch.")
    try:
        return datetime.fromtimestamp(value, tz=UTC)
    except (ValueError, OverflowError, OSError):
        raise _Invalid("must be a number of seconds since the epoch, within the years 1 to 9999.") from None
