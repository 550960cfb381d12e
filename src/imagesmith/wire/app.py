"""The ASGI application: reads a request within bounds, lets a worker thread answer it, sends the answer.

Everything that can wait on a database runs in threads. Reads of a row of SQLite are done before a thread would have
begun: they are answered in the event loop, and so are changes of a few rows but for their COMMIT (lane.py). A
request that came whole in one piece may be taken without a task of its own (`take`). A body over the limit is
thrown away while it arrives, so that a client which sends before it reads gets its answer; past a second limit the
connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from imagesmith.resources.dispatch import Dispatcher
from imagesmith.resources.errors import ApiError, unavailable
from imagesmith.settings import Settings
from imagesmith.values.json_text import json_bytes
from imagesmith.wire.keys import KeyRing
from imagesmith.wire.lane import WriteLane
from imagesmith.wire.log_streams import PREFIX, LogStreams, StreamLimits
from imagesmith.wire.messages import Request, Response, decoded, decoded_headers, encoded_headers
from imagesmith.wire.model import Api
from imagesmith.wire.rates import RateLimits
from imagesmith.wire.service import Pace, Service
from imagesmith.wire.signature import Authenticator, Trusting, Verifier

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """Bounds of the front door: bytes, seconds and counts."""

    body_bytes: int = 1024 * 1024
    drain_bytes: int = 32 * 1024 * 1024
    """Of an oversized body, how much is read and thrown away before the connection is closed instead."""
    body_seconds: float = 30.0
    """Time that a body has to arrive."""
    threads: int = 16
    requests: int = 512
    """Requests that are read, wait or run at one time; the next one is told to come back."""
    streams: StreamLimits = StreamLimits()  # noqa: RUF009 (frozen)


class App:
    """An ASGI 3 application. Call close() after the last request.

    serving --drain()--> draining: new requests answer 503, running ones go on --> idle: the server may end
    """

    def __init__(self, service: Service, limits: Limits, logs: Path) -> None:
        """`logs`: the folder of all logs."""
        self._service = service
        self._streams = LogStreams(service, logs, limits.streams)
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="request")
        self._lane = WriteLane(service.together, self._fault)
        self._running = 0
        self._draining = False

    def drain(self) -> bool:
        """Refuse new requests from now on; gives whether none is running any more. Called in the event loop."""
        self._draining = True
        return self._running == 0

    def take(self, request: Request, told: Callable[[Response], None]) -> bool:
        """Answer a whole request that takes no time of its own; called in the event loop.

        False: nothing was done, the request is to come as any other. `told` may be called before this returns.
        """
        pace = self._service.pace(request)
        if pace is Pace.LONG or self._draining or self._running >= self._limits.requests:
            return False
        if len(request.body) > self._limits.body_bytes:
            return False
        if pace is Pace.AT_ONCE:
            told(self._service.answer(request))
            return True
        self._running += 1
        self._lane.submit(request, partial(self._told, request, told))
        return True

    def _told(self, request: Request, told: Callable[[Response], None], response: Response | None) -> None:
        if response is None:
            self._in_pool(request).add_done_callback(
                lambda done: self._told(request, told, self._fault() if done.exception() else done.result())
            )
            return
        self._running -= 1
        told(response)

    def close(self) -> None:
        """Wait for the running requests and end their threads."""
        self._streams.close()
        self._lane.close()
        self._pool.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this application answers HTTP only, not {scope['type']}")
        if scope["method"] == "GET" and _raw_path(scope) == "/healthz":
            await _send(send, self._health())
            return
        if self._draining:
            refusal = unavailable("The server is stopping. Try again when it is back, or another server.")
            await _send(send, _closing(self._service.refuse(refusal)))
            return
        if scope["method"] == "GET" and _raw_path(scope).startswith(PREFIX):
            await self._stream(scope, receive, send)
            return
        if self._running >= self._limits.requests:
            refusal = unavailable("The server is busy. Try again later.")
            await _send(send, self._service.refuse(refusal))
            return
        self._running += 1
        try:
            response = await self._answer(scope, receive)
        finally:
            self._running -= 1
        if response is not None:
            await _send(send, response)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a log for as long as it grows; streams end by themselves when the server drains."""
        if _has_body(scope["headers"]):
            refusal = ApiError("SerializationException", "A request for a log has no body.")
            await _send(send, _closing(self._service.refuse(refusal)))
            return
        self._running += 1
        try:
            request = _request(scope)
            refused = await self._streams.answer(request, receive, send, stopping=lambda: self._draining)
        finally:
            self._running -= 1
        if refused is not None:
            await _send(send, refused)

    def _health(self) -> Response:
        """For load balancers: 503 as soon as new requests are refused."""
        status, word = (503, "draining") if self._draining else (200, "ok")
        return Response(status, json_bytes({"status": word}), "", close=self._draining)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer, or None when the client went away."""
        body: bytes | None = b""
        drained = True
        try:
            if _has_body(scope["headers"]):
                async with asyncio.timeout(self._limits.body_seconds):
                    body, drained = await self._read(scope, receive)
        except TimeoutError:
            message = f"The request body did not arrive within {self._limits.body_seconds:g} seconds."
            response = self._service.refuse(ApiError("SerializationException", message))
            return _closing(response)
        except ConnectionResetError:
            return None
        request = _request(scope, body or b"", oversized=body is None)
        response = await self._carry_out(request)
        return response if drained else _closing(response)

    async def _carry_out(self, request: Request) -> Response:
        pace = self._service.pace(request)
        if pace is Pace.AT_ONCE:
            return self._service.answer(request)
        if pace is Pace.TOGETHER:
            answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
            self._lane.submit(request, partial(_settle, answered))
            response = await answered
            if response is not None:
                return response
        return await self._in_pool(request)

    def _in_pool(self, request: Request) -> asyncio.Future[Response]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._service.answer, request)

    def _fault(self) -> Response:
        return self._service.refuse(ApiError("ServiceException", "The service could not complete the request."))

    async def _read(self, scope: Scope, receive: Receive) -> tuple[bytes | None, bool]:
        """The body, or None if it is over the limit, and whether all of it was taken off the connection.

        Raises ConnectionResetError.
        """
        limits = self._limits
        declared = _declared_length(scope["headers"])
        if declared > limits.drain_bytes or (declared > limits.body_bytes and _waits(scope["headers"])):
            return None, False
        chunks: list[bytes] = []
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            chunk: bytes = message.get("body", b"")
            length += len(chunk)
            if length <= limits.body_bytes:
                chunks.append(chunk)
            else:
                chunks.clear()
            more = message.get("more_body", False)
            if not more or length > limits.drain_bytes:
                break
        return (b"".join(chunks) if length <= limits.body_bytes else None), not more


def create_app(
    dispatcher: Dispatcher,
    *,
    keys: KeyRing,
    settings: Settings,
    clock: Callable[[], datetime],
    ids: Callable[[], str],
    limits: Limits | None = None,
) -> App:
    """The application of a server.

    `clock` gives the time with its zone; `ids` gives a new UUID text per call. `keys` is not asked when
    `settings.auth` is `none`.
    """
    bounds = limits or Limits()
    authenticator: Authenticator = Verifier(keys, clock=clock)
    if settings.auth == "none":
        authenticator = Trusting(account=settings.account, region=settings.region, partition=settings.partition)
    service = Service(
        dispatcher,
        authenticator,
        api=Api.load(),
        ids=ids,
        partition=settings.partition,
        body_limit=bounds.body_bytes,
        rates=RateLimits(settings.rate_limits, clock=clock) if settings.rate_limits else None,
    )
    return App(service, bounds, settings.data_dir / "logs")


async def _send(send: Send, response: Response) -> None:
    headers = encoded_headers(response, close=response.close)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _closing(response: Response) -> Response:
    return replace(response, close=True)


def _settle(answered: asyncio.Future[Response | None], response: Response | None) -> None:
    if not answered.done():
        answered.set_result(response)


def _request(scope: Scope, body: bytes = b"", *, oversized: bool = False) -> Request:
    return Request(
        method=scope["method"],
        path=_raw_path(scope),
        query=decoded(scope["query_string"]),
        headers=decoded_headers(scope["headers"]),
        body=body,
        oversized=oversized,
    )


def _raw_path(scope: Scope) -> str:
    return decoded(scope["raw_path"])


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )


def _declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return 0


def _waits(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Does the client hold its body back until it is told to send it?"""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
