"""An HTTP server for ADD, on the loopback of a sandbox's network namespace or on an address of this machine."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Reply:
    """What is sent for a path."""

    body: bytes = b""
    status: str = "200 OK"
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """The length that is claimed; None: the true one, -1: none."""


@contextmanager
def serving(
    listener: socket.socket, replies: Mapping[str, Reply], tls: ssl.SSLContext | None = None
) -> Iterator[list[str]]:
    """Answer requests from a table until the end of the block; yields the heads that were received."""
    seen: list[str] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except (TimeoutError, OSError):
                continue
            with connection, suppress(OSError):  # a client may refuse the certificate, or have enough
                connection.settimeout(10)
                if tls is None:
                    _answer(connection, replies, seen)
                    continue
                with tls.wrap_socket(connection, server_side=True) as wrapped:
                    _answer(wrapped, replies, seen)

    listener.settimeout(0.1)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        listener.close()


def _answer(connection: socket.socket, replies: Mapping[str, Reply], seen: list[str]) -> None:
    text = b""
    while b"\r\n\r\n" not in text:
        data = connection.recv(4096)
        if not data:
            return
        text += data
    seen.append(text.decode())
    reply = replies.get(seen[-1].split(" ")[1], Reply(b"no\n", "404 Not Found"))
    head = f"HTTP/1.1 {reply.status}\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    length = len(reply.body) if reply.length is None else reply.length
    if length >= 0:
        head += f"Content-Length: {length}\r\n"
    connection.sendall(head.encode() + b"\r\n" + reply.body)
