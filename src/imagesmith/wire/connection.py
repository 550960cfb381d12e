"""One HTTP connection: uvicorn's, with limits that uvicorn lacks and a shorter path for short requests.

A request's head (everything but its body) has a largest size and a longest time to arrive. Connections are counted
by peer (peers.py): for one too many, a connection that is idle, or within a head or a body, is closed.

    head complete, may be whole --body complete in the same piece--> inline in the application: no task, no messages
         |                \\--more follows, or not inline--> a task with ASGI's messages
         \\--not whole, or another request is under way --> a task with ASGI's messages

A task, its scope, its messages and their checks cost more than reading a row. uvicorn sees a request
that is answered inline as the one under way, so that the next one on the connection waits for it and a stop lets it
finish.

uvicorn does not publish the class below: it is pinned to the minor version, and every test of this layer uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from imagesmith.wire.asgi import address_of_client
from imagesmith.wire.messages import Request, Response, decoded, decoded_headers, encoded_headers
from imagesmith.wire.peers import PeerSlots, peer_of

HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 30.0


@runtime_checkable
class InlineApplication(Protocol):
    """An application that may answer fully received requests inline."""

    def try_inline(self, request: Request, on_response: Callable[[Response], None], peer: str) -> bool:
        """Answer a request, at once or later; False: it must go the usual way."""
        ...


class _JoinedWrites:
    """A transport that sends everything written in one turn of the event loop together.

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
        """Write a complete response at once."""
        if self._waiting:
            self._flush()
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        data, self._waiting = b"".join(self._waiting), []
        if data and not self._transport.is_closing():
            self._transport.write(data)


class _InlineCycle:
    """A request that is answered inline, with the part of uvicorn's cycle that a connection uses."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self, message_event: asyncio.Event) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.message_event = message_event
        self.response_complete = False


class Connection(HttpToolsProtocol):
    """Refuses a head that is too long, and closes a connection whose head is not completed in time.

    Everything but the body counts: request line, headers, chunk marks, trailers. One timer for each connection
    checks for a late head; a timer for each request would cost more than the request line.
    """

    def __init__(self, *args: Any, slots: PeerSlots, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slots = slots
        self._slot: int | None = None
        self._peer = ""
        self._overhead = 0
        self._head_due: float | None = None
        """When the head under way must be complete, on the loop's clock; None: no head is under way."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._inline = self.app if isinstance(self.app, InlineApplication) else None
        self._buffered: list[bytes] | None = None
        """The body so far of a request that may be complete; None: there is no such request."""
        self._unused_event = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._writes = _JoinedWrites(transport, self.loop)
        super().connection_made(self._writes)  # type: ignore[arg-type]
        self._peer = peer_of(self.client[0]) if self.client else ""
        self._slot = self._slots.enter(self._peer, self._yield_slot)
        if self._slot is None:
            transport.abort()
            return
        self._expect_head()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._check_head)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._slot is not None:
            self._slots.leave(self._peer, self._slot)
        super().connection_lost(exc)

    def _yield_slot(self) -> bool:
        """Close the connection for a new one, unless a fully received request is being answered.

        A client that sent more requests before the answer, which SDKs never do, is not spared.
        """
        if self.cycle is not None and not self.cycle.response_complete and not self.pipeline:
            is_sending = not isinstance(self.cycle, _InlineCycle) and self.cycle.more_body
            if not is_sending:
                return False
        # unread bytes of an answer must not keep the connection open
        self.transport.abort()
        return True

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._buffered is not None:
            self._flush_deferred()
        if self._overhead > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Request head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_due = None
        if self._inline is not None and self._may_be_whole():
            self._buffered = []
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        if self._buffered is not None:
            self._buffered.append(body)
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        if self._buffered is not None and self._try_inline(b"".join(self._buffered)):
            self._buffered = None
            return
        self._flush_deferred()
        if self.cycle is not None:
            super().on_message_complete()

    def _may_be_whole(self) -> bool:
        """Whether no other request is under way, and this one needs no special handling by uvicorn."""
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

    def _try_inline(self, body: bytes) -> bool:
        assert self._inline is not None
        path, _, query = self.url.partition(b"?")
        request = Request(
            method=self.parser.get_method().decode("ascii"),
            path=decoded(path),
            query=decoded(query),
            headers=decoded_headers(self.headers),
            body=body,
            address=address_of_client(self.client),
            secure=self.scheme == "https",
        )
        cycle = _InlineCycle(self._unused_event)
        if not self._inline.try_inline(request, partial(self._respond, cycle), self._peer):
            return False
        if not cycle.response_complete:
            self.cycle = cycle  # type: ignore[assignment]
        return True

    def _flush_deferred(self) -> None:
        """Hand the buffered request to a task."""
        buffered, self._buffered = self._buffered, None
        if buffered is None or self.transport.is_closing():
            return
        super().on_headers_complete()
        if buffered:
            super().on_body(b"".join(buffered))

    def _respond(self, cycle: _InlineCycle, response: Response) -> None:
        cycle.response_complete = True
        if cycle.disconnected or self.transport.is_closing():
            return
        ends = response.close or not cycle.keep_alive
        lines = [STATUS_LINE[response.status]]
        for name, value in (*self.server_state.default_headers, *encoded_headers(response, close=ends)):
            lines += (name, b": ", value, b"\r\n")
        self._writes.write_whole(b"".join((*lines, b"\r\n", response.body)))
        if ends:
            self._writes.close()
        self.on_response_complete()

    def _expect_head(self) -> None:
        self._head_due = self.loop.time() + HEAD_SECONDS

    def _check_head(self) -> None:
        """Close a connection whose head is late; check again when the current head, or the next, would be."""
        now = self.loop.time()
        if self._head_due is not None and now >= self._head_due:
            self._abandon()
            return
        self._head_timer = self.loop.call_at(self._head_due or now + HEAD_SECONDS, self._check_head)

    def _abandon(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
