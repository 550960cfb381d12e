"""Waiting for the greeting of a guest's SSH server.

QEMU itself takes a connection, long before the guest can. What it then sends into a guest without a network is
lost, and sent again after ever longer times: a connection that began early is answered up to 15 seconds late.

    begun every 2 s    connection 1 ........................ given up after 16 s
                         connection 2 ......................
                           connection 3 ....... greeted: this one is used, the others are closed
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

NOTHING = "nothing answered on its SSH port"
_EVERY_SECONDS = 2.0
_GIVEN_UP_SECONDS = 16.0
"""sshd may take that long to greet on a busy host. Eight at a time are fewer than it takes (MaxStartups)."""
_POLL_SECONDS = 0.2


def greeted(
    connect: Callable[[], socket.socket], until: float, check: Callable[[], None], *, every: float = _EVERY_SECONDS
) -> socket.socket:
    """A connection whose first bytes have come, not read yet; `until` is on the monotonic clock.

    `check` is called between looks, and ends the wait by raising. Raises OSError when nobody greets: TimeoutError,
    or what became of the last connection.
    """
    waiting: dict[int, tuple[socket.socket, float]] = {}
    failure: OSError = TimeoutError(NOTHING)
    poll, begun = select.poll(), float("-inf")
    try:
        while (now := time.monotonic()) < until:
            check()
            for number, (_, since) in list(waiting.items()):
                if now - since > _GIVEN_UP_SECONDS:
                    _end(waiting, poll, number)
            if now - begun >= every:
                begun = now
                try:
                    sock = connect()
                except OSError as error:
                    failure = error
                else:
                    waiting[sock.fileno()] = sock, now
                    poll.register(sock, select.POLLIN)
            for number, _ in poll.poll(_POLL_SECONDS * 1000):
                try:
                    if waiting[number][0].recv(4, socket.MSG_PEEK):
                        return waiting.pop(number)[0]
                    failure = ConnectionError("its SSH port is closed")
                except OSError as error:
                    failure = error
                _end(waiting, poll, number)
        raise failure
    finally:
        for number in list(waiting):
            _end(waiting, poll, number)


def _end(waiting: dict[int, tuple[socket.socket, float]], poll: select.poll, number: int) -> None:
    sock, _ = waiting.pop(number)
    poll.unregister(number)
    sock.close()
