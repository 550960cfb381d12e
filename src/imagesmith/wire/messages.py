"""A request as received, and a response as sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagesmith.values.json_text import json_bytes

MAX_PARAMETERS: Final = 1000
"""Query parameters of one request."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Nothing in it is decoded: signatures cover the text as sent."""

    method: str
    path: str
    """Raw path: percent escapes are kept, because an ARN in it carries `%2F` and `%3A`."""
    query: str
    headers: Mapping[str, Sequence[str]]
    """Lower-case name -> the values in the order they came."""
    body: bytes
    oversized: bool = False
    """The body is longer than the limit and was discarded."""
    address: str = ""
    """The address of the client, or of a proxy in front; empty on a Unix socket."""
    secure: bool = False
    """It came over TLS."""

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


def decoded(data: bytes) -> str:
    """UTF-8, which clients sign, or else one character per byte, which never fails."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decoded_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Headers as received, whose names are already in lower case."""
    headers: dict[str, list[str]] = {}
    for name, value in pairs:
        headers.setdefault(decoded(name), []).append(decoded(value))
    return headers


def encoded_headers(response: Response, *, close: bool) -> list[tuple[bytes, bytes]]:
    """The headers of an answer; `close`: the connection ends with it."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(response.body))]
    if response.request_id:
        headers.append((b"x-amzn-requestid", response.request_id.encode()))
    if response.error:
        headers.append((b"x-amzn-errortype", response.error.encode()))
    if close:
        headers.append((b"connection", b"close"))
    headers += [(name.encode(), value.encode()) for name, value in response.headers]
    return headers


def error_response(status: int, code: str, *, message: str, request_id: str, retry_after: int = 0) -> Response:
    """The wire form of an error (spec/api.md 2.3); `retry_after` in seconds, 0 for none."""
    # SDKs read the second one only, which is in milliseconds
    headers = (
        (("retry-after", str(retry_after)), ("x-amz-retry-after", str(retry_after * 1000))) if retry_after else ()
    )
    return Response(status, json_bytes({"message": message}), request_id, error=code, headers=headers)
