"""The listening server: uvicorn on uvloop and httptools, with bounds that uvicorn does not set.

A request's head (all that is not its body) has a largest size and a longest time to arrive. Ends cleanly on
SIGTERM and SIGINT: refuses new requests with 503 while the running ones finish, stops listening, returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, Protocol, runtime_checkable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Asgi = Callable[..., Any]


@runtime_checkable
class Draining(Protocol):
    """An application that can refuse new requests while the running ones finish."""

    def drain(self) -> bool:
        """Begin to, or go on; gives whether nothing runs any more."""
        ...


HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 30.0
KEEP_ALIVE_SECONDS: Final = 75
GRACE_SECONDS: Final = 30
"""How long running requests may go on after a stop was asked for."""


def serve(app: Asgi, host: str, port: int, *, on_ready: Callable[[str, int], None]) -> None:
    """Listen until SIGTERM or SIGINT, which must reach the main thread this runs in; then return.

    `on_ready` gets the address and the real port (port 0 picks a free one) once connections are accepted.
    Raises OSError when the address cannot be had.
    """
    listener = _listen(host, port)
    _server(app, on_ready=lambda: on_ready(host, listener.getsockname()[1])).run(sockets=[listener])


@contextlib.contextmanager
def running(app: Asgi, *, host: str = "127.0.0.1") -> Iterator[str]:
    """A server in a thread of its own, for tests and benchmarks; gives its URL and stops it at the end."""
    listener = _listen(host, 0)
    ready = threading.Event()
    server = _server(app, on_ready=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the server ended before it was ready; its log says why")
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _server(app: Asgi, *, on_ready: Callable[[], None]) -> _Server:
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return _Server(config, on_ready)


class _Server(uvicorn.Server):
    """Ends in two steps: it drains while requests run, at most GRACE_SECONDS, and only then stops listening.

    A client that connects meanwhile is told 503 and when to come back, which a closed port cannot say.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._app = config.app
        self._stop_asked = False
        self._give_up_at = 0.0

    async def on_tick(self, counter: int) -> bool:
        if self._stop_asked and not self.should_exit:
            now = asyncio.get_running_loop().time()
            self._give_up_at = self._give_up_at or now + GRACE_SECONDS
            idle = self._app.drain() if isinstance(self._app, Draining) else True
            self.should_exit = idle or now >= self._give_up_at
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the base's signature
        # The base class raises the signal again at the end, which would keep our caller from closing its parts.
        self.force_exit = self._stop_asked and sig == signal.SIGINT
        self.should_exit = self.force_exit
        self._stop_asked = True


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

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        data, self._waiting = b"".join(self._waiting), []
        if data:
            self._transport.write(data)


class _BoundedProtocol(HttpToolsProtocol):
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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        self._expect_head()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._look_at_head)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Request head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_due = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        super().on_message_complete()

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
