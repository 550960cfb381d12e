"""The SSH session with the guest of one machine: opened once commands run, lost when the guest shuts down.

wait() --> connection, boot id --> run, run, ... --> request_shutdown --> disconnect --> wait(other_than=boot id)
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Literal

from imagesmith.instances.command import Command
from imagesmith.instances.machine.hardware import OWN_SSH_PORTS, SSH_PORT
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.power_sequence import PowerSequence
from imagesmith.instances.machine.shell_line import CommandTooLong, LoginRefused, ShellLost
from imagesmith.instances.machine.ssh_keys import MachineIdentity
from imagesmith.instances.machine.ssh_wait import wait_for_banner
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.timer import Timer
from imagesmith.processes import Completed, OnOutput
from imagesmith.retries import Failure, constant, retrying

if TYPE_CHECKING:
    import asyncssh

    from imagesmith.instances.machine.shell import LeftChannels

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root"}

_TOOL_SECONDS = 120.0
LOGIN_SECONDS = 120.0
_RETRY_SECONDS = 1.0
_SETTLE_SECONDS = 1.0
_REFUSED_SECONDS = 180.0
"""How long a machine may refuse the login: cloud-init may run after the SSH server."""
_REFUSED_AT_LAST_SECONDS = 15.0
"""How long it may do so once cloud-init has finished: then nothing lets us in any more."""
_CLOSED_SECONDS = 120.0
_QUIET_SECONDS = 60.0
"""How long SSH may not answer after cloud-init has finished, and how long the console is silent by then."""
_BOOT_ID = Command(["cat", "/proc/sys/kernel/random/boot_id"], limit=100).within(ENVIRONMENT, "/")
_USER_DATA_HINT = (
    "; userDataOverride is the likely cause: it may stop or change the SSH server, the network or root's "
    "account, and builds need all three"
)


class GuestSession:
    """At most one connection to a guest; see the module text."""

    def __init__(
        self, power: PowerSequence, *, loop: LoopThread, timer: Timer, own_servers: bool, own_user_data: bool
    ) -> None:
        """`own_servers`: cloud-init starts SSH servers of ours in the guest, see `_is_usable`.

        `own_user_data`: the guest's user data may change its host keys and its own SSH server.
        """
        self.prefix: tuple[str, ...] = ()
        """The prefix of every command of run(), see disable_aslr.py."""
        self._power = power
        self._loop = loop
        self._timer = timer
        self._ports = (*OWN_SSH_PORTS, SSH_PORT) if own_servers else (SSH_PORT,)
        self._own_user_data = own_user_data
        self._connection: asyncssh.SSHClientConnection | None = None
        self._left: LeftChannels | None = None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def run(self, command: Command, on_output: OnOutput | None = None) -> Completed:
        """Run a program over the open connection. Raises InstanceError, Cancelled."""
        from imagesmith.instances.machine import shell

        assert self._connection is not None
        self._left = self._left or shell.LeftChannels()
        work = shell.execute(
            self._connection, command.within(ENVIRONMENT, "/"), on_output, prefix=self.prefix, left=self._left
        )
        try:
            return self._loop.call(work, check=self._power.check)
        except CommandTooLong as error:
            raise InstanceError(f"{self._power.label}: {error}") from error
        except ShellLost as error:
            self._connection = self._left = None
            raise self._power.failure(f"lost while '{command.argv[0]}' ran: {error}") from error

    def boot_id(self) -> str:
        """The id of the connected boot of the guest. Raises ShellLost, TimeoutError, InstanceError, Cancelled."""
        assert self._connection is not None
        return self._boot_id(self._connection)

    def wait(self, seconds: float, identity: MachineIdentity, *, other_than: str = "") -> None:
        """Connect as `identity` to a boot whose id is not `other_than`, and return once commands run.

        Raises InstanceError, Cancelled, and the errors of the power sequence's check().
        """
        started = self._timer.now()
        refused: float | None = None
        ports = deque(self._ports[-1:] + self._ports[:-1])

        def check() -> None:
            self._power.check()
            self._check_answers(started)

        def attempt() -> asyncssh.SSHClientConnection:
            check()
            ports.rotate(-1)  # the next attempt begins with another one, should this one not let us in
            sock = self._answered(tuple(ports), started + seconds, check)
            connection = self._login(sock, identity)
            if self._boot_id(connection) == other_than:
                connection.abort()
                raise ShellLost("it has not gone down yet")
            return connection

        def is_refused_for_long() -> bool:
            if refused is None:
                return False
            now, configured = self._timer.now(), self._power.console.configured
            if configured is not None and now - max(configured, refused) > _REFUSED_AT_LAST_SECONDS:
                return True
            return now - refused > _REFUSED_SECONDS

        def again(failed: Failure) -> bool:
            nonlocal refused
            if isinstance(failed.error, LoginRefused):
                refused = self._timer.now() if refused is None else refused
                return not is_refused_for_long()
            return isinstance(failed.error, OSError)

        try:
            self._connection = retrying(
                attempt, retry=again, seconds=seconds, backoff=constant(_RETRY_SECONDS),
                clock=self._timer.now, sleep=self._timer.sleep,
            )  # fmt: skip
        except OSError as error:
            reason = str(error) or type(error).__name__
            if isinstance(error, LoginRefused) and is_refused_for_long():
                raise self._power.failure(f"refuses the login: {reason}{self._hint}") from error
            raise self._power.failure(f"did not accept SSH within {seconds:.0f} s: {reason}{self._hint}") from error

    def request_shutdown(self, command: Literal["reboot", "poweroff"]) -> None:
        """Request reboot or power-off; the guest shuts down a moment later, and the SSH reply may never arrive."""
        script = f"(sleep {_SETTLE_SECONDS:g}; systemctl {command} || {command}) </dev/null >/dev/null 2>&1 &"
        self.run(Command(["/bin/sh", "-c", script], timeout=_TOOL_SECONDS))
        self._timer.sleep(_SETTLE_SECONDS)

    def disconnect(self) -> None:
        connection, self._connection, self._left = self._connection, None, None
        if connection is not None:
            connection.abort()

    def _login(self, sock: socket.socket, identity: MachineIdentity) -> asyncssh.SSHClientConnection:
        from imagesmith.instances.machine import shell

        try:
            sock.setblocking(False)
            foreign = self._own_user_data and sock.getpeername()[1] == SSH_PORT
            login = shell.connect(sock, identity, any_host_key=foreign)
            return self._loop.call(login, timeout=LOGIN_SECONDS, check=self._power.check)
        except BaseException:
            sock.close()
            raise

    def _boot_id(self, connection: asyncssh.SSHClientConnection) -> str:
        from imagesmith.instances.machine import shell

        work = shell.execute(connection, _BOOT_ID)
        done = self._loop.call(work, timeout=LOGIN_SECONDS, check=self._power.check)
        if done.returncode != 0:
            raise LoginRefused(f"cannot read the guest's boot id: {done.tail(1)}")
        return done.stdout.decode().strip()

    def _answered(self, ports: Sequence[int], until: float, check: Callable[[], None]) -> socket.socket:
        """A connection to an SSH server of the guest; the ports are tried in turn."""
        turns = count()

        def connect() -> socket.socket:
            usable = [port for port in ports if self._is_usable(port)]
            return self._power.connect(usable[next(turns) % len(usable)])

        return wait_for_banner(connect, until, check, timer=self._timer)

    def _is_usable(self, port: int) -> bool:
        """Whether the machine is ready once this server lets us in.

        With user data the run waits for cloud-init anyway. Without, the guest's own server is the sign that
        cloud-init has made keys and users, and ours, which start before, are tried when it has ended.
        """
        return port == SSH_PORT or self._own_user_data or self._power.console.configured is not None

    def _check_answers(self, started: float) -> None:
        """Raise an error if cloud-init has finished and no SSH server answers."""
        console = self._power.console
        now, configured = self._timer.now(), console.configured
        if not self._own_user_data or configured is None or now - console.last < _QUIET_SECONDS:
            return
        if now - max(configured, started) > _CLOSED_SECONDS:
            raise self._power.failure(f"has no SSH server that answers, and cloud-init has done all{self._hint}")

    @property
    def _hint(self) -> str:
        """A possible cause of a failed login."""
        return _USER_DATA_HINT if self._own_user_data else ""
