"""Waits for the banner of a guest's SSH server.

QEMU itself accepts a connection, long before the guest can. Packets into a guest without a network are lost, and
sent again after ever longer times: an early connection is answered up to 15 seconds late.

    opened every 2 s   connection 1 ........................ closed after 16 s
                         connection 2 ......................
                           connection 3 ....... answered: this one is used, the others are closed
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from imagesmith.instances.timer import Timer

NOTHING = "nothing answered on its SSH port"
_EVERY_SECONDS = 2.0
_GIVEN_UP_SECONDS = 16.0
"""sshd may take that long to send its banner on a busy host. Eight connections are below MaxStartups."""
_POLL_SECONDS = 0.2


def wait_for_banner(
    connect: Callable[[], socket.socket],
    until: float,
    check: Callable[[], None],
    *,
    timer: Timer,
    every: float = _EVERY_SECONDS,
) -> socket.socket:
    """A connection whose first bytes have arrived, not read yet; `until` is on the clock of `timer`.

    `check` is called between polls, and ends the wait by raising. Raises OSError if no banner arrives:
    TimeoutError, or the error of the last connection.
    """
    waiting: dict[int, tuple[socket.socket, float]] = {}
    failure: OSError = TimeoutError(NOTHING)
    poll, begun = select.poll(), float("-inf")
    try:
        while (now := timer.now()) < until:
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
