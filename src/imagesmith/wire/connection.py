"""One HTTP connection: uvicorn's, with bounds that it does not set and a shorter way for short requests.

A request's head (all that is not its body) has a largest size and a longest time to arrive.

    head complete, may be whole --body complete in the same piece--> taken by the application: no task, no messages
         |                \\--more is to come, or not taken--> a task with ASGI's messages
         \\--not whole, or another request is under way --> a task with ASGI's messages

A task, its scope, its messages and their checks cost more than reading a row. What is taken stands in uvicorn's
books as the request that is under way, so that the next one on the connection waits for it and a stop lets it end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from imagesmith.wire.messages import Request, Response, decoded, decoded_headers, encoded_headers

HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 30.0


@runtime_checkable
class Taking(Protocol):
    """An application that may take requests that came whole."""

    def take(self, request: Request, told: Callable[[Response], None]) -> bool:
        """Answer a request, at once or later; False: it is to come the usual way."""
        ...


class _JoinedWrites:
    """A transport that sends what was written in one turn of the event loop together.

    uvicorn writes the head and the body of a response one after the other; sent apart, each would be a system call
    here and a wake-up of the client there.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def write_whole(self, data: bytes) -> None:
        """Write what nothing more belongs to."""
        if self._waiting:
            self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        data, self._waiting = b"".join(self._waiting), []
        if data:
            self._transport.write(data)


class _Taken:
    """A request that was taken, in the little of uvicorn's cycle that a connection looks at."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self, message_event: asyncio.Event) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.message_event = message_event
        self.response_complete = False


class Connection(HttpToolsProtocol):
    """Refuses a head that is too long, and closes a connection whose head does not come to its end.

    Counted is everything that is not body: request line, headers, chunk marks, trailers. One timer for each
    connection looks whether a head is late; a timer for each request would cost more than the request line.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._overhead = 0
        self._head_due: float | None = None
        """When the head that is under way must be there, on the loop's clock; None: no head is."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._taking = self.app if isinstance(self.app, Taking) else None
        self._held: list[bytes] | None = None
        """The body so far of a request that may be whole; None: no request may be."""
        self._unused_event = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._writes = _JoinedWrites(transport, self.loop)
        super().connection_made(self._writes)  # type: ignore[arg-type]
        self._expect_head()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._look_at_head)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._held is not None:
            self._let_go()
        if self._overhead > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Request head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_due = None
        if self._taking is not None and self._may_be_whole():
            self._held = []
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        if self._held is not None:
            self._held.append(body)
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        if self._held is not None and self._take(b"".join(self._held)):
            self._held = None
            return
        self._let_go()
        if self.cycle is not None:
            super().on_message_complete()

    def _may_be_whole(self) -> bool:
        """Nothing is under way that its answer would have to wait for, and it needs none of uvicorn's care."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.flow.write_paused
            and self.url.startswith(b"/")
            and b"#" not in self.url
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
        )

    def _take(self, body: bytes) -> bool:
        assert self._taking is not None
        path, _, query = self.url.partition(b"?")
        request = Request(
            method=self.parser.get_method().decode("ascii"),
            path=decoded(path),
            query=decoded(query),
            headers=decoded_headers(self.headers),
            body=body,
        )
        taken = _Taken(self._unused_event)
        if not self._taking.take(request, partial(self._respond, taken)):
            return False
        if not taken.response_complete:
            self.cycle = taken  # type: ignore[assignment]
        return True

    def _let_go(self) -> None:
        """Hand what was held to a task."""
        held, self._held = self._held, None
        if held is None or self.transport.is_closing():
            return
        super().on_headers_complete()
        if held:
            super().on_body(b"".join(held))

    def _respond(self, taken: _Taken, response: Response) -> None:
        taken.response_complete = True
        if taken.disconnected or self.transport.is_closing():
            return
        ends = response.close or not taken.keep_alive
        lines = [STATUS_LINE[response.status]]
        for name, value in (*self.server_state.default_headers, *encoded_headers(response, close=ends)):
            lines += (name, b": ", value, b"\r\n")
        self._writes.write_whole(b"".join((*lines, b"\r\n", response.body)))
        if ends:
            self._writes.close()
        self.on_response_complete()

    def _expect_head(self) -> None:
        self._head_due = self.loop.time() + HEAD_SECONDS

    def _look_at_head(self) -> None:
        """Close a connection whose head is late; look again when the one under way, or the next, would be."""
        now = self.loop.time()
        if self._head_due is not None and now >= self._head_due:
            self._give_up()
            return
        self._head_timer = self.loop.call_at(self._head_due or now + HEAD_SECONDS, self._look_at_head)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
