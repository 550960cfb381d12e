"""The ASGI application: reads a request within bounds, lets a worker thread answer it, sends the answer.

Everything that can wait for a database runs in threads. Reads of a row of SQLite take less time than a thread needs
to start: they are answered in the event loop, as are changes of a few rows, except for their COMMIT
(write_batcher.py). A request that arrived in one piece may be answered without a task of its own (`take`).

    head -> can it be authentic? -> a slot of the peer to read -> body -> a slot to run -> answer
        \\-> refused at once; the rest of the body is discarded for a while, and holds no slot

A request that is refused, or longer than the limit, is answered before its body is complete. The body is discarded
while it arrives, so that a client which sends before it reads gets its answer; past a second limit, or after some
seconds, the connection is closed. Slots to read and slots to run are separate: a late body blocks no other request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from imagesmith.resources.errors import ApiError, unavailable
from imagesmith.values.json_text import json_bytes
from imagesmith.wire.asgi import (
    Body,
    Receive,
    Scope,
    Send,
    awaits_continue,
    declared_length,
    has_body,
    peer_of_scope,
    raw_path,
    request_of,
)
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.log_streams import PREFIX, LogStreams
from imagesmith.wire.messages import Request, Response, encoded_headers
from imagesmith.wire.peers import PeerSlots
from imagesmith.wire.service import ApiService, ExecutionMode
from imagesmith.wire.write_batcher import WriteBatcher


class App:
    """An ASGI 3 application. Call close() after the last request.

    serving --drain()--> draining: new requests answer 503, running ones continue --> idle: the server may end
    """

    def __init__(self, service: ApiService, limits: HttpLimits, logs: Path) -> None:
        """`logs`: the folder of all logs."""
        self._service = service
        self._streams = LogStreams(service, logs, limits.streams)
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="request")
        self._batcher = WriteBatcher(service.begin_batch, self._fault)
        self._running = 0
        self._running_by_peer: Counter[str] = Counter()
        self._bodies = PeerSlots(limits.bodies, limits.bodies_per_peer)
        self._refused: set[asyncio.Timeout] = set()
        """Timeouts of the tasks that discard bodies of refused requests."""
        self._draining = False

    def drain(self) -> bool:
        """Refuse new requests from now on; returns True when none is running. Called in the event loop."""
        self._draining = True
        for refused in self._refused:
            refused.reschedule(asyncio.get_running_loop().time())
        return self._running == 0 and not self._refused

    def try_inline(self, request: Request, on_response: Callable[[Response], None], peer: str) -> bool:
        """Try to answer a fully received request inline; called in the event loop.

        False: nothing was done, the request must go the usual way. `on_response` may be called before this returns.
        """
        mode = self._service.execution_mode(request)
        if mode is ExecutionMode.THREADED or self._draining or self._is_busy(peer):
            return False
        if len(request.body) > self._limits.body_bytes:
            return False
        if mode is ExecutionMode.INLINE:
            on_response(self._service.answer(request))
            return True
        self._begin(peer)
        self._batcher.submit(request, partial(self._respond, request, on_response, peer))
        return True

    def _respond(
        self, request: Request, on_response: Callable[[Response], None], peer: str, response: Response | None
    ) -> None:
        if response is None:
            self._in_pool(request).add_done_callback(
                lambda done: self._respond(
                    request, on_response, peer, self._fault() if done.exception() else done.result()
                )
            )
            return
        self._end(peer)
        on_response(response)

    def _is_busy(self, peer: str) -> bool:
        limits = self._limits
        return self._running >= limits.requests or self._running_by_peer[peer] >= limits.requests_per_peer

    def _begin(self, peer: str) -> None:
        self._running += 1
        self._running_by_peer[peer] += 1

    def _end(self, peer: str) -> None:
        self._running -= 1
        self._running_by_peer[peer] -= 1
        if not self._running_by_peer[peer]:
            del self._running_by_peer[peer]

    def close(self) -> None:
        """Wait for the running requests and end their threads."""
        self._streams.close()
        self._batcher.close()
        self._pool.shutdown(wait=True)
        self._service.auditor.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this application answers HTTP only, not {scope['type']}")
        if (known := self._known_answer(scope)) is not None:
            await _send(send, known)
            return
        peer = peer_of_scope(scope)
        if scope["method"] == "GET" and raw_path(scope).startswith(PREFIX):
            await self._stream(scope, receive, send, peer)
            return
        body = Body(receive)
        content: bytes | None = b""
        sends_body = has_body(scope["headers"])
        unauthentic = self._refusal_of_head(scope)
        if unauthentic is not None:
            if sends_body:
                await self._answer_unread(unauthentic, scope, body, send)
            else:
                await _send(send, unauthentic)
            return
        if sends_body:
            try:
                content = await self._read(scope, body, peer)
            except ConnectionResetError:
                return
            except ApiError as error:
                await _send(send, _closing(self._service.refuse(error)))
                return
        if self._is_busy(peer) and content is not None:
            await _send(send, self._service.refuse(unavailable("The server is busy. Try again later.")))
            return
        self._begin(peer)
        try:
            response = await self._carry_out(request_of(scope, content or b"", oversized=content is None))
        finally:
            self._end(peer)
        if content is None:
            await self._answer_unread(response, scope, body, send)
        else:
            await _send(send, response)

    def _known_answer(self, scope: Scope) -> Response | None:
        """The answer that does not depend on the request: the server's health, or that it is stopping."""
        if scope["method"] == "GET" and raw_path(scope) == "/healthz":
            return self._health()
        if not self._draining:
            return None
        refusal = unavailable("The server is stopping. Try again when it is back, or another server.")
        return _closing(self._service.refuse(refusal))

    def _refusal_of_head(self, scope: Scope) -> Response | None:
        """The answer to a request that no body could make authentic."""
        try:
            self._service.check_head(request_of(scope))
        except ApiError as error:
            return self._service.refuse(error)
        return None

    async def _answer_unread(self, response: Response, scope: Scope, body: Body, send: Send) -> None:
        """Answer, and discard the rest of the body, for clients that read only after they have sent all.

        The connection stays open if the whole body has arrived, and otherwise ends with the answer.
        """
        most = self._limits.drain_bytes
        waits = awaits_continue(scope["headers"]) or declared_length(scope["headers"]) > most
        if not waits:
            async with self._ended_after(self._limits.refused_at_once_seconds):
                await body.discard(most)
        if body.whole:
            await _send(send, response)
            return
        headers = encoded_headers(response, close=True)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        if not waits:
            async with self._ended_after(self._limits.refused_seconds):
                await body.discard(most)
        await send({"type": "http.response.body", "body": b""})

    @contextlib.asynccontextmanager
    async def _ended_after(self, seconds: float) -> AsyncIterator[None]:
        """Ends its block after so many seconds, or when the server stops; without an exception."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as until:
                self._refused.add(until)
                try:
                    yield
                finally:
                    self._refused.discard(until)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, peer: str) -> None:
        """Send a log for as long as it grows; streams end by themselves when the server drains."""
        if has_body(scope["headers"]):
            refusal = ApiError("SerializationException", "A request for a log must have no body.")
            await self._answer_unread(self._service.refuse(refusal), scope, Body(receive), send)
            return
        self._begin(peer)
        try:
            request = request_of(scope)
            refused = await self._streams.answer(request, receive, send, peer=peer, stopping=lambda: self._draining)
        finally:
            self._end(peer)
        if refused is not None:
            await _send(send, refused)

    def _health(self) -> Response:
        """For load balancers: 503 as soon as new requests are refused."""
        status, word = (503, "draining") if self._draining else (200, "ok")
        return Response(status, json_bytes({"status": word}), "", close=self._draining)

    async def _carry_out(self, request: Request) -> Response:
        mode = self._service.execution_mode(request)
        if mode is ExecutionMode.INLINE:
            return self._service.answer(request)
        if mode is ExecutionMode.BATCHED:
            answered: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
            self._batcher.submit(request, partial(_settle, answered))
            response = await answered
            if response is not None:
                return response
        return await self._in_pool(request)

    def _in_pool(self, request: Request) -> asyncio.Future[Response]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._service.answer, request)

    def _fault(self) -> Response:
        return self._service.refuse(ApiError("ServiceException", "The service could not complete the request."))

    async def _read(self, scope: Scope, body: Body, peer: str) -> bytes | None:
        """The body, or None when it is over the limit: the rest of it is then still unread.

        Raises ConnectionResetError; ApiError when the body was late, or was ended to make room.
        """
        if declared_length(scope["headers"]) > self._limits.body_bytes:
            return None
        message = f"The request body did not arrive within {self._limits.body_seconds:g} seconds."
        refusal = ApiError("SerializationException", message)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._limits.body_seconds) as until:

                    def give_up() -> bool:
                        nonlocal refusal
                        refusal = unavailable("Too many requests are sent slowly. Try again later.")
                        until.reschedule(asyncio.get_running_loop().time())
                        return True

                    slot = self._bodies.enter(peer, give_up)
                    assert slot is not None  # every body that is being read can be ended
                    stack.callback(self._bodies.leave, peer, slot)
                    return await body.read(self._limits.body_bytes)
            except TimeoutError:
                raise refusal from None


async def _send(send: Send, response: Response) -> None:
    headers = encoded_headers(response, close=response.close)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _closing(response: Response) -> Response:
    return replace(response, close=True)


def _settle(answered: asyncio.Future[Response | None], response: Response | None) -> None:
    if not answered.done():
        answered.set_result(response)
