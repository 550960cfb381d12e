"""The machine kind of instance: QEMU on a qcow2 overlay of its parent's disk, entered over SSH.

    MachineInstance
      CachedDisk         the files of the machine, their state in the cache, its keys (cached_disk.py)
      PowerSequence      QEMU: boot, fallback from KVM, restart after a reset of the guest (power_sequence.py)
      GuestSession       SSH: login, commands, boot id, shutdown (guest_session.py)

launch --> waiting for SSH --> commands <--> reboot --> stop --> copy of the disk --> close

deferred launch: nothing happens before the first command, which starts on overlays of earlier machines, if any
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from imagesmith.instances.command import Command
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.backing_chain import BackingChain
from imagesmith.instances.machine.cached_disk import CachedDisk
from imagesmith.instances.machine.disable_aslr import SCRIPT as DISABLE_ASLR
from imagesmith.instances.machine.disable_aslr import prefix_of
from imagesmith.instances.machine.emulator import Emulator
from imagesmith.instances.machine.guest_session import ENVIRONMENT, LOGIN_SECONDS, GuestSession
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.power_sequence import PowerSequence, PowerSupply
from imagesmith.instances.machine.ssh_keys import MachineIdentity
from imagesmith.instances.machine.way_in import LEAVE
from imagesmith.instances.protocol import InstanceError, Snapshot
from imagesmith.instances.shell_files import ShellFiles
from imagesmith.instances.timer import SYSTEM_TIMER, Timer
from imagesmith.processes import Cancellation, Cancelled, Completed, OnOutput, Stream

_TOOL_SECONDS = 120.0
_WORDS = 4096
# Not `cloud-init status --wait`: it returns as soon as one module has failed, while others still run.
# The process of its last stage may be about to restart the machine (power_state), which follows its own end.
_CLOUD_INIT_ENDED = r"""
until [ -e /run/cloud-init/result.json ]; do sleep 1; done
tr -d '\n' </run/cloud-init/result.json | sed -n 's/.*"errors": *\[ *\([^]].*\)\].*/\1/p'
while cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -q 'bin/cloud-ini[t] '; do sleep 1; done
sleep 2
[ "$(systemctl is-system-running 2>/dev/null)" != stopping ] || sleep 600
"""


class MachineInstance(ShellFiles):
    """A disposable virtual machine; see the protocol for what each call does. Make one with `launch`."""

    kind = "machine"

    def __init__(
        self, folder: Path, disk: Path, supply: PowerSupply, *, cancellation: Cancellation | None,
        on_line: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.name = folder.name
        self.folder = folder
        self.options = supply.options
        self.disk = CachedDisk(folder, disk, supply.options)
        self.started = False
        self.at_first_start: Callable[[MachineInstance], None] = lambda _: None
        """Called once commands run, unless the machine continues on the disk of an earlier one."""
        self._timer = supply.timer
        self._on_line = on_line
        self._loop = LoopThread(f"machine-{self.name}")
        self._power = PowerSequence(self.disk, supply, loop=self._loop, say=self._say)
        self._power.cancellation = cancellation
        self._session = GuestSession(
            self._power, loop=self._loop, timer=supply.timer, own_servers=self.disk.seeded,
            own_user_data=bool(supply.options.user_data),
        )  # fmt: skip

    @classmethod
    def launch(
        cls,
        folder: Path,
        disk: Path,
        *,
        options: MachineOptions,
        accelerator: Accelerator,
        limits: ResourceLimits | None = None,
        cancellation: Cancellation | None = None,
        on_line: Callable[[str], None] = lambda _: None,
        deferred: bool = False,
        timer: Timer = SYSTEM_TIMER,
    ) -> MachineInstance:
        """Boot an overlay of `disk` (qcow2, absolute path) in `folder`, and wait until commands run.

        A folder left by a killed attempt is replaced. `deferred`: the boot happens before the first command.
        `on_line` receives progress messages. Raises InstanceError, Cancelled.
        """
        supply = PowerSupply(
            options=options, accelerator=accelerator, limits=limits or ResourceLimits(), timer=timer
        )
        machine = cls(folder, disk, supply, cancellation=cancellation, on_line=on_line)
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
        limits: ResourceLimits,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> MachineInstance:
        """Switch a machine on without waiting, as `ami boot` does. Raises InstanceError."""
        supply = PowerSupply(options=options, accelerator=accelerator, limits=limits, timer=SYSTEM_TIMER)
        machine = cls(folder, disk, supply, cancellation=None, on_line=on_line)
        try:
            machine.started = True
            machine.disk.create()
            machine._power.start()
        except BaseException:
            machine.close()
            raise
        return machine

    @property
    def label(self) -> str:
        return self._power.label

    @property
    def environment(self) -> Mapping[str, str]:
        return ENVIRONMENT

    @property
    def emulator(self) -> Emulator:
        """The running QEMU. Raises InstanceError when the machine is off."""
        return self._power.emulator

    def resume(self, chain: BackingChain, identity: MachineIdentity | None = None) -> None:
        """Continue an earlier machine, with its disk and identity. Raises InstanceError once it has started."""
        if self.started:
            raise InstanceError(f"{self.label} has started: its disk cannot be changed any more")
        self.disk.resume(chain, identity)
        self.at_first_start = lambda _: None

    def run(self, command: Command, on_output: OnOutput | None = None) -> Completed:
        """Run a program as root inside. A program that does not exist ends with status 127, as in a shell."""
        if command.needs_container:
            raise InstanceError("a machine runs no command as another user, with mounts or without a network")
        self._enter()
        return self._session.run(command, on_output)

    def reboot(self) -> None:
        """Restart the guest's system and wait until commands run again. Raises InstanceError, Cancelled."""
        self._enter()
        before = self._session.boot_id()
        self._session.request_shutdown("reboot")
        self._session.disconnect()
        self._session.wait(self.options.boot_seconds, self.disk.identity, other_than=before)

    def checkpoint(self) -> Snapshot:
        raise InstanceError(f"{self.label} keeps no checkpoints; use a container for watch mode")

    def restore(self, snapshot: Snapshot) -> None:
        raise InstanceError(f"{self.label} cannot go back to {snapshot.reference}")

    def stop(self) -> None:
        """Shut the guest down and wait until QEMU has ended: its disk is then complete. Raises InstanceError."""
        if not self.started:
            self.started = True
            self.disk.create()
            return
        self._power.wait_down(self._request_poweroff)
        self._session.disconnect()
        self._power.switch_off()

    def leave(self) -> None:
        """Remove imagesmith's keys and access, before the disk becomes an image; the open connection remains.

        Raises InstanceError.
        """
        if self.started:
            argv = ["/bin/sh", "-c", LEAVE, "leave", *self.disk.identity.marks]
            done = self.run(Command(argv, timeout=_TOOL_SECONDS))
            if done.returncode != 0 or done.timed_out:
                raise InstanceError(f"our keys cannot be removed from {self.label} ({done.ending}): {done.tail(3)}")

    def use(self, cancellation: Cancellation | None) -> None:
        """From now on `cancellation` ends commands."""
        self._power.cancellation = cancellation

    def report_to(self, on_line: Callable[[str], None]) -> None:
        """From now on `on_line` receives progress messages."""
        self._on_line = on_line

    def detach(self) -> None:
        """End the machine and keep its folder for inspection; the guest is shut down if it still responds."""
        if self._power.closed:
            return
        self.use(None)
        if self.started:
            with contextlib.suppress(InstanceError, Cancelled):
                self.stop()
        self._end()

    def close(self) -> None:
        try:
            self._end()
        finally:
            self.disk.remove()

    def snapshot_disk(self, name: str) -> Path:
        """Keep the current content of the disk as `name` in the machine's folder; changes go into a new overlay.

        Raises InstanceError.
        """
        self._enter()
        return self.disk.chain.freeze(self.disk.path, name, guest=self, control=self.emulator)

    def _end(self) -> None:
        if self._power.closed:
            return
        self._session.disconnect()
        self._power.close()
        self._loop.close()

    def _say(self, line: str) -> None:
        self._on_line(line)

    def _begin(self) -> None:
        """Make the files of the machine, switch it on, and wait until commands run."""
        self.started = True
        self.disk.create()
        verdict = self._power.boot(lambda: self._session.wait(self.options.boot_seconds, self.disk.identity))
        if self.options.fast_boot and verdict.acceleration == "tcg":
            self._disable_aslr()
        if self.options.user_data:
            self._await_user_data(self._timer.now() + self.options.boot_seconds)
        self.at_first_start(self)

    def _enter(self) -> None:
        """Start a deferred machine; connect again after a lost connection. Raises InstanceError, Cancelled."""
        if not self.started and not self._power.closed:
            self._begin()
        if not self._session.connected:
            self._power.keep_running()
            self._session.wait(LOGIN_SECONDS, self.disk.identity)

    def _request_poweroff(self) -> None:
        self._enter()
        self._session.request_shutdown("poweroff")

    def _await_user_data(self, until: float) -> None:
        """Wait until cloud-init has applied the user data, which may include restarts."""
        said = b""

        def collect(_: Stream, chunk: bytes) -> None:
            nonlocal said
            said += chunk[:_WORDS]

        while (seconds := until - self._timer.now()) > 0:
            try:
                done = self.run(Command(["/bin/sh", "-c", _CLOUD_INIT_ENDED], timeout=seconds), collect)
            except InstanceError:
                if not self._power.restart_if_reset():
                    raise
                continue
            if done.timed_out:
                break
            if said:
                words = said.decode(errors="replace").strip()
                self._say(f"warning: cloud-init did not do all that userDataOverride says: {words}")
            return
        raise self._power.failure(f"did not finish its userDataOverride within {self.options.boot_seconds:.0f} s")

    def _disable_aslr(self) -> None:
        """Load commands at fixed addresses, and undo the kernel's argument for the boot; see disable_aslr.py."""
        undo = "undo" if self._power.direct_kernel else ""
        argv = ["/bin/sh", "-c", DISABLE_ASLR, "disable_aslr", undo]
        done = self.run(Command(argv, timeout=_TOOL_SECONDS))
        if done.returncode != 0 or done.timed_out:
            raise InstanceError(f"{self.label}: kernel.randomize_va_space cannot be set: {done.tail(3)}")
        self._session.prefix = prefix_of(done)
