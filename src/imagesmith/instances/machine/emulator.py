"""A running QEMU in a sandbox of its own, its console and its control socket.

    thread of ours          Background: reads the console; ends with QEMU, or ends it
      sandbox               namespaces that hold tools, the machine's folder, the parent disk and /dev/kvm
        slirp4netns         the network: not to the host's loopback, nor to its own addresses (instances/network.py)
        169.254.169.254     answered by this process (metadata.py)
        QEMU                no capabilities, seccomp; its user network is inside the sandbox's
          guest

However this process ends, the sandbox's first process dies with it and the kernel ends everything in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qemu.qmp import EventListener, QMPClient, QMPError

from imagesmith import processes
from imagesmith.artifacts.storage import storage_key
from imagesmith.background import Background
from imagesmith.instances.bubblewrap import Bind, View
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.console import Console
from imagesmith.instances.machine.hardware import FOLDER, OVERHEAD_MB, Acceleration, Hardware, command_line
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.metadata import GuestMetadata, MetadataService
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.sandbox import HOLDER, Sandbox
from imagesmith.instances.timer import Timer
from imagesmith.processes import Completed, Stream
from imagesmith.unix_sockets import short_address

_FILE_SPARE_MB = 1024
_QMP_SECONDS = 30.0
_END_SECONDS = 20.0
_POLL_SECONDS = 0.05
_NO_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--")


@dataclass(frozen=True, kw_only=True)
class EmulatorSetup:
    """Arguments of one QEMU: `hardware` on the disks in `folder`, which are overlays of `parents`."""

    name: str
    folder: Path
    hardware: Hardware
    acceleration: Acceleration
    parents: tuple[Path, ...]
    disk_mb: int
    """Size of the largest disk."""
    limits: ResourceLimits
    metadata: GuestMetadata | None = None
    """What its metadata service answers with; None: no service."""


class Emulator:
    """One QEMU. Make one with `start`; `close()` ends it and its sandbox."""

    def __init__(self, setup: EmulatorSetup, *, console: Console, loop: LoopThread, timer: Timer) -> None:
        self.name = setup.name
        self.sandbox: Sandbox | None = None
        self._setup = setup
        self._console = console
        self._loop = loop
        self._timer = timer
        self._program: Background | None = None
        self._client: QMPClient | None = None
        self._endings = EventListener("SHUTDOWN")
        self._metadata: MetadataService | None = None

    @classmethod
    def start(cls, setup: EmulatorSetup, *, console: Console, loop: LoopThread, timer: Timer) -> Emulator:
        """Start QEMU. Raises InstanceError."""
        emulator = cls(setup, console=console, loop=loop, timer=timer)
        try:
            emulator._start()
            if setup.hardware.kernel is not None:
                emulator._listen()
        except BaseException:
            emulator.close()
            raise
        return emulator

    @property
    def running(self) -> bool:
        return self._program is not None and self._program.running

    @property
    def completed(self) -> Completed | None:
        """Result of a QEMU that ended by itself; None while it runs, and if it was killed."""
        return self._program.completed if self._program is not None else None

    def wait_guest_reset(self) -> bool:
        """Whether QEMU ended because the guest reset after a direct kernel boot.

        Reads the remaining QMP events, and closes the connection.
        """
        if self.running or self._client is None:
            return False
        with contextlib.suppress(Exception):
            self._loop.call(self._client.disconnect(), timeout=_END_SECONDS)
        endings: list[Mapping[str, Any]] = [*self._endings.history]
        return any(event["data"]["reason"] == "guest-reset" for event in endings)

    @property
    def network(self) -> Path:
        """The network namespace of the machine. Raises InstanceError once the machine has ended."""
        if self.sandbox is None or not self.running:
            raise InstanceError(f"machine {self.name}: {self.exit_message()}")
        return self.sandbox.namespace("net")

    def wait(self, seconds: float) -> bool:
        """Wait for the end of QEMU; returns whether it has ended."""
        return self._program is None or self._program.wait(seconds)

    def exit_message(self) -> str:
        """The exit status and last output of QEMU."""
        if self.running or self.completed is None:
            return "QEMU runs"
        said = self.completed.stderr.decode(errors="replace").strip().splitlines()
        return f"QEMU ended ({self.completed.ending})" + (f": {said[-1]}" if said else "")

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run a QMP command. Raises InstanceError."""
        if not self.running:
            raise InstanceError(f"machine {self.name}: {self.exit_message()}")
        try:
            return self._loop.call(self._execute(command, arguments), timeout=_QMP_SECONDS)
        except (QMPError, OSError, TimeoutError) as error:
            raise InstanceError(f"machine {self.name}: QEMU did not obey {command}: {error}") from error

    def close(self) -> None:
        """End QEMU and everything around it; safe to call twice."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._loop.call(self._client.disconnect(), timeout=2.0)
            self._client = None
        if self._program is not None:
            self._program.cancel()
        if self._metadata is not None:
            self._metadata.close()
            self._metadata = None
        if self.sandbox is not None:
            self.sandbox.close()
        if self._program is not None:
            self._program.close(_END_SECONDS)

    def _start(self) -> None:
        setup = self._setup
        memory_mb, file_mb = setup.hardware.memory_mb + OVERHEAD_MB, setup.disk_mb + _FILE_SPARE_MB
        self.sandbox = Sandbox.start(
            # machines of other folders may have this name, and a control group belongs to one of them
            f"{storage_key(setup.folder.parent)}-{self.name}",
            view=View(
                (Bind(setup.folder, FOLDER, writable=True), *(Bind(disk, str(disk)) for disk in setup.parents)),
                devices=("/dev/kvm",) if setup.acceleration == "kvm" else (),
            ),
            holder=HOLDER, network="outbound",
            limits=replace(setup.limits, memory_mb=memory_mb, file_mb=file_mb), disk=setup.folder,
        )  # fmt: skip
        if setup.metadata is not None:
            self.sandbox.ready()
            try:
                self._metadata = MetadataService(setup.metadata, self.sandbox.namespace("net"))
            except (OSError, processes.ProcessFailed) as error:
                raise InstanceError(f"machine {self.name} has no metadata service: {error}") from error
        entry = self.sandbox.enter([*_NO_RIGHTS, *command_line(setup.hardware, setup.acceleration)])

        def keep(stream: Stream, chunk: bytes) -> None:
            if stream == "stdout":
                self._console.add(chunk)

        self._program = Background(
            entry.argv, name=f"machine-{self.name}", env=entry.environment, on_output=keep, limit=65536
        )

    def _listen(self) -> None:
        """Connect to QEMU now, so that its last events are received. Raises InstanceError."""
        until = self._timer.now() + _QMP_SECONDS
        while self.running and not (self._setup.folder / "qmp").exists() and self._timer.now() < until:
            self._timer.sleep(_POLL_SECONDS)
        if self.running:
            self.execute("query-status")

    async def _execute(self, command: str, arguments: Mapping[str, Any] | None) -> Any:
        if self._client is None:
            self._client = await self._connect()
        return await self._client.execute(command, dict(arguments or {}))

    async def _connect(self) -> QMPClient:
        client = QMPClient(self.name)
        with short_address(self._setup.folder / "qmp") as address:
            await client.connect(address)
        client.register_listener(self._endings)
        return client
