"""The end of a program on a machine, as an SSH server tells it, when processes that it left behind go on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncssh
import pytest

from imagesmith.instances.command import Command
from imagesmith.instances.machine.shell import LeftChannels, connect, execute
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


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[asyncssh.SSHClientConnection]:
    identity = MachineIdentity.fresh()
    keys = asyncssh.import_authorized_keys(identity.authorized)
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[identity.host], authorized_client_keys=keys, process_factory=serve
    )
    try:
        sock = socket.create_connection(("127.0.0.1", server.get_port()))
        sock.setblocking(False)
        connection = await connect(sock, identity)
        yield connection
        connection.close()
        await connection.wait_closed()
    finally:
        server.close()
        await server.wait_closed()


async def ran(serve: Serve) -> Completed:
    async with connected(serve) as connection:
        return await execute(connection, Command(["a-service"]), left=LeftChannels())


@pytest.mark.timeout(60)
def test_a_service_that_never_stops_writing_does_not_hold_the_step() -> None:
    """The step ends with its program, and it is known that output is lost."""
    done = asyncio.run(ran(chatter))
    assert (done.returncode, done.timed_out, done.cut) == (0, False, True)
    assert done.stdout.startswith(b"more\n")


@pytest.mark.timeout(60)
def test_services_that_steps_left_behind_can_go_on_writing() -> None:
    """Their channels stay open, except those of the oldest when there are so many that no step could start."""
    services: list[asyncssh.SSHServerProcess[str]] = []

    async def serve(process: asyncssh.SSHServerProcess[str]) -> None:
        services.append(process)
        tell_status(process)
        process.stdout.write("begun\n")
        await process.stdin.read()

    async def closed() -> list[bool]:
        left = LeftChannels()
        async with connected(serve) as connection:
            for _ in range(8):
                done = await execute(connection, Command(["a-service"]), left=left)
                assert (done.stdout, done.cut) == (b"begun\n", True)
            for service in services[2:]:
                service.stdout.write("more\n")
                await service.stdout.drain()
            while not services[1].is_closing():
                await asyncio.sleep(0.01)
            return [service.is_closing() for service in services]

    assert asyncio.run(closed()) == [True, True, *[False] * 6]


def test_output_of_a_filter_that_ends_late_is_there() -> None:
    """As in a container and on this computer."""
    done = asyncio.run(ran(late_filter))
    assert (done.returncode, done.stdout, done.cut) == (0, b"late hello\n", False)
