"""The end of a program on a machine, as an SSH server tells it, when processes that it left behind go on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import asyncssh
import pytest

from imagesmith.instances.command import Command
from imagesmith.instances.machine.shell import connect, execute
from imagesmith.instances.machine.ssh_keys import MachineIdentity
from imagesmith.processes import Completed

Serve = Callable[[asyncssh.SSHServerProcess[str]], object]


def tell_status(process: asyncssh.SSHServerProcess[str]) -> None:
    """Send the exit status and leave the streams open, as OpenSSH does while a process still holds them."""
    process.channel._send_request(b"exit-status", (0).to_bytes(4, "big"))


async def chatter(process: asyncssh.SSHServerProcess[str]) -> None:
    tell_status(process)
    while not process.is_closing():
        process.stdout.write("more\n")
        await asyncio.sleep(0.02)


async def late_filter(process: asyncssh.SSHServerProcess[str]) -> None:
    tell_status(process)
    await asyncio.sleep(0.6)
    process.stdout.write("late hello\n")
    process.close()


async def ran(serve: Serve) -> Completed:
    identity = MachineIdentity.fresh()
    keys = asyncssh.import_authorized_keys(identity.authorized)
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[identity.host], authorized_client_keys=keys, process_factory=serve
    )
    try:
        sock = socket.create_connection(("127.0.0.1", server.get_port()))
        sock.setblocking(False)
        connection = await connect(sock, identity)
        done = await execute(connection, Command(["a-service"]))
        connection.abort()
        return done
    finally:
        server.close()


@pytest.mark.timeout(60)
def test_a_service_that_never_stops_writing_does_not_hold_the_step() -> None:
    """The step ends with its program, and it is known that output is lost."""
    done = asyncio.run(ran(chatter))
    assert (done.returncode, done.timed_out, done.cut) == (0, False, True)
    assert done.stdout.startswith(b"more\n")


def test_output_of_a_filter_that_ends_late_is_there() -> None:
    """As in a container and on this computer."""
    done = asyncio.run(ran(late_filter))
    assert (done.returncode, done.stdout, done.cut) == (0, b"late hello\n", False)
