"""The one way to run a program: argv lists, own process group, bounded output, always reaped.

    run(argv) --> start() in a new session --> pump both pipes --> wait
                        |                                           |
                        +-- timeout, cancellation, exception: killpg(KILL), then reap

    start(argv)         a program that its caller ends; a Background (background.py) runs beside its caller

A child dies with this process: `setpriv --pdeathsig KILL` is put before the argv (the signal is tied to the
thread that forked, and that thread waits here until the child has ended). A parent that dies before the child has
requested the signal sends none, so the child then checks that its parent still lives, see `_while_alive`.
`tree=True` also puts the program into a PID and mount namespace of its own, so that its processes and mounts end
with it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from imagesmith.streams import OnOutput as OnOutput
from imagesmith.streams import Stream as Stream
from imagesmith.streams import Tail, opened_end, pump
from imagesmith.streams import wait_ended as wait_ended

DEFAULT_LIMIT = 1024 * 1024
"""Bytes of each stream that are kept; further output is only counted and passed to `on_output`."""

BASE_ENVIRONMENT = ("PATH", "HOME", "LANG", "TZ", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
"""Variables that a tool of the host inherits; keys and tokens of the server are not among them."""

_REAP_SECONDS = 1.0
_ENTERING = ("nsenter", "unshare")
"""Programs that only wait for the program that they started in other namespaces."""


class Cancelled(BaseException):
    """The run was cancelled. A BaseException, so that no broad handler on the way up swallows it."""


class Cancellation:
    """A flag, set from any thread, that ends the programs started with it."""

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
    cut: bool = False
    """A process that it left behind held its streams: later output of that process is lost."""

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(self.argv)

    @property
    def ending(self) -> str:
        """Its end in words: `exit status 1`, `killed by SIGKILL`, `timed out`."""
        if self.timed_out:
            return "timed out"
        if self.returncode < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-self.returncode).name}"
        return f"exit status {self.returncode}"

    def tail(self, lines: int = 20) -> str:
        """The last lines of both streams, standard error last, for a person to read."""
        text = (self.stdout + (b"\n" if self.stdout and self.stderr else b"") + self.stderr).decode(
            errors="replace"
        )
        return "\n".join(text.rstrip().splitlines()[-lines:])


class ProcessFailed(RuntimeError):
    """A program failed; the text names it and shows its last output."""

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


def supervised(argv: Sequence[str], *, tree: bool, cwd: str | os.PathLike[str] | None = None) -> list[str]:
    """An argv whose process dies with this one; see the module text. It must be started in `cwd`."""
    prefix = ["setpriv", "--pdeathsig", "KILL", "--"]
    if tree:
        prefix += ["unshare", "--fork", "--pid", "--kill-child=KILL", "--"]
    prefix += _while_alive("cwd" if cwd is None else f"root{Path(cwd).absolute()}")
    if tree:
        # only now: inside the namespace, this process is not visible in /proc
        return [*prefix, "unshare", "--mount-proc", "--", *argv]
    # `env` would take a program with such a name for a variable
    return [*prefix, *(("nice", "-n", "0") if "=" in argv[0] else ()), *argv]


def _while_alive(folder: str) -> list[str]:
    """Enter a folder through this thread's entry in /proc, which exists only while the thread lives; else fail.

    The kernel drops the root and folder of a dying thread before it signals the children that it forked: a child
    that passes this point after it has requested the signal receives it. The process would not do: of a killed
    one, the thread that forked may end, and signal, before the others. This needs no right beyond reading one's own
    processes.
    """
    return ["env", f"--chdir=/proc/{os.getpid()}/task/{threading.get_native_id()}/{folder}", "--"]


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
    leave: bool = False,
) -> Completed:
    """Run a program to its end and return how it ended; a non-zero status is not an error here.

    `env` is the whole environment (None: host_environment()); `timeout` is in seconds and kills the process
    group, which sets `timed_out`. With `leave`, processes that the program left behind when it ended by itself are
    not killed, and their output is read on. Raises Cancelled after killing the group when `cancellation` is
    requested, and FileNotFoundError when the program does not exist.
    """
    if cancellation is not None:
        cancellation.check()
    started = time.monotonic()
    process = start(
        supervised(argv, tree=tree, cwd=cwd), env=env, cwd=cwd, pass_fds=pass_fds, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
    )  # fmt: skip
    tails: dict[Stream, Tail] = {"stdout": Tail(limit), "stderr": Tail(limit)}
    assert process.stdout is not None and process.stderr is not None
    timed_out = True
    try:
        with opened_end(process.pid) as ended:
            timed_out = pump(
                process.stdin, {"stdout": process.stdout, "stderr": process.stderr}, ended, tails,
                data=input, timeout=timeout, on_output=on_output,
                stop=lambda: cancellation is not None and cancellation.requested,
            )  # fmt: skip
    finally:
        stopped = cancellation is not None and cancellation.requested
        _end(process, tails, leave=leave and not timed_out and not stopped)
    if cancellation is not None and cancellation.requested:
        raise Cancelled
    return _completed(argv, process, tails, seconds=time.monotonic() - started, timed_out=timed_out)


def _end(process: subprocess.Popen[bytes], tails: Mapping[Stream, Tail], *, leave: bool) -> None:
    """Kill the process group; with `leave`, the program has ended and what it left behind keeps running."""
    assert process.stdout is not None and process.stderr is not None
    if leave:
        process.wait()
        if tails["stdout"].cut:
            _read_to_the_end(process.stdout)
        if tails["stderr"].cut:
            _read_to_the_end(process.stderr)
    else:
        kill_group(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _completed(
    argv: Sequence[str], process: subprocess.Popen[bytes], tails: Mapping[Stream, Tail], *, seconds: float,
    timed_out: bool,
) -> Completed:  # fmt: skip
    return Completed(
        argv=tuple(argv), returncode=process.returncode, stdout=tails["stdout"].value(),
        stderr=tails["stderr"].value(), seconds=seconds, timed_out=timed_out,
        dropped=tails["stdout"].dropped + tails["stderr"].dropped,
        cut=tails["stdout"].cut or tails["stderr"].cut,
    )  # fmt: skip


def _read_to_the_end(pipe: IO[bytes]) -> None:
    """Have a program read a stream that processes still hold, as long as they do, even beyond the end of this one.

    A process that can no longer write would be killed.
    """
    os.set_blocking(pipe.fileno(), True)
    # the shell gives a program in the background no input but /dev/null
    reader = start(["sh", "-c", "exec 3<&0; cat <&3 3<&- >/dev/null &"], stdin=pipe.fileno(), cwd="/")
    reader.wait()


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; only its caller waits for it or ends it.

    `env` is the whole environment (None: host_environment()). It outlives this process unless its caller
    prevents that, as run() does with supervised(). Raises FileNotFoundError when the program does not exist.
    """
    return subprocess.Popen(
        argv, env=dict(host_environment() if env is None else env), cwd=cwd, start_new_session=True,
        stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=tuple(pass_fds),
    )  # fmt: skip


def check(argv: Sequence[str], *, what: str = "", **options: object) -> Completed:
    """Like run(), but raises ProcessFailed unless the status is 0."""
    completed = run(argv, **options)  # type: ignore[arg-type]
    if completed.returncode != 0 or completed.timed_out:
        raise ProcessFailed(completed, what)
    return completed


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the remaining processes of the group and reap the process itself."""
    if process.poll() is None:
        _end_entered(process)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_entered(process: subprocess.Popen[bytes]) -> None:
    """End the program that `nsenter` or `unshare` started, before they are killed themselves.

    A namespace cannot end until the parent of its first process has reaped it. If both were killed at once, the
    machine's init would have to reap it, which may be slow or, in a container without an init, never happen.
    """
    with contextlib.suppress(OSError):
        proc = Path(f"/proc/{process.pid}")
        if (proc / "comm").read_text().strip() not in _ENTERING:
            return
        children = (proc / "task" / str(process.pid) / "children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        if not children:
            return
        wait_ended(process, _REAP_SECONDS)
