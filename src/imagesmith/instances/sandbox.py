"""A set of namespaces without files of the host, and the way to enter it.

    keeper (a thread of ours)
      bwrap              outer namespaces: a root of tools only (/usr read-only, a few generated files, and
        |                binds of the caller), processes, network, IPC, host name, control group
        guard            ends the namespaces at the end of its input, a pipe that only this process holds
        holder           a program of the caller; while it lives, the namespaces live
      slirp4netns        the network of the outer namespaces

    enter(argv) = join the control groups, set limits, nsenter into the outer namespaces, exec argv there

Programs in a container's root are started by bubblewrap *from within* the outer mount namespace: if links of an
image misdirect bubblewrap while it builds its mounts, they can only reach the tools.
Killing the outer process 1 kills every process in it, by the kernel's rule for process namespaces.

No process outlives this one, whenever it is killed: the kernel closes its pipes, and the guard, which is invisible
to programs in a container, reads the end. A parent-death signal would end bubblewrap itself while it starts; its
child would then wait for ever for its parent (`bwrap --die-with-parent` too). So bubblewrap gets no such signal,
and writes its output into a file, because a pipe without a reader would kill it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagesmith import processes
from imagesmith.instances.bubblewrap import View, memory_file, outer_arguments, pack_arguments
from imagesmith.instances.command import NetworkKind
from imagesmith.instances.limits import ControlGroups, ResourceLimits, make_groups
from imagesmith.instances.network import (
    NetworkError,
    Slirp,
    hosts_text,
    prohibit_host,
    resolver_text,
    start_slirp,
)  # fmt: skip
from imagesmith.instances.orphans import tool_environment
from imagesmith.instances.protocol import InstanceError
from imagesmith.namespaces.build_namespace import BuildNamespace, ViewMount
from imagesmith.namespaces.entering import entering
from imagesmith.streams import wait_readable

_NAMESPACES = {"mnt": "mount", "pid": "pid", "net": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
"""Name of a namespace in /proc -> the option of nsenter."""
_START_SECONDS = 30.0
_END_SECONDS = 30.0
_WATCH_SECONDS = 0.25
_MIB = 1024 * 1024
_WORDS = 4096

HOLDER = ("/bin/sh", "-c", "echo; read _")
"""Holds namespaces: reports that it runs, and ends with this process."""

_GUARD = 'exec 3<&0; { read _ <&3; kill -9 -1; } | { "$@" 3<&-; kill -9 -1; }'
"""Ends everything in the namespaces when the holder or the input ends: bubblewrap's first process remains while
there is another process. The holder reads from a pipe of the guard: a program beside the holder could open the
holder's input for writing, and so prevent the guard from ever reading the end of our pipe."""

# "$1": folders of control groups; "$2": kilobytes of one file in 512-byte blocks; "$3": open files.
_JOIN = (
    'for group in $1; do echo 0 >"$group/cgroup.procs" || exit 125; done; '
    'ulimit -f "$2" && ulimit -n "$3" && ulimit -c 0 || exit 125; shift 3; exec "$@"'
)


