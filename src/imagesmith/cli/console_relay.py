"""Between a terminal and the serial console of a machine."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import TextIO

from imagesmith.cli.context import CommandFailed
from imagesmith.instances.machine.instance import MachineInstance

_ESCAPE = b"\x1d"
"""Ctrl-]."""
_CHUNK = 65536
_START_SECONDS = 30.0
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
    # through a descriptor: the address of a socket has 107 characters, and a data directory may have more
    folder = os.open(machine.folder, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as console:
            until = time.monotonic() + _START_SECONDS
            while True:
                try:
                    console.connect(f"/proc/self/fd/{folder}/console")
                    break
                except OSError as error:
                    if not machine.emulator.running or time.monotonic() > until:
                        raise CommandFailed(
                            f"the machine did not start: {machine.emulator.last_words()}"
                        ) from error
                    time.sleep(0.1)
            yield console
    finally:
        os.close(folder)


@contextlib.contextmanager
def _raw(terminal: bool) -> Iterator[None]:
    """The terminal hands over every key as it is typed."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
