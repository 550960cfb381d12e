"""Proxies on loopback before a server: one that holds connections, one that breaks them at a manifest."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


class SocketProxy:
    """Forwards every connection, both ways, until it is closed."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._ends: set[socket.socket] = set()
        self._threads = [self._thread(self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for end in self._ends.copy():
            _hang_up(end)
        for thread in self._threads:
            thread.join(30)

    def _admits(self) -> bool:
        """Called for each connection before it is forwarded; False drops it."""
        return True

    def _passes(self, data: bytes) -> bool:
        """Called for what a client sends; False drops the connection."""
        return True

    def _thread(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        return threading.Thread(target=work, args=arguments, name="socket-proxy", daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._ends.add(client)
            thread = self._thread(self._connect, client)
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            thread.start()

    def _connect(self, client: socket.socket) -> None:
        """Carry both directions of a connection to their ends and close both sockets."""
        host, _, port = self._target.rpartition(":")
        with client, contextlib.suppress(OSError):
            if self._admits():
                with socket.create_connection((host, int(port))) as server:
                    self._ends.add(server)
                    back = self._thread(self._forward, server, client, lambda _: True)
                    back.start()
                    self._forward(client, server, self._passes)
                    back.join()
                    self._ends.discard(server)
            self._ends.discard(client)

    def _forward(self, source: socket.socket, sink: socket.socket, passes: Callable[[bytes], bool]) -> None:
        with contextlib.suppress(OSError):
            while (data := source.recv(65536)) and passes(data):
                sink.sendall(data)
        _hang_up(source)
        _hang_up(sink)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class Gate(SocketProxy):
    """While it is shut it accepts connections and holds them; then it forwards them all."""

    def __init__(self, target: str) -> None:
        self._open = threading.Event()
        self._closing = False
        self.waiting = threading.Event()
        """Somebody connected."""
        super().__init__(target)

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        """Hold new connections again."""
        self.waiting.clear()
        self._open.clear()

    def close(self) -> None:
        self._closing = True
        self._open.set()
        super().close()

    def _admits(self) -> bool:
        self.waiting.set()
        self._open.wait()
        return not self._closing


@contextlib.contextmanager
def gate(target: str) -> Iterator[Gate]:
    opened = Gate(target)
    try:
        yield opened
    finally:
        opened.close()


class ManifestGate(SocketProxy):
    """Calls `hook` when a manifest is about to be stored, with how many came so far.

    Where the hook returns False, the connection of that manifest is dropped.
    """

    def __init__(self, target: str, hook: Callable[[int], bool]) -> None:
        self._hook = hook
        self._seen = 0
        super().__init__(target)

    def _passes(self, data: bytes) -> bool:
        head = data.split(b"\r\n", 1)[0]
        if not (head.startswith(b"PUT ") and b"/manifests/" in head):
            return True
        self._seen += 1
        return self._hook(self._seen)
