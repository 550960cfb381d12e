"""Runs commands in a machine, over SSH.

end            the exit status of the program; processes that it left behind may hold its pipes open for ever
timeout        SIGKILL to its process group, by sshd

Imported when the first machine is entered: a server without machines does not load an SSH client.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
import socket
from collections.abc import Callable, Sequence

import asyncssh

from imagesmith.instances.command import Command
from imagesmith.instances.machine.shell_line import LoginRefused, ShellLost, shell_line
from imagesmith.instances.machine.ssh_keys import MachineIdentity
from imagesmith.processes import Completed, OnOutput
from imagesmith.streams import LATE_SECONDS, QUIET_SECONDS, Tail

_LOGIN_SECONDS = 90.0
_KEEPALIVE_SECONDS = 30
_KEEPALIVE_COUNT = 6
"""Three minutes without an answer: a slow guest under emulation answers sooner, so the connection is lost."""
_KILL_SECONDS = 3.0
_MOST_LEFT = 6
"""Most channels that stay open for processes that programs left behind: OpenSSH allows ten sessions at a time."""
_CHUNK = 256 * 1024


class _Channel(asyncssh.SSHClientSession[bytes]):
    """Collects the output of one program, until it has ended and is silent."""

    def __init__(self, limit: int, on_output: OnOutput | None, now: Callable[[], float]) -> None:
        self.tails = {"stdout": Tail(limit), "stderr": Tail(limit)}
        self.status: int | None = None
        self.ended = asyncio.Event()
        self.closed = asyncio.Event()
        self._now = now
        self.last = now()
        self.failure: BaseException | None = None
        self.is_discarded = False
        """Output is read and discarded: a process that can no longer write would be killed."""
        self._on_output = on_output

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if self.is_discarded:
            return
        self.last = self._now()
        stream = "stderr" if datatype == asyncssh.EXTENDED_DATA_STDERR else "stdout"
        self.tails[stream].add(data)
        if self._on_output is None:
            return
        try:
            self._on_output("stderr" if stream == "stderr" else "stdout", data)
        except BaseException as error:  # raised again in execute()
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


class LeftChannels:
    """The open channels of programs that have ended and left processes behind, on one connection."""

    def __init__(self) -> None:
        self._open: list[tuple[asyncssh.SSHClientChannel[bytes], _Channel]] = []

    def add(self, channel: asyncssh.SSHClientChannel[bytes], session: _Channel) -> None:
        """Keep a channel open and discard its output; the oldest is closed when there are too many."""
        session.is_discarded = True
        self._open = [(channel, session), *((old, its) for old, its in self._open if not its.closed.is_set())]
        for old, _ in self._open[_MOST_LEFT:]:
            old.abort()
        del self._open[_MOST_LEFT:]


async def connect(
    sock: socket.socket, identity: MachineIdentity, *, any_host_key: bool = False
) -> asyncssh.SSHClientConnection:
    """Log in as root through a connected socket. Raises OSError, ShellLost and LoginRefused among them.

    `any_host_key`: the user data may set the keys of the machine. The socket leads into a namespace in which only
    the machine can answer.
    """
    host = () if any_host_key else ("ssh-ed25519",)
    try:
        return await asyncssh.connect(
            sock=sock, config=None, username="root", client_keys=[identity.client], agent_path=None,
            known_hosts=None if any_host_key else ([identity.host.convert_to_public()], [], []),
            server_host_key_algs=host, preferred_auth=["publickey"], login_timeout=_LOGIN_SECONDS,
            keepalive_interval=_KEEPALIVE_SECONDS,
            keepalive_count_max=_KEEPALIVE_COUNT, compression_algs=None,
        )  # fmt: skip
    except (asyncssh.PermissionDenied, asyncssh.HostKeyNotVerifiable) as error:
        raise LoginRefused(f"no login: {error}") from error
    except asyncssh.Error as error:
        raise ShellLost(f"no login: {error}") from error


async def execute(
    connection: asyncssh.SSHClientConnection,
    command: Command,
    on_output: OnOutput | None = None,
    *,
    prefix: Sequence[str] = (),
    left: LeftChannels | None = None,
) -> Completed:
    """Run one program to its end; see shell_line() for `prefix`.

    Processes that it leaves behind and that keep its streams go on while `left` holds their channel. Raises
    ShellLost, CommandTooLong. If cancelled, it kills the program.
    """
    line = shell_line(command, prefix)
    now = asyncio.get_running_loop().time
    started = now()
    session = _Channel(command.limit, on_output, now)
    try:
        channel, _ = await connection.create_session(lambda: session, line, encoding=None)
    except (asyncssh.Error, OSError) as error:
        raise ShellLost(f"no channel to the machine: {error}") from error
    timed_out = cut = False
    feeding = asyncio.ensure_future(_feed(channel, command.input))
    try:
        await asyncio.wait_for(session.ended.wait(), command.timeout)
        await _silence(session)
        cut = not session.closed.is_set()
    except TimeoutError:
        timed_out = True
        await _kill(channel, session)
    except asyncio.CancelledError:
        await asyncio.shield(_kill(channel, session))
        raise
    finally:
        feeding.cancel()
        if cut and left is not None:
            left.add(channel, session)
        else:
            channel.abort()
    if session.failure is not None:
        raise session.failure
    if session.status is None and not timed_out:
        raise ShellLost("the connection broke while the program ran")
    return Completed(
        argv=tuple(command.argv), returncode=-9 if session.status is None else session.status,
        stdout=session.tails["stdout"].value(), stderr=session.tails["stderr"].value(), seconds=now() - started,
        timed_out=timed_out, dropped=session.tails["stdout"].dropped + session.tails["stderr"].dropped,
        cut=cut,
    )  # fmt: skip


async def _feed(channel: asyncssh.SSHClientChannel[bytes], data: bytes | None) -> None:
    """Write the input as the program reads it; a program that does not read it is not a failure."""
    with contextlib.suppress(OSError, asyncssh.Error):
        for start in range(0, len(data or b""), _CHUNK):
            channel.write((data or b"")[start : start + _CHUNK])
            while channel.get_write_buffer_size() > _CHUNK:
                await asyncio.sleep(0.005)
        channel.write_eof()


async def _silence(session: _Channel) -> None:
    """Wait for the end of the output or for the lack of any; a service that it left behind may write for ever."""
    now = asyncio.get_running_loop().time
    session.last = now()
    until = now() + LATE_SECONDS
    while not session.closed.is_set() and (rest := min(session.last + QUIET_SECONDS, until) - now()) > 0:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(session.closed.wait(), rest)


async def _kill(channel: asyncssh.SSHClientChannel[bytes], session: _Channel) -> None:
    with contextlib.suppress(OSError, asyncssh.Error, asyncio.TimeoutError):
        channel.kill()
        await asyncio.wait_for(session.ended.wait(), _KILL_SECONDS)
