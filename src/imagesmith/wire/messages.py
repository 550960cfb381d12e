"""A request as it came off the connection, and a response as it goes back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_PARAMETERS: Final = 1000
"""Query parameters of one request."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Nothing in it is decoded: signatures cover the text as it was sent."""

    method: str
    path: str
    """Raw path: percent escapes are kept, because an ARN in it carries `%2F` and `%3A`."""
    query: str
    headers: Mapping[str, Sequence[str]]
    """Lower-case name -> the values in the order they came."""
    body: bytes
    oversized: bool = False
    """The body is longer than the limit and was thrown away."""

    def header(self, name: str) -> str:
        """The first value of a header, or an empty text."""
        values = self.headers.get(name)
        return values[0] if values else ""


@dataclass(frozen=True, slots=True)
class Response:
    """One JSON answer."""

    status: int
    body: bytes
    request_id: str
    error: str = ""
    """The code of the error, for the header `x-amzn-ErrorType`."""
    close: bool = False
    """Close the connection after this answer."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers, such as Retry-After; names in lower case."""


def to_json(value: Any) -> bytes:
    """JSON in ASCII, so that no text of a log or a document can fail to encode."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def error_response(status: int, code: str, *, message: str, request_id: str, retry_after: int = 0) -> Response:
    """The wire form of an error (spec/api.md 2.3); `retry_after` in seconds, 0 for none."""
    headers = (("retry-after", str(retry_after)),) if retry_after else ()
    return Response(status, to_json({"message": message}), request_id, error=code, headers=headers)
