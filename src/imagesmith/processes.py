"""The one way to run a program: argv lists, own process group, bounded output, always reaped.

    run(argv) --> Popen in a new session --> pump both pipes --> wait
                        |                                          |
                        +-- timeout, cancellation, exception: killpg(KILL), then reap

A child dies with this process: `setpriv --pdeathsig KILL` is put before the argv (the signal is tied to the
thread that forked, and that thread waits here until the child is gone). `tree=True` also puts the program into
a PID and mount namespace of its own, so that everything it started and everything it mounted goes with it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagesmith.streams import OnOutput as OnOutput
from imagesmith.streams import Stream as Stream
from imagesmith.streams import Tail, pump

DEFAULT_LIMIT = 1024 * 1024
"""Bytes of each stream that are kept; what goes beyond is counted and passed to `on_output` only."""

BASE_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
"""What a tool of the host inherits; keys and tokens of the server are not among it."""

_REAP_SECONDS = 1.0
_ENTERING = ("nsenter", "unshare")
"""Programs that do nothing but wait for the one they started in other namespaces."""


class Cancelled(BaseException):
    """The run was cancelled. A BaseException, so that no broad handler on the way up swallows it."""


class Cancellation:
    """A flag that ends the programs which look at it, from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def check(self) -> None:
        """Raise Cancelled once cancel() was called."""
        if self.requested:
            raise Cancelled


@dataclass(frozen=True)
class Completed:
    """A program that ended. `stdout` and `stderr` are the last `limit` bytes of each stream."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float
    timed_out: bool = False
    dropped: int = 0

    @property
    def command(self) -> str:
        """The command line as one can paste it into a shell."""
        return shlex.join(self.argv)

    @property
    def ending(self) -> str:
        """How it ended, in words: `exit status 1`, `killed by SIGKILL`, `timed out`."""
        if self.timed_out:
            return "timed out"
        if self.returncode < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-self.returncode).name}"
        return f"exit status {self.returncode}"

    def tail(self, lines: int = 20) -> str:
        """The last lines of both streams, errors last, as a person wants to read them."""
        text = (self.stdout + (b"\n" if self.stdout and self.stderr else b"") + self.stderr).decode(
            errors="replace"
        )
        return "\n".join(text.rstrip().splitlines()[-lines:])


class ProcessFailed(RuntimeError):
    """A program ended with a failure: says which, with what last words."""

    def __init__(self, completed: Completed, what: str = "") -> None:
        self.completed = completed
        tail = completed.tail()
        super().__init__(
            f"{what or completed.argv[0]} failed ({completed.ending}): {completed.command}"
            + (f"\n{tail}" if tail else "")
        )


def host_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The short environment of a host tool: BASE_ENVIRONMENT plus what the caller names."""
    kept = {name: os.environ[name] for name in BASE_ENVIRONMENT if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **kept, **(extra or {})}


def supervised(argv: Sequence[str], *, tree: bool) -> list[str]:
    """The argv that dies with this process; see the module text."""
    prefix = ["setpriv", "--pdeathsig", "KILL", "--"]
    if tree:
        prefix += ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child=KILL", "--"]
    return [*prefix, *argv]


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    input: bytes | None = None,
    timeout: float | None = None,
    on_output: OnOutput | None = None,
    cancellation: Cancellation | None = None,
    limit: int = DEFAULT_LIMIT,
    tree: bool = False,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and return how it ended; a non-zero status is not an error here.

    `env` is the whole environment (None: host_environment()); `timeout` is in seconds and kills the process
    group, giving `timed_out`. Raises Cancelled after killing the group when `cancellation` is requested, and
    FileNotFoundError when the program does not exist.
    """
    if cancellation is not None:
        cancellation.check()
    started = time.monotonic()
    process = subprocess.Popen(
        supervised(argv, tree=tree),
        env=dict(host_environment() if env is None else env),
        cwd=cwd,
        stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=tuple(pass_fds),
    )
    tails: dict[Stream, Tail] = {"stdout": Tail(limit), "stderr": Tail(limit)}
    deadline = None if timeout is None else started + timeout
    assert process.stdout is not None and process.stderr is not None
    try:
        with _pidfd(process.pid) as ended:
            timed_out = pump(
                process.stdin, {"stdout": process.stdout, "stderr": process.stderr}, ended, tails,
                data=input, deadline=deadline, on_output=on_output,
                stop=lambda: cancellation is not None and cancellation.requested,
            )  # fmt: skip
    finally:
        kill_group(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
    if cancellation is not None and cancellation.requested:
        raise Cancelled
    return Completed(
        argv=tuple(argv),
        returncode=process.returncode,
        stdout=tails["stdout"].value(),
        stderr=tails["stderr"].value(),
        seconds=time.monotonic() - started,
        timed_out=timed_out,
        dropped=tails["stdout"].dropped + tails["stderr"].dropped,
    )


def check(argv: Sequence[str], *, what: str = "", **options: object) -> Completed:
    """run(), raising ProcessFailed unless the status is 0."""
    completed = run(argv, **options)  # type: ignore[arg-type]
    if completed.returncode != 0 or completed.timed_out:
        raise ProcessFailed(completed, what)
    return completed


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the process's group and reap the process itself."""
    if process.poll() is None:
        _end_entered(process)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_entered(process: subprocess.Popen[bytes]) -> None:
    """End what `nsenter` or `unshare` started, before they are killed themselves.

    Its namespace cannot end until its parent has reaped it. Were both killed at once, that would be left to the
    machine's init, which may take its time or, in a container without one, not be there.
    """
    with contextlib.suppress(OSError):
        place = Path(f"/proc/{process.pid}")
        if (place / "comm").read_text().strip() not in _ENTERING:
            return
        for child in (place / "task" / str(process.pid) / "children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_SECONDS)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
