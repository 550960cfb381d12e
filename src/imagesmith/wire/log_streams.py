"""Logs over HTTP as server-sent events, for as long as a build runs; beside the API, and signed like it.

    GET /logs/image?imageBuildVersionArn=ARN     the log of a build; the right to GetImage is needed
    GET /logs/step?stepExecutionId=step-...      the log of one step; ... to GetWorkflowStepExecution

    id: 2107                                     where the next line begins; continue there with Last-Event-ID
    data: 2026-11-23T13:37:00.123Z build | Setting up nginx

    : keep-alive                                 a comment, after some seconds without a line

    event: end                                   the build or step has ended, and everything was sent
    data: {"status":"AVAILABLE"}

    follow --> lines, heartbeats --> end          over; a request from there gets 204, which ends reconnecting
                                 |-> a comment     the server stops, or the stream is hours old: connect again
                                 \\-> nothing       the client has gone

A stream holds no thread and at most one piece of the log. The number of streams is limited: one more gets 503.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from imagesmith.build_logs.logs import LAST_LINE_WAITS, LogReader, is_last, log_path, step_log_path
from imagesmith.resources.errors import ApiError, unavailable
from imagesmith.values.states import FINAL_IMAGE, FINAL_STEP
from imagesmith.wire.asgi import Receive, Send
from imagesmith.wire.messages import Request, Response
from imagesmith.wire.service import ApiService, Ask

PREFIX: Final = "/logs/"
_IMAGE: Final = "/logs/image"
_OPERATIONS: Final = {_IMAGE: "GetImage", "/logs/step": "GetWorkflowStepExecution"}
_EVENT_ID: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_RETRY_MILLISECONDS: Final = 2000
"""When a browser connects again after a stream that did not end."""
_THREADS: Final = 4


@dataclass(frozen=True)
class StreamLimits:
    """Bounds of the streams of a server: how many, and times in seconds."""

    streams: int = 64
    streams_per_peer: int = 48
    longest: float = 6 * 3600.0
    """A stream that is older ends, so that its client must show its key again."""
    poll: float = 0.25
    """Longest time between the writing and the sending of a line."""
    ask: float = 1.0
    """How often the end of a log that does not grow is checked."""
    heartbeat: float = 15.0
    stalled: float = 60.0
    """How long a client may read nothing."""


@dataclass(frozen=True)
class _Found:
    """The build or step of a stream, in its current state."""

    path: Path
    status: str
    over: bool
    closes: bool
    """Whether a line of the log itself marks its end (is_last())."""


class LogStreams:
    """Answers requests below PREFIX. `logs`: the folder of all logs. Call close() after the last stream."""

    def __init__(self, service: ApiService, logs: Path, limits: StreamLimits | None = None) -> None:
        self._service = service
        self._logs = logs
        self._limits = limits or StreamLimits()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="logs")
        self._open: Counter[str] = Counter()
        """Streams by peer."""

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    async def answer(
        self, request: Request, receive: Receive, send: Send, *, peer: str, stopping: Callable[[], bool]
    ) -> Response | None:
        """Send a stream until its end, or return the response that refuses it. `stopping`: the server ends."""
        try:
            self._service.check_head(request)
        except ApiError as error:
            return self._service.refuse(error)
        if self._open.total() >= self._limits.streams or self._open[peer] >= self._limits.streams_per_peer:
            refusal = unavailable(f"{self._open.total()} logs are followed at this time. Try again later.")
            return self._service.refuse(refusal)
        self._open[peer] += 1
        try:
            try:
                ask, found, reader = await self._in_thread(self._begin, request)
            except ApiError as error:
                return self._service.refuse(error)
            if found.over and reader.position and not reader.has_more():
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return None
            work = _Work(
                partial(self._in_thread, reader.read), partial(self._in_thread, self._find_log, request.path, ask)
            )
            await _Stream(reader, work, send, self._limits).run(found, receive, stopping)
            return None
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def _begin(self, request: Request) -> tuple[Ask, _Found, LogReader]:
        """The caller, the log and the start position of a request. Raises ApiError."""
        operation = _OPERATIONS.get(request.path)
        if operation is None:
            known = " and ".join(_OPERATIONS)
            raise ApiError("UnknownOperationException", f"There are logs at {known}, not at {request.path[:256]}.")
        ask = self._service.question(request, operation)
        found = self._find_log(request.path, ask)
        text = request.header("last-event-id").strip()
        if text and not _EVENT_ID.fullmatch(text):
            raise _invalid_event_id(text)
        reader = LogReader(found.path, int(text or 0))
        if not reader.starts_a_line():
            raise _invalid_event_id(text)
        return ask, found, reader

    def _find_log(self, path: str, ask: Ask) -> _Found:
        """Raises ApiError, also when the image was deleted meanwhile."""
        answer = ask()
        if path == _IMAGE:
            image = answer["image"]
            status = image["state"]["status"]
            return _Found(log_path(self._logs, image["arn"]), status, status in FINAL_IMAGE, closes=True)
        log = step_log_path(
            self._logs, answer["imageBuildVersionArn"], answer["workflowExecutionId"], answer["name"]
        )
        return _Found(log, answer["status"], answer["status"] in FINAL_STEP, closes=False)

    async def _in_thread(self, work: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)


@dataclass(frozen=True)
class _Work:
    """The part of a stream's work that runs in threads."""

    read: Callable[[], Awaitable[list[tuple[int, str]]]]
    look: Callable[[], Awaitable[_Found]]


