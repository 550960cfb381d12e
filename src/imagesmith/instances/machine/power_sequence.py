"""Switches one machine on and off, and handles failures on the way.

start --> QEMU runs --> boot: SSH answers --> ... --> switch off
              |              |
              |              |  direct kernel boot: QEMU ends when the guest resets, and a new QEMU starts from the
              |              |  disk
              |              |  KVM without output on the console: a second start, emulated
              |  console says panic, emergency shell, nothing to boot; QEMU ended; cancelled
              +--> InstanceError with the last lines of the console
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.accelerator import Accelerator, Verdict
from imagesmith.instances.machine.cached_disk import CachedDisk
from imagesmith.instances.machine.console import Console
from imagesmith.instances.machine.direct_kernel_boot import SAME_ADDRESSES, first_kernel
from imagesmith.instances.machine.emulator import Emulator, EmulatorSetup
from imagesmith.instances.machine.hardware import SSH_PORT, Hardware, Kernel
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.network import connect_inside
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.timer import Timer
from imagesmith.processes import Cancellation

_CONNECT_SECONDS = 15.0
_SILENT_SECONDS = 30.0
"""A firmware under working KVM writes to the console much sooner."""
_STATUS_SECONDS = 5.0
_DOWN_SECONDS = 180.0
_POLL_SECONDS = 1.0


class GuestDoesNotRun(Exception):
    """A guest does not run under a KVM that no other guest has proven; the text says what was seen."""


@dataclass(frozen=True, kw_only=True)
class PowerSupply:
    """The parts that are needed to switch a machine on."""

    options: MachineOptions
    accelerator: Accelerator
    limits: ResourceLimits
    timer: Timer


class PowerSequence:
    """The power of one machine. Off until `boot` or `start`; off for ever after `close`."""

    def __init__(
        self, disk: CachedDisk, supply: PowerSupply, *, loop: LoopThread, say: Callable[[str], None]
    ) -> None:
        """`say` receives progress messages."""
        self.name = disk.folder.name
        self.label = f"machine {self.name}"
        self.console = Console(disk.folder / "console.log", now=supply.timer.now)
        self.cancellation: Cancellation | None = None
        """Ends every wait; check() looks at it."""
        self.direct_kernel = False
        """Whether the first start was a direct kernel boot."""
        self._disk = disk
        self._supply = supply
        self._timer = supply.timer
        self._loop = loop
        self._say = say
        self._emulator: Emulator | None = None
        self._verdict: Verdict | None = None
        self._watched_since: float | None = None
        """When a start under a KVM that no guest has proven yet began."""
        self._status_read = 0.0
        """When QEMU was last asked for its state."""
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def emulator(self) -> Emulator:
        """The running QEMU. Raises InstanceError when the machine is off."""
        if self._emulator is None:
            raise InstanceError(f"{self.label} is {'closed' if self._closed else 'switched off'}")
        return self._emulator

    def start(self) -> None:
        """Start QEMU without waiting. Raises InstanceError."""
        verdict = self._supply.accelerator.verdict()
        self._say(f"starting {self.label} under {verdict.acceleration}: {verdict.reason}")
        self._start(verdict, None)

    def boot(self, wait_for_shell: Callable[[], None]) -> Verdict:
        """Start QEMU and wait; if the guest does not run under KVM, start again, emulated.

        `wait_for_shell` returns when commands run, and calls check() while it waits.
        Raises InstanceError, Cancelled.
        """
        accelerator, verdict = self._supply.accelerator, self._supply.accelerator.verdict()
        self._say(f"starting {self.label} under {verdict.acceleration}: {verdict.reason}")
        kernel = self._kernel()
        self.direct_kernel = kernel is not None
        self._start(verdict, kernel)
        try:
            self._watch(wait_for_shell, verdict)
        except GuestDoesNotRun as error:
            verdict = accelerator.distrust(f"{error}: machines are emulated")
            self._say(f"starting {self.label} again under {verdict.acceleration}: {verdict.reason}")
            self.emulator.close()
            self.console.restart()
            self._start(verdict, kernel)
            wait_for_shell()
        accelerator.trust(verdict)
        return verdict

    def check(self) -> None:
        """Raise if waiting is useless: cancellation, the end of QEMU, a panic; restarts as keep_running()."""
        if self.cancellation is not None:
            self.cancellation.check()
        self.keep_running()
        if self.console.trouble:
            raise self.failure(self.console.trouble)
        if self._watched_since is not None:
            self._check_kvm(self._timer.now(), since=self._watched_since)

    def _check_kvm(self, now: float, *, since: float) -> None:
        """Raise GuestDoesNotRun if a KVM that is not proven has no output of its guest, or has given it up."""
        if self.console.bytes == 0 and now - since > _SILENT_SECONDS:
            raise GuestDoesNotRun(f"a guest said nothing on its console for {_SILENT_SECONDS:.0f} s under KVM")
        if now - self._status_read > _STATUS_SECONDS:
            self._status_read = now
            if self.emulator.execute("query-status")["status"] == "internal-error":
                raise GuestDoesNotRun("KVM stopped a guest with an internal error")

    def keep_running(self) -> None:
        """As restart_if_reset(). Raises InstanceError when QEMU has ended in another way."""
        if not self.restart_if_reset():
            emulator = self.emulator
            sandbox = emulator.sandbox.exit_message() if emulator.sandbox is not None else ""
            raise self.failure(sandbox or emulator.exit_message())

    def restart_if_reset(self) -> bool:
        """Start QEMU from the disk if it ended because the guest reset after a direct kernel boot.

        Returns whether QEMU runs.
        """
        emulator = self.emulator
        if emulator.running:
            return True
        if self._verdict is None or not emulator.wait_guest_reset():
            return False
        self._say(f"{self.label} restarts, from its disk now")
        emulator.close()
        self._disk.chain.reopened()
        self._start(self._verdict, None)
        return True

    def connect(self, port: int = SSH_PORT) -> socket.socket:
        """Connect to an SSH port of the guest, which QEMU accepts long before the guest does. Raises OSError."""
        return connect_inside(self.emulator.network, port, timeout=_CONNECT_SECONDS)

    def wait_down(self, request: Callable[[], None]) -> None:
        """Shut the guest down, by `request` or else by the power button. Raises InstanceError, Cancelled."""
        emulator = self.emulator
        if not emulator.running:
            return
        try:
            request()
        except InstanceError:
            emulator.execute("system_powerdown")
        emulator = self.emulator
        until = self._timer.now() + _DOWN_SECONDS
        while not emulator.wait(_POLL_SECONDS):
            if self.cancellation is not None:
                self.cancellation.check()
            if self._timer.now() > until:
                raise self.failure(f"did not shut down within {_DOWN_SECONDS:.0f} s")

    def switch_off(self) -> None:
        """End QEMU. Raises InstanceError unless the guest had shut down, because the disk may be incomplete."""
        emulator = self.emulator
        completed = emulator.completed
        self._emulator = None
        emulator.close()
        if completed is None or completed.returncode != 0:
            raise self.failure(f"did not shut down cleanly: {emulator.exit_message()}")

    def close(self) -> None:
        """End QEMU for ever; safe to call twice."""
        self._closed = True
        if self._emulator is not None:
            self._emulator.close()
        self._emulator = None

    def failure(self, what: str) -> InstanceError:
        """An error about this machine that shows the end of its console."""
        tail = self.console.lines()
        shown = f"\nThe last lines of its console:\n{tail}" if tail else "\nIts console said nothing."
        return InstanceError(f"{self.label} {what}{shown}")

    def _watch(self, wait_for_shell: Callable[[], None], verdict: Verdict) -> None:
        """Wait for a start; a KVM that no guest has proven must show output of the guest in time."""
        unproven = verdict.acceleration == "kvm" and not verdict.proven
        self._watched_since = self._timer.now() if unproven else None
        try:
            wait_for_shell()
        finally:
            self._watched_since = None

    def _kernel(self) -> Kernel | None:
        """The kernel of the disk, if QEMU may start it."""
        options = self._supply.options
        if not options.fast_boot or options.firmware != "bios":
            return None
        return first_kernel(self._disk.path, self._disk.folder)

    def _start(self, verdict: Verdict, kernel: Kernel | None) -> None:
        emulated = verdict.acceleration == "tcg"
        if kernel is not None and emulated:
            kernel = replace(kernel, arguments=f"{kernel.arguments} {SAME_ADDRESSES}")
        self._verdict = verdict
        options = self._supply.options
        hardware = Hardware(
            cpus=options.cpus, memory_mb=options.memory_mb, drives=self._disk.drives(),
            strings=self._disk.strings(), firmware=options.firmware, outbound=options.outbound,
            interactive=options.interactive, kernel=kernel,
        )  # fmt: skip
        setup = EmulatorSetup(
            name=self.name, folder=self._disk.folder, hardware=hardware, acceleration=verdict.acceleration,
            parents=(self._disk.parent,), disk_mb=self._disk.largest_mb, limits=self._supply.limits,
            metadata=options.metadata,
        )  # fmt: skip
        self._emulator = Emulator.start(setup, console=self.console, loop=self._loop, timer=self._timer)
