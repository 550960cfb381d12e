"""A request of ASGI: what its scope says, and its body as it arrives."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from imagesmith.wire.messages import Request, decoded, decoded_headers
from imagesmith.wire.peers import peer_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Body:
    """A request's body as it arrives on the connection."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.whole = False
        """The whole body has arrived."""

    async def _next(self) -> bytes:
        """Raises ConnectionResetError when the client went away."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        self.whole = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    async def read(self, most: int) -> bytes | None:
        """All of it, or None as soon as it is longer than `most`. Raises ConnectionResetError."""
        chunks: list[bytes] = []
        length = 0
        while not self.whole:
            chunks.append(await self._next())
            length += len(chunks[-1])
            if length > most:
                return None
        return b"".join(chunks)

    async def discard(self, most: int) -> None:
        """Discard the rest of the body, until it ends or is longer than `most`."""
        with contextlib.suppress(ConnectionResetError):
            while most > 0 and not self.whole:
                most -= len(await self._next())


def request_of(scope: Scope, body: bytes = b"", *, oversized: bool = False) -> Request:
    return Request(
        method=scope["method"],
        path=raw_path(scope),
        query=decoded(scope["query_string"]),
        headers=decoded_headers(scope["headers"]),
        body=body,
        oversized=oversized,
        address=address_of_client(scope.get("client")),
        secure=scope.get("scheme") == "https",
    )


def raw_path(scope: Scope) -> str:
    return decoded(scope["raw_path"])


def address_of_client(client: tuple[str, int] | None) -> str:
    """Without the zone of a link-local address; empty if it is not known."""
    return client[0].partition("%")[0] if client else ""


def peer_of_scope(scope: Scope) -> str:
    return peer_of(address_of_client(scope.get("client")))


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )


def declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return 0


def awaits_continue(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the client sends its body only after a 100 Continue."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
