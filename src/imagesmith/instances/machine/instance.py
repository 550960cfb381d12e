"""The machine kind of instance: QEMU on a qcow2 overlay of its parent's disk, entered over SSH.

machines/<name>/            the machine's folder, gone with close()
  root.qcow2                overlay: everything the machine changes
  <key>-<random>.qcow2      what root.qcow2 lies on above the parent, when the run uses the cache (disk_chain.py)
  seed.iso | string-0, 1    who may enter (identity.py)
  qmp, uefi-variables.fd, console.log

deferred launch: nothing happens before the first command, which begins on overlays of earlier machines, if any

launch --> waiting for SSH --> commands <--> reboot --> stop --> copy of the disk --> close
              |                                  |  a kernel that QEMU started itself (direct.py): QEMU ends, and
              |                                  |  another one starts from the disk
              |  console says panic, emergency shell, nothing to boot
              |  QEMU ended; the time is over; KVM that says nothing: again, emulated
              +--> InstanceError with the last lines of the console
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imagesmith import processes
from imagesmith.artifacts.overlays import DiskState
from imagesmith.instances.limits import Limits
from imagesmith.instances.machine.accelerator import Accelerator, Verdict
from imagesmith.instances.machine.command import Command, CommandTooLong, ShellLost
from imagesmith.instances.machine.console import Console
from imagesmith.instances.machine.direct import SAME_ADDRESSES, first_kernel
from imagesmith.instances.machine.disk_chain import DiskChain, make_disk, virtual_size
from imagesmith.instances.machine.emulator import Emulator
from imagesmith.instances.machine.hardware import SSH_PORT, UEFI_VARIABLES, Drive, Hardware, Kernel
from imagesmith.instances.machine.hasten import SCRIPT as HASTEN
from imagesmith.instances.machine.hasten import prefix_of
from imagesmith.instances.machine.identity import Identity, credential_strings, write_seed
from imagesmith.instances.machine.knock import NOTHING, greeted
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.metadata import HOSTNAME
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.network import connect_inside
from imagesmith.instances.protocol import InstanceError, Snapshot
from imagesmith.instances.shell_files import ShellFiles
from imagesmith.processes import Cancellation, Cancelled, Completed, OnOutput

if TYPE_CHECKING:
    import asyncssh

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TOOL_SECONDS = 120.0
_CONNECT_SECONDS = 15.0
_LOGIN_SECONDS = 120.0
_RETRY_SECONDS = 1.0
_SILENT_SECONDS = 30.0
"""A firmware under working KVM says something on the console long before."""
_DOWN_SECONDS = 180.0
_SETTLE_SECONDS = 1.0
_GIB = 1024**3
# Not `cloud-init status --wait`: after one module that failed it says so at once, while others still run.
_CLOUD_INIT_ENDED = "until [ -e /run/cloud-init/result.json ]; do sleep 1; done"


class MachineInstance(ShellFiles):
    """A disposable virtual machine; see the protocol for what each call does. Make one with `launch`."""

    kind = "machine"

    def __init__(
        self, folder: Path, disk: Path, *, options: MachineOptions, accelerator: Accelerator, limits: Limits,
        cancellation: Cancellation | None, on_line: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.name = folder.name
        self.folder = folder
        self.options = options
        self.console = Console(folder / "console.log")
        self.disk = folder / "root.qcow2"
        self._accelerator = accelerator
        self._limits = limits
        self._cancellation = cancellation
        self.on_line = on_line
        """Hears what the machine is about to do; may be replaced."""
        self._identity = Identity.fresh()
        self._loop = LoopThread(f"machine-{self.name}")
        self._emulator: Emulator | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._closed = False
        self._verdict: Verdict | None = None
        self._kernel: Kernel | None = None
        """Of the disk, for its first start."""
        self._prefix: tuple[str, ...] = ()
        self._chain = DiskChain(disk)
        self.state: DiskState | None = None
        """What its disk is known to come from; None when that is not known, or nobody wants to know."""
        self.started = False
        self.at_first_start: Callable[[MachineInstance], None] = lambda _: None
        """Called once commands run, unless the machine goes on with what an earlier one left."""

    @classmethod
    def launch(
        cls,
        folder: Path,
        disk: Path,
        *,
        options: MachineOptions,
        accelerator: Accelerator,
        limits: Limits | None = None,
        cancellation: Cancellation | None = None,
        on_line: Callable[[str], None] = lambda _: None,
        deferred: bool = False,
    ) -> MachineInstance:
        """Boot an overlay of `disk` (qcow2, absolute path) in `folder`, and wait until commands run.

        A folder left by an attempt that died is replaced. `deferred`: all of that when the first command is to run.
        Raises InstanceError, Cancelled.
        """
        machine = cls(
            folder, disk, options=options, accelerator=accelerator, limits=limits or Limits(),
            cancellation=cancellation, on_line=on_line,
        )  # fmt: skip
        try:
            if not deferred:
                machine._begin()
        except BaseException:
            machine.close()
            raise
        return machine

    @classmethod
    def start(
        cls,
        folder: Path,
        disk: Path,
        *,
        options: MachineOptions,
        accelerator: Accelerator,
        limits: Limits | None = None,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> MachineInstance:
        """Switch a machine on and wait for nothing, as `ami boot` does. Raises InstanceError."""
        machine = cls(
            folder, disk, options=options, accelerator=accelerator, limits=limits or Limits(), cancellation=None,
            on_line=on_line,
        )  # fmt: skip
        try:
            machine.started = True
            machine._prepare()
            verdict = accelerator.verdict()
            on_line(f"starting {machine.label} under {verdict.acceleration}: {verdict.reason}")
            machine._start(verdict)
        except BaseException:
            machine.close()
            raise
        return machine

    @property
    def label(self) -> str:
        return f"machine {self.name}"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"PATH": PATH, "HOME": "/root"}

    @property
    def emulator(self) -> Emulator:
        """The running QEMU. Raises InstanceError when the machine is off."""
        if self._emulator is None:
            raise InstanceError(f"{self.label} is {'closed' if self._closed else 'switched off'}")
        return self._emulator

    @property
    def parent(self) -> Path:
        """The disk that it was started on."""
        return self._chain.parent

    @property
    def identity(self) -> Identity:
        """Who may enter it; goes with its disk."""
        return self._identity

    def resume(self, chain: DiskChain, identity: Identity | None = None) -> None:
        """Begin on what an earlier machine left, and as that machine. Raises InstanceError once it has started."""
        if self.started:
            raise InstanceError(f"{self.label} has started: its disk cannot be changed any more")
        self._chain = chain
        self._identity = identity or self._identity
        self.at_first_start = lambda _: None

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: bytes | None = None,
        timeout: float | None = None,
        on_output: OnOutput | None = None,
        limit: int = 1024 * 1024,
    ) -> Completed:
        """Run a program as root inside. A program that does not exist ends with status 127, as in a shell."""
        from imagesmith.instances.machine import shell

        connection = self._connected()
        command = Command(tuple(argv), {**self.environment, **(env or {})}, cwd or "/", limit, self._prefix)
        work = shell.execute(connection, command, input=input, timeout=timeout, on_output=on_output)
        try:
            return self._loop.call(work, check=self._check)
        except CommandTooLong as error:
            raise InstanceError(f"{self.label}: {error}") from error
        except ShellLost as error:
            self._connection = None
            raise self._failure(f"lost while '{argv[0]}' ran: {error}") from error

    def reboot(self) -> None:
        """Restart the guest's system and wait until commands run again. Raises InstanceError, Cancelled."""
        before = self._boot_id(self._connected())
        self._send_away("reboot")
        self._disconnect()
        self._await_shell(self.options.boot_seconds, other_than=before)

    def checkpoint(self) -> Snapshot:
        raise InstanceError(f"{self.label} keeps no checkpoints; use a container for watch mode")

    def restore(self, snapshot: Snapshot) -> None:
        raise InstanceError(f"{self.label} cannot go back to {snapshot.reference}")

    def stop(self) -> None:
        """Shut the guest down and wait until QEMU has ended: its disk is whole then. Raises InstanceError."""
        if not self.started:
            self.started = True
            self._prepare()
            return
        emulator = self.emulator
        if emulator.running:
            try:
                self._send_away("poweroff")
            except InstanceError:
                emulator.execute("system_powerdown")
            until = time.monotonic() + _DOWN_SECONDS
            while not emulator.wait(_RETRY_SECONDS):
                if self._cancellation is not None:
                    self._cancellation.check()
                if time.monotonic() > until:
                    raise self._failure(f"did not shut down within {_DOWN_SECONDS:.0f} s")
        self._disconnect()
        completed = emulator.completed
        self._emulator = None
        emulator.close()
        if completed is None or completed.returncode != 0:
            raise self._failure(f"did not shut down cleanly: {emulator.last_words()}")

    def use(self, cancellation: Cancellation | None) -> None:
        """From now on commands end with `cancellation`."""
        self._cancellation = cancellation

    def detach(self) -> None:
        """End the machine and leave its folder, for a person to look at; shut down if it still obeys."""
        if self._closed:
            return
        self._cancellation = None
        if self.started:
            with contextlib.suppress(InstanceError, Cancelled):
                self.stop()
        self._end()

    def close(self) -> None:
        try:
            self._end()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._disconnect()
        if self._emulator is not None:
            self._emulator.close()
        self._emulator = None
        self._loop.close()

    def freeze_disk(self, name: str) -> Path:
        """Call what is on the disk now `name`, in the machine's folder, for ever; changes go on in a new overlay.

        Raises InstanceError.
        """
        return self._chain.freeze(self, name)

    def _begin(self) -> None:
        """Make what the machine consists of, and switch it on."""
        self.started = True
        self._prepare()
        self._boot()
        self.at_first_start(self)

    def _prepare(self) -> None:
        """Make the machine's folder: overlay, volumes, and what lets us in."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        make_disk(self._chain, self.disk, bytes_wanted=self.options.root_gb * _GIB)
        for volume in self.options.volumes:
            self._image(
                ["create", "-q", "-f", "qcow2", str(self.folder / f"{volume.name}.qcow2"), f"{volume.size_gb}G"]
            )
        if self.options.firmware == "uefi":
            shutil.copyfile(UEFI_VARIABLES, self.folder / "uefi-variables.fd")
        if self.options.entry == "credentials" and not self.options.user_data:
            for index, text in enumerate(credential_strings(self._identity)):
                (self.folder / f"string-{index}").write_bytes(text)
            return
        write_seed(
            self.folder / "seed.iso", self._identity, hostname=HOSTNAME,
            user_data=self.options.user_data, password=self.options.password,
        )  # fmt: skip

    def _image(self, arguments: Sequence[str]) -> None:
        try:
            processes.check(["qemu-img", *arguments], what="making a disk", timeout=_TOOL_SECONDS)
        except (processes.ProcessFailed, FileNotFoundError) as error:
            raise InstanceError(f"{self.label} has no disk: {error}") from error

    def _hardware(self, kernel: Kernel | None) -> Hardware:
        drives = [Drive("root", self.disk.name)]
        drives += [Drive(volume.name, f"{volume.name}.qcow2") for volume in self.options.volumes]
        if (self.folder / "seed.iso").exists():
            drives.append(Drive("seed", "seed.iso", "raw", read_only=True))
        strings = sorted(place.name for place in self.folder.glob("string-*"))
        options = self.options
        return Hardware(
            options.cpus, options.memory_mb, tuple(drives), tuple(strings), options.firmware, options.outbound,
            options.interactive, kernel,
        )  # fmt: skip

    def _boot(self) -> None:
        """Start QEMU and wait for SSH; a KVM that says nothing is given up for emulation, once."""
        verdict = self._accelerator.verdict()
        self.on_line(f"starting {self.label} under {verdict.acceleration}: {verdict.reason}")
        # a machine with a seed for cloud-init starts as anybody's would
        if self.options.quick and self.options.firmware == "bios" and not (self.folder / "seed.iso").exists():
            self._kernel = first_kernel(self.disk, self.folder)
        self._start(verdict, self._kernel)
        try:
            self._await_shell(self.options.boot_seconds, silent_fails=verdict)
        except _Silent:
            verdict = self._accelerator.distrust(
                f"a guest said nothing on its console for {_SILENT_SECONDS:.0f} s under KVM: machines are emulated"
            )
            self.on_line(f"starting {self.label} again under {verdict.acceleration}: {verdict.reason}")
            self.emulator.close()
            self.console.restart()
            self._start(verdict, self._kernel)
            self._await_shell(self.options.boot_seconds)
        self._accelerator.trust(verdict)
        if self.options.quick and verdict.acceleration == "tcg":
            self._hasten()
        if self.options.user_data:
            self.run(["/bin/sh", "-c", _CLOUD_INIT_ENDED], timeout=self.options.boot_seconds)

    def _hasten(self) -> None:
        """Commands at the same addresses, and what the kernel was told about that undone; see hasten.py."""
        undo = "undo" if self._kernel is not None else ""
        done = self.run(["/bin/sh", "-c", HASTEN, "hasten", undo], timeout=_TOOL_SECONDS)
        if done.returncode != 0 or done.timed_out:
            raise InstanceError(f"{self.label}: kernel.randomize_va_space cannot be set: {done.tail(3)}")
        self._prefix = prefix_of(done)

    def _start(self, verdict: Verdict, kernel: Kernel | None = None) -> None:
        if kernel is not None and verdict.acceleration == "tcg":
            kernel = replace(kernel, arguments=f"{kernel.arguments} {SAME_ADDRESSES}")
        self._verdict = verdict
        self._emulator = Emulator.start(
            self.name, self._hardware(kernel), verdict.acceleration, folder=self.folder,
            parents=(self._chain.parent,), console=self.console, loop=self._loop, limits=self._limits,
            facts=self.options.facts,
            disk_mb=max(virtual_size(self.disk) // 1024**2, *(v.size_gb * 1024 for v in self.options.volumes), 0),
        )  # fmt: skip

    def _await_shell(self, seconds: float, *, other_than: str = "", silent_fails: Verdict | None = None) -> None:
        """Wait until commands run, in a boot of another id than `other_than`."""
        started = time.monotonic()
        watch = silent_fails is not None and silent_fails.acceleration == "kvm" and not silent_fails.proven
        reason = NOTHING

        def check() -> None:
            self._check()
            if watch and self.console.bytes == 0 and time.monotonic() - started > _SILENT_SECONDS:
                raise _Silent

        while time.monotonic() - started < seconds:
            check()
            try:
                connection = self._connect(started + seconds, check)
                if self._boot_id(connection) != other_than:
                    self._connection = connection
                    return
                reason = "it has not gone down yet"
                connection.abort()
            except OSError as error:
                reason = f"{error or type(error).__name__}"
            time.sleep(_RETRY_SECONDS)
        raise self._failure(f"could not be entered within {seconds:.0f} s: {reason}")

    def _connect(self, until: float, check: Callable[[], None]) -> asyncssh.SSHClientConnection:
        from imagesmith.instances.machine import shell

        def begin() -> socket.socket:
            return connect_inside(self.emulator.network, SSH_PORT, timeout=_CONNECT_SECONDS)

        sock = greeted(begin, until, check)
        try:
            sock.setblocking(False)
            return self._loop.call(shell.connect(sock, self._identity), timeout=_LOGIN_SECONDS, check=self._check)
        except BaseException:
            sock.close()
            raise

    def _connected(self) -> asyncssh.SSHClientConnection:
        if not self.started and not self._closed:
            self._begin()
        emulator = self.emulator
        if self._connection is None:
            if not emulator.running and not self._went_on():
                raise self._failure(emulator.last_words())
            self._await_shell(_LOGIN_SECONDS)
        assert self._connection is not None
        return self._connection

    def _check(self) -> None:
        """Raise what makes waiting useless: cancellation, the end of QEMU, a panic."""
        if self._cancellation is not None:
            self._cancellation.check()
        emulator = self.emulator
        if not emulator.running and not self._went_on():
            sandbox = emulator.sandbox.last_words() if emulator.sandbox is not None else ""
            raise self._failure(sandbox or emulator.last_words())
        if self.console.trouble:
            raise self._failure(self.console.trouble)

    def _went_on(self) -> bool:
        """Start from the disk what restarted itself after a start of its kernel; whether that was it."""
        if self._verdict is None or not self.emulator.restarted:
            return False
        self.on_line(f"{self.label} restarts, from its disk now")
        self.emulator.close()
        self._chain.reopened()
        self._start(self._verdict)
        return True

    def _boot_id(self, connection: asyncssh.SSHClientConnection) -> str:
        """Which boot of the guest answers. Raises ShellLost when it goes down meanwhile, TimeoutError."""
        from imagesmith.instances.machine import shell

        command = Command(("cat", "/proc/sys/kernel/random/boot_id"), self.environment, "/", 100)
        work = shell.execute(connection, command, input=None, timeout=None, on_output=None)
        done = self._loop.call(work, timeout=_LOGIN_SECONDS, check=self._check)
        if done.returncode != 0:
            raise ShellLost(f"it does not tell which boot it is: {done.tail(1)}")
        return done.stdout.decode().strip()

    def _send_away(self, command: Literal["reboot", "poweroff"]) -> None:
        """Tell the guest to go down; the answer may be lost with it."""
        script = f"(sleep {_SETTLE_SECONDS:g}; systemctl {command} || {command}) </dev/null >/dev/null 2>&1 &"
        self.run(["/bin/sh", "-c", script], timeout=_TOOL_SECONDS)
        time.sleep(_SETTLE_SECONDS)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def _failure(self, what: str) -> InstanceError:
        tail = self.console.lines()
        shown = f"\nThe last lines of its console:\n{tail}" if tail else "\nIts console said nothing."
        return InstanceError(f"{self.label} {what}{shown}")


class _Silent(Exception):
    """A guest under KVM that says nothing."""