@dataclass(frozen=True)
class SandboxedProgram:
    """How to start a program inside: the whole argv, and the environment of the tools on the way."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=tool_environment)


class Sandbox:
    """Running namespaces; close() ends everything in them. Make one with `start`."""

    def __init__(
        self, name: str, limits: ResourceLimits, network: NetworkKind, disk: Path, namespace: BuildNamespace | None
    ) -> None:  # fmt: skip
        self.name = name
        self.limits = limits
        self.network = network
        self.disk = disk
        self._namespace = namespace
        self.groups: ControlGroups = make_groups(name, limits)
        self.pid = 0
        """Process 1 of the outer namespaces, as the host counts."""
        self._init = -1
        self._descriptors: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._slirp: Slirp | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._keeper: threading.Thread | None = None
        self._lock = threading.Lock()
        self._network_up = False
        self._closed = False
        self._words = ""

    @classmethod
    def start(
        cls,
        name: str,
        *,
        view: View,
        holder: Sequence[str],
        network: NetworkKind,
        limits: ResourceLimits,
        disk: Path,
        pass_fds: Sequence[int] = (),
        namespace: BuildNamespace | None = None,
    ) -> Sandbox:
        """Make the namespaces and start `holder` in them. Raises InstanceError.

        `disk` is where the sandbox writes: when less than `limits.free_disk_mb` is free there, it is ended.

        With `namespace`, everything in it is in that user namespace, whose root is not root outside, and the binds
        that can be written are its roots.

        The holder is a program of the tools' root that writes a line when it runs and then reads its input, a
        pipe that we hold, to its end: see HOLDER.
        """
        sandbox = cls(name, limits=limits, network=network, disk=disk, namespace=namespace)
        try:
            sandbox._launch(view, holder, pass_fds)
        except BaseException:
            sandbox.close()
            raise
        return sandbox

    @property
    def alive(self) -> bool:
        return not self._closed and self._process is not None and self._process.poll() is None

    def namespace(self, kind: str) -> Path:
        """A path to a namespace (`net`, `pid`, ...) that stays valid, without handing a descriptor to anyone."""
        return Path(f"/proc/{os.getpid()}/fd/{self._descriptors[kind]}")

    def ready(self) -> None:
        """Wait until commands can run. Raises InstanceError if the sandbox has ended or has no network."""
        if not self.alive:
            words = self.exit_message() or "its first process was killed, or it was closed"
            raise InstanceError(f"the sandbox {self.name} has ended: {words}")
        self._await_network()

    def enter(self, argv: Sequence[str]) -> SandboxedProgram:
        """entry(), once the sandbox is ready."""
        self.ready()
        return self.entry(argv)

    def entry(self, argv: Sequence[str]) -> SandboxedProgram:
        """The command line that starts a program of the tools' root inside, with the sandbox's limits."""
        groups = " ".join(str(folder) for folder in self.groups.entrances)
        return SandboxedProgram(
            (
                "sh", "-c", _JOIN, "join", groups, str(self.limits.file_mb * _MIB // 512),
                str(_at_most(resource.RLIMIT_NOFILE, self.limits.open_files)),
                *entering(**{option: self.namespace(kind) for kind, option in self._kinds.items()}), *argv,
            )
        )  # fmt: skip

    @property
    def _kinds(self) -> Mapping[str, str]:
        return _NAMESPACES if self._namespace is None else {"user": "user", **_NAMESPACES}

    def inner_namespace(self, pid: int, kind: str) -> int:
        """Open a namespace (`pid`, `mnt`) of a process that the outer namespaces count as `pid`."""
        return os.open(f"/proc/{self.pid}/root/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Kill everything inside and release the namespaces, the network and the control groups."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.groups.thaw()
        if self._init >= 0:
            # Process 1 of a namespace ends last, so from here on nothing runs in it.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            wait_readable(self._init, _END_SECONDS)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._keeper is not None:
            self._keeper.join()
        if self._init >= 0:
            os.close(self._init)
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self.groups.remove()

    def _launch(self, view: View, holder: Sequence[str], pass_fds: Sequence[int]) -> None:
        info = os.memfd_create("info")
        files = [memory_file("resolv.conf", resolver_text(self.network).encode())]
        files.append(memory_file("hosts", hosts_text("localhost").encode()))
        lease = self._namespace.lease if self._namespace is not None else -1
        opened: list[int] = []
        entry, view = self._way_in(view, opened)
        options = memory_file("outer", pack_arguments(outer_arguments(view, files, info, lease=lease)))
        argv = [*entry, "bwrap", "--args", str(options), "--", "/bin/sh", "-c", _GUARD, "guard", *holder]
        descriptors = (info, options, *files, *pass_fds, *([lease] if lease >= 0 else []))
        self._keeper = threading.Thread(
            target=self._keep, args=(argv, descriptors, info), name=f"sandbox-{self.name}", daemon=True
        )
        try:
            self._keeper.start()
            # the keeper times out first, and then can end its processes
            if not self._started.wait(_START_SECONDS * 2):
                raise InstanceError(f"the sandbox {self.name} did not start within {_START_SECONDS * 2:.0f} s")
        finally:
            for descriptor in (options, *files, info, *opened):
                os.close(descriptor)
        if self._failure is not None:
            raise InstanceError(f"the sandbox {self.name} did not start: {self._failure}") from self._failure

    def _way_in(self, view: View, opened: list[int]) -> tuple[list[str], View]:
        """How to enter the user namespace, and the view with paths that its user can reach there."""
        if self._namespace is None:
            return [], view
        found = self._namespace.view([ViewMount(bind.source, bind.writable) for bind in view.binds])
        opened.append(found.descriptor)
        entry = entering(user=self._namespace.path, mount=f"/proc/{os.getpid()}/fd/{found.descriptor}")
        pairs = zip(view.binds, found.paths, strict=True)
        return [*entry], replace(view, binds=tuple(replace(bind, source=path) for bind, path in pairs))

    def _keep(self, argv: list[str], descriptors: Sequence[int], info: int) -> None:
        """The keeper: starts the processes and waits for their end."""
        try:
            self._start_processes(argv, descriptors, info)
        except BaseException as error:  # handed to the thread that waits for the start
            self._failure = error
        self._started.set()
        if self._process is not None:
            if self._failure is not None:
                self._kill()
            self._watch(self._process)
            self._kill()
            self._close_pipes()
        if self._slirp is not None:
            self._slirp.stop()

    def _start_processes(self, argv: list[str], descriptors: Sequence[int], info: int) -> None:
        self._process = processes.start(
            argv, env=tool_environment(), pass_fds=descriptors,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            self._await_holder()
        finally:
            # bubblewrap has ended, or wrote this before any other program ran
            text = os.pread(info, 4096, 0)
            if self._process.poll() is None and text.strip():
                self.pid = int(json.loads(text)["child-pid"])
                self._init = os.pidfd_open(self.pid)
        for kind in self._kinds:
            self._descriptors[kind] = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        # Not before the holder runs: bubblewrap sets up the loopback interface, and so does slirp4netns.
        if self.network == "outbound":
            self._slirp = start_slirp(self._descriptors["net"], self._namespace)

    def _kill(self) -> None:
        """End the namespaces: their first process, and bubblewrap, which waits for it."""
        if self._init >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end, and end the sandbox when the disk fills up: a quota that works on any file system."""
        while not processes.wait_ended(process, _WATCH_SECONDS):
            free = shutil.disk_usage(self.disk).free
            if free < self.limits.free_disk_mb * _MIB:
                self._words = (
                    f"the build was ended: {free // _MIB} MiB are free on the disk of {self.disk}, "
                    f"and {self.limits.free_disk_mb} MiB must stay free"
                )
                process.kill()
                process.wait()
                return

    def _await_holder(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with self._process.stdout as output:
            if not wait_readable(output.fileno(), _START_SECONDS) or not output.read(1):
                raise InstanceError(self.exit_message() or "its first program did not start")

    def exit_message(self) -> str:
        """Error output of the sandbox's own programs."""
        if self._words or self._process is None or self._process.stderr is None or self._process.stderr.closed:
            return self._words
        with contextlib.suppress(OSError):
            os.set_blocking(self._process.stderr.fileno(), False)
            self._words += os.read(self._process.stderr.fileno(), _WORDS).decode(errors="replace").strip()
        return self._words

    def _close_pipes(self) -> None:
        """Close the holder's pipes once it has ended; its error output is kept."""
        assert self._process is not None
        self.exit_message()
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _await_network(self) -> None:
        with self._lock:
            if self._network_up or self._slirp is None:
                return
            try:
                prohibit_host(self.namespace("net"))
                self._slirp.wait()
            except (NetworkError, processes.ProcessFailed) as error:
                raise InstanceError(f"the sandbox {self.name} has no network: {error}") from error
            self._network_up = True


def _at_most(kind: int, wanted: int) -> int:
    """`wanted`, or the limit of this process where that is lower."""
    _, hard = resource.getrlimit(kind)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