class _Stream:
    """One log on its way to one client."""

    def __init__(self, reader: LogReader, work: _Work, send: Send, limits: StreamLimits) -> None:
        self._reader = reader
        self._work = work
        self._send = send
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        self._written_at = self._clock()
        self._last = False
        """Whether the last line sent ends the log."""

    async def run(self, found: _Found, receive: Receive, stopping: Callable[[], bool]) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await self._write(f"retry: {_RETRY_MILLISECONDS}\n\n")
            await self._follow(found, gone, stopping)
            await self._send({"type": "http.response.body", "body": b""})
        except (TimeoutError, OSError):
            return  # the client takes nothing, or has gone
        finally:
            gone.cancel()

    async def _follow(self, found: _Found, gone: asyncio.Future[None], stopping: Callable[[], bool]) -> None:
        until = self._clock() + self._limits.longest
        asked_at = self._clock()
        patience = LAST_LINE_WAITS if found.closes else 0
        while not gone.done():
            # read after the state: all lines written before the end are included
            await self._send_lines(gone)
            if found.over and (self._last or not patience):
                await self._write(f"event: end\ndata: {json.dumps({'status': found.status})}\n\n")
                return
            if stopping() or self._clock() >= until:
                await self._write(": connect again with Last-Event-ID\n\n")
                return
            if self._clock() - self._written_at >= self._limits.heartbeat:
                await self._write(": keep-alive\n\n")
            await asyncio.wait({gone}, timeout=self._limits.poll)
            if found.over:
                patience -= 1
            elif self._clock() - asked_at >= self._limits.ask:
                asked_at = self._clock()
                try:
                    found = await self._work.look()
                except ApiError as error:
                    # the answer has started, so its status is fixed; the next request gets this error
                    await self._write(f": {error.code}\n\n")
                    return

    async def _send_lines(self, gone: asyncio.Future[None]) -> None:
        """Send all present lines, piece by piece, no faster than the client reads them."""
        while self._reader.has_more() and not gone.done():
            lines = await self._work.read()
            if not lines:
                return
            self._last = is_last(lines[-1][1])
            await self._write("".join(f"id: {offset}\ndata: {line}\n\n" for offset, line in lines))

    async def _write(self, text: str) -> None:
        """Raises TimeoutError when the client reads nothing for too long."""
        self._written_at = self._clock()
        async with asyncio.timeout(self._limits.stalled):
            await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _invalid_event_id(text: str) -> ApiError:
    message = f"Last-Event-ID is '{text[:32]}', expected the id of an event of this log."
    return ApiError("InvalidParameterValueException", message)
