"""Commands in a machine, over SSH.

end            the exit status of the program; what it left running may hold its pipes open for ever
timeout        SIGKILL to its process group, by sshd

Imported when the first machine is entered: a server that has none does not wait for an SSH client.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
import socket
import time

import asyncssh

from imagesmith.instances.machine.command import Command, ShellLost
from imagesmith.instances.machine.identity import Identity
from imagesmith.processes import Completed, OnOutput
from imagesmith.streams import Tail

_LOGIN_SECONDS = 90.0
_KEEPALIVE_SECONDS = 30
_KEEPALIVE_COUNT = 6
"""Three minutes without an answer: a guest under emulation can be slow, but then it is gone."""
_QUIET_SECONDS = 0.3
"""Output may still be under way when the exit status arrives; without any for so long, the program has said all."""
_CHUNK = 256 * 1024


class _Channel(asyncssh.SSHClientSession[bytes]):
    """Collects what one program says, until it has ended and is silent."""

    def __init__(self, limit: int, on_output: OnOutput | None) -> None:
        self.tails = {"stdout": Tail(limit), "stderr": Tail(limit)}
        self.status: int | None = None
        self.ended = asyncio.Event()
        self.closed = asyncio.Event()
        self.last = time.monotonic()
        self.failure: BaseException | None = None
        self._on_output = on_output

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self.last = time.monotonic()
        stream = "stderr" if datatype == asyncssh.EXTENDED_DATA_STDERR else "stdout"
        self.tails[stream].add(data)
        if self._on_output is None:
            return
        try:
            self._on_output("stderr" if stream == "stderr" else "stdout", data)
        except BaseException as error:  # raised again where the program was started
            self.failure = error
            self.ended.set()
            self.closed.set()

    def exit_status_received(self, status: int) -> None:
        self.status = status
        self.ended.set()

    def exit_signal_received(self, signal: str, _core_dumped: bool, _msg: str, _lang: str) -> None:
        number = getattr(signals, f"SIG{signal}", None)
        self.status = -int(number) if number is not None else 255
        self.ended.set()

    def eof_received(self) -> bool:
        if self.status is not None:
            self.closed.set()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended.set()
        self.closed.set()


async def connect(sock: socket.socket, identity: Identity) -> asyncssh.SSHClientConnection:
    """Log in as root through a connected socket. Raises OSError, ShellLost among them."""
    try:
        return await asyncssh.connect(
            sock=sock, config=None, username="root", client_keys=[identity.client], agent_path=None,
            known_hosts=([identity.host.convert_to_public()], [], []), server_host_key_algs=["ssh-ed25519"],
            preferred_auth=["publickey"], login_timeout=_LOGIN_SECONDS, keepalive_interval=_KEEPALIVE_SECONDS,
            keepalive_count_max=_KEEPALIVE_COUNT, compression_algs=None,
        )  # fmt: skip
    except asyncssh.Error as error:
        raise ShellLost(f"no login: {error}") from error


async def execute(
    connection: asyncssh.SSHClientConnection,
    command: Command,
    *,
    input: bytes | None,
    timeout: float | None,
    on_output: OnOutput | None,
) -> Completed:
    """Run one program to its end. Raises ShellLost, CommandTooLong; cancelled, it kills the program."""
    started = time.monotonic()
    session = _Channel(command.limit, on_output)
    try:
        channel, _ = await connection.create_session(lambda: session, command.line, encoding=None)
    except (asyncssh.Error, OSError) as error:
        raise ShellLost(f"no channel to the machine: {error}") from error
    timed_out = False
    feeding = asyncio.ensure_future(_feed(channel, input))
    try:
        await asyncio.wait_for(session.ended.wait(), timeout)
        await _silence(session)
    except TimeoutError:
        timed_out = True
        await _kill(channel, session)
    except asyncio.CancelledError:
        await asyncio.shield(_kill(channel, session))
        raise
    finally:
        feeding.cancel()
        channel.abort()
    if session.failure is not None:
        raise session.failure
    if session.status is None and not timed_out:
        raise ShellLost("the connection broke while the program ran")
    return Completed(
        command.argv, -9 if session.status is None else session.status,
        session.tails["stdout"].value(), session.tails["stderr"].value(), time.monotonic() - started,
        timed_out, session.tails["stdout"].dropped + session.tails["stderr"].dropped,
    )  # fmt: skip


async def _feed(channel: asyncssh.SSHClientChannel[bytes], data: bytes | None) -> None:
    """Write the input as the program takes it; one that reads nothing is no failure."""
    with contextlib.suppress(OSError, asyncssh.Error):
        for start in range(0, len(data or b""), _CHUNK):
            channel.write((data or b"")[start : start + _CHUNK])
            while channel.get_write_buffer_size() > _CHUNK:
                await asyncio.sleep(0.005)
        channel.write_eof()


async def _silence(session: _Channel) -> None:
    """Wait for the end of the output, or for the lack of any."""
    session.last = time.monotonic()
    while not session.closed.is_set() and time.monotonic() - session.last < _QUIET_SECONDS:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(session.closed.wait(), _QUIET_SECONDS)


async def _kill(channel: asyncssh.SSHClientChannel[bytes], session: _Channel) -> None:
    with contextlib.suppress(OSError, asyncssh.Error, asyncio.TimeoutError):
        channel.kill()
        await asyncio.wait_for(session.ended.wait(), _QUIET_SECONDS * 10)
