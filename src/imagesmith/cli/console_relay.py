"""Relays between a terminal and the serial console of a machine."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TextIO

from imagesmith.cli.context import CommandFailed
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.retries import constant, retrying
from imagesmith.unix_sockets import short_address

_ESCAPE = b"\x1d"
"""Ctrl-]."""
_CHUNK = 65536
_START_SECONDS = 30.0
_CONNECT_SECONDS = 0.1
_POLL_SECONDS = 0.5


def relay(machine: MachineInstance) -> None:
    """Carry bytes both ways until the machine is off or Ctrl-] is typed. Raises CommandFailed."""
    terminal = sys.stdin.isatty()
    with _connected(machine) as console, _raw(terminal):
        inputs: list[socket.socket | TextIO] = [console, *([sys.stdin] if terminal else [])]
        while True:
            ready, _, _ = select.select(inputs, [], [], _POLL_SECONDS)
            if console in ready:
                data = console.recv(_CHUNK)
                if not data:
                    return
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
            if sys.stdin in ready:
                typed = os.read(sys.stdin.fileno(), _CHUNK)
                if not typed or _ESCAPE in typed:
                    return
                console.sendall(typed)
            if not machine.emulator.running:
                return


@contextlib.contextmanager
def _connected(machine: MachineInstance) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as console, short_address(machine.folder / "console") as address:
        try:
            retrying(
                lambda: console.connect(address), retry=lambda _: machine.emulator.running,
                seconds=_START_SECONDS, backoff=constant(_CONNECT_SECONDS),
            )  # fmt: skip
        except OSError as error:
            raise CommandFailed(f"the machine did not start: {machine.emulator.exit_message()}") from error
        yield console


@contextlib.contextmanager
def _raw(terminal: bool) -> Iterator[None]:
    """The terminal delivers every key at once."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
