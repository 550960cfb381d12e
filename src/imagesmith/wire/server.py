"""The listening server: uvicorn on uvloop and httptools, with its own connection class (connection.py).

Ends cleanly on SIGTERM and SIGINT: refuses new requests with 503 while the running ones finish, stops listening,
returns. With a certificate, every connection is TLS; the certificate is read again when its files change, or on
SIGHUP.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol, runtime_checkable

import uvicorn

from imagesmith.wire.connection import Connection
from imagesmith.wire.peers import PeerSlots
from imagesmith.wire.tls import ServerCertificate
from imagesmith.wire.tls_door import TlsDoors

Asgi = Callable[..., Any]


@runtime_checkable
class Draining(Protocol):
    """An application that can refuse new requests while the running ones finish."""

    def drain(self) -> bool:
        """Start or continue to drain; returns True when no request is running."""
        ...


KEEP_ALIVE_SECONDS: Final = 75
_MOST_CONNECTIONS: Final = 4096
_TICKS_PER_SECOND: Final = 10
"""uvicorn's: how often it calls on_tick()."""
GRACE_SECONDS: Final = 30
"""How long running requests may continue after a stop was requested."""


def serve(
    app: Asgi, host: str, port: int, *, on_ready: Callable[[str, int], None], tls: ServerCertificate | None = None
) -> None:
    """Listen until SIGTERM or SIGINT, which must reach the main thread this runs in; then return.

    `on_ready` receives the address and the real port (port 0 picks a free one) once connections are accepted.
    Raises OSError when the address is not available.
    """
    listener = _listen(host, port)
    server = _server(app, on_ready=lambda: on_ready(host, listener.getsockname()[1]), tls=tls)
    if tls is not None:
        signal.signal(signal.SIGHUP, lambda *_: server.ask_for_certificate())
    server.run(sockets=[listener])


@contextlib.contextmanager
def running(app: Asgi, *, host: str = "127.0.0.1", tls: ServerCertificate | None = None) -> Iterator[str]:
    """A server in a thread of its own, for tests and benchmarks; yields its URL and stops the server at the end."""
    listener = _listen(host, 0)
    ready = threading.Event()
    server = _server(app, on_ready=ready.set, tls=tls)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
    thread.start()
    try:
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the server ended before it was ready; its log has the reason")
        yield f"{'https' if tls else 'http'}://{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _server(app: Asgi, *, on_ready: Callable[[], None], tls: ServerCertificate | None = None) -> _DrainingServer:
    slots = _connection_slots()
    doors = TlsDoors(tls, slots) if tls is not None else None
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(_accepted, slots, doors),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return _DrainingServer(config, on_ready, doors)


def _accepted(slots: PeerSlots, doors: TlsDoors | None, **given: Any) -> asyncio.Protocol:
    """The protocol of a new connection."""
    if doors is None:
        return Connection(slots=slots, **given)
    return doors.door(lambda: Connection(slots=slots, **given))


def _connection_slots() -> PeerSlots:
    """The largest number of open connections: what the limit of open files leaves, and half of it for one peer."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, max(16, files // 2))
    return PeerSlots(most, most // 2)


class _DrainingServer(uvicorn.Server):
    """Ends in two steps: it drains while requests run, at most GRACE_SECONDS, and only then stops listening.

    A client that connects meanwhile gets 503 with Retry-After, which a closed port could not send.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], doors: TlsDoors | None) -> None:
        super().__init__(config)
        self._doors = doors
        self._certificate_asked = False
        self._on_ready = on_ready
        self._app = config.app
        self._stop_asked = False
        self._give_up_at = 0.0

    def ask_for_certificate(self) -> None:
        """Read the certificate again soon; called by a signal handler."""
        self._certificate_asked = True

    async def on_tick(self, counter: int) -> bool:
        if self._doors is not None and (self._certificate_asked or counter % _TICKS_PER_SECOND == 0):
            forced, self._certificate_asked = self._certificate_asked, False
            self._doors.certificate.refresh(force=forced)
        if self._stop_asked and not self.should_exit:
            now = asyncio.get_running_loop().time()
            self._give_up_at = self._give_up_at or now + GRACE_SECONDS
            idle = self._app.drain() if isinstance(self._app, Draining) else True
            self.should_exit = idle or now >= self._give_up_at
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._doors is not None:
            self._doors.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the base's signature
        # The base class raises the signal again at the end, which would keep our caller from closing its parts.
        self.force_exit = self._stop_asked and sig == signal.SIGINT
        self.should_exit = self.force_exit
        self._stop_asked = True
