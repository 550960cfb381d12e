"""Entering a guest that is not there yet: which of several connections is used, and what is said when none is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from imagesmith.instances.machine.ssh_wait import NOTHING, wait_for_banner
from imagesmith.instances.timer import SYSTEM_TIMER, Timer


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server


def to(door: socket.socket) -> Callable[[], socket.socket]:
    return lambda: socket.create_connection(door.getsockname(), 5)


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def test_a_later_connection_is_used_when_an_earlier_one_is_not_answered(door: socket.socket) -> None:
    """The first that is greeted comes back with the greeting unread; the others are closed."""
    taken: list[socket.socket] = []

    def serve() -> None:
        for _ in range(3):
            taken.append(door.accept()[0])
        taken[2].sendall(b"SSH-2.0-x\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    with closing(wait_for_banner(to(door), soon(30), lambda: None, timer=SYSTEM_TIMER, every=0.05)) as sock:
        assert sock.recv(9) == b"SSH-2.0-x"
        thread.join()
        for other in taken[:2]:
            other.settimeout(10)
            assert other.recv(1) == b""
    for other in taken:
        other.close()


def test_nobody_who_greets_is_a_timeout(door: socket.socket) -> None:
    """Connections that are taken and never answered end with the time limit."""
    with pytest.raises(TimeoutError, match=NOTHING):
        wait_for_banner(to(door), soon(0.5), lambda: None, timer=SYSTEM_TIMER, every=0.1)


def test_what_became_of_the_last_connection_is_told(door: socket.socket) -> None:
    """One that is closed without a greeting, and one that is refused."""
    address = door.getsockname()

    def serve() -> None:
        door.accept()[0].close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ConnectionError, match="its SSH port is closed"):
        wait_for_banner(to(door), soon(0.6), lambda: None, timer=SYSTEM_TIMER, every=30)
    thread.join()
    door.close()
    with pytest.raises(ConnectionRefusedError):
        wait_for_banner(
            lambda: socket.create_connection(address, 5), soon(0.3), lambda: None, timer=SYSTEM_TIMER, every=0.1
        )


def test_what_makes_waiting_useless_ends_it_at_once(door: socket.socket) -> None:
    """An error of the check comes through, and no connection stays open."""
    made: list[socket.socket] = []

    def connect() -> socket.socket:
        made.append(to(door)())
        return made[-1]

    def check() -> None:
        if made:
            raise InterruptedError("the guest panicked")

    with pytest.raises(InterruptedError, match="panicked"):
        wait_for_banner(connect, soon(30), check, timer=SYSTEM_TIMER, every=0.05)
    assert [sock.fileno() for sock in made] == [-1] * len(made)


class Ticks:
    """A clock that is a second later at every reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_connections_are_begun_every_two_seconds_and_given_up_after_sixteen(door: socket.socket) -> None:
    """By the clock that is given; nine wait at most, and the end of the time closes the last ones too."""
    made: list[socket.socket] = []
    open_at_once: list[int] = []

    def connect() -> socket.socket:
        made.append(to(door)())
        open_at_once.append(sum(sock.fileno() >= 0 for sock in made))
        return made[-1]

    with pytest.raises(TimeoutError, match=NOTHING):
        wait_for_banner(connect, 41.0, lambda: None, timer=Timer(now=Ticks()))
    assert len(made) == 20 and max(open_at_once) == 9
    assert [sock.fileno() for sock in made] == [-1] * 20
