"""Machines that do not come up, or go away: the cause is named, and nothing is left. No guest system is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from imagesmith.artifacts.disks import DiskStore
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled
from testing.machines import HANG, await_process, launch, left_over
from testing.pipeline_support import eventually
from testing.small_disk import fill, small_disk_at

pytestmark = pytest.mark.tool


def boot_disk(store: DiskStore, folder: Path, code: bytes, signature: bytes = b"\x55\xaa") -> Path:
    raw = folder / "boot.raw"
    raw.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(512 * 2047))
    if signature == b"\x55\xaa":
        return store.take(raw).path
    data = bytearray(raw.read_bytes())
    data[510:512] = signature
    raw.write_bytes(data)
    qcow = folder / "boot.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(qcow)], check=True)
    return qcow


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "disks")


def test_a_disk_that_does_not_boot_is_said_so_at_once(store: DiskStore, tmp_path: Path) -> None:
    """The firmware's words end the wait, long before the time limit."""
    disk = boot_disk(store, tmp_path, b"", signature=b"\0\0")
    with pytest.raises(InstanceError, match=r"(?s)machine dead-build the disk does not boot.*last lines.*[Bb]oot"):
        launch(tmp_path, disk)
    assert left_over(tmp_path) == []


def test_a_guest_without_ssh_fails_within_its_time_limit(store: DiskStore, tmp_path: Path) -> None:
    """The failure tells the limit and shows the console."""
    disk = boot_disk(store, tmp_path, HANG)
    with pytest.raises(
        InstanceError, match=r"(?s)did not accept SSH within 4 s.*last lines of its console.*SeaBIOS"
    ):
        launch(tmp_path, disk, seconds=4.0)
    assert left_over(tmp_path) == []


def test_starting_can_be_cancelled(store: DiskStore, tmp_path: Path) -> None:
    """A cancelled launch ends soon and leaves nothing."""
    disk = boot_disk(store, tmp_path, HANG)
    cancellation = Cancellation()
    timer = threading.Timer(2.0, cancellation.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        launch(tmp_path, disk, cancellation=cancellation)
    timer.join()
    assert left_over(tmp_path) == []


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from testing.machines import launch
print("ready", flush=True)
launch(Path({folder!r}), Path({disk!r}))
"""


def test_a_killed_worker_leaves_no_machine(store: DiskStore, tmp_path: Path) -> None:
    """QEMU and its network die with the worker; the folder is swept when a server starts again."""
    disk = boot_disk(store, tmp_path, HANG)
    code = _CHILD.format(tests=str(Path(__file__).parents[2]), folder=str(tmp_path), disk=str(disk))
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        await_process(tmp_path / "machines/dead-build", there=True)
        worker.send_signal(signal.SIGKILL)
        await_process(tmp_path / "machines/dead-build", there=False)
    finally:
        worker.kill()
        worker.communicate()
    assert (tmp_path / "machines/dead-build").exists()


def test_a_killed_qemu_ends_the_launch_with_its_end(store: DiskStore, tmp_path: Path) -> None:
    """The failure says how QEMU ended, soon after."""
    disk = boot_disk(store, tmp_path, HANG)

    def kill() -> None:
        os.kill(await_process(tmp_path / "machines/dead-build", there=True), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(InstanceError, match="QEMU ended"):
        launch(tmp_path, disk)
    killer.join()
    assert left_over(tmp_path) == []


def test_a_host_whose_disk_runs_full_ends_the_machine(store: DiskStore, tmp_path: Path) -> None:
    """Before the last bytes are gone; the failure says so, and nothing is left on the disk."""
    disk = boot_disk(store, tmp_path, HANG)
    with small_disk_at(tmp_path / "machines", megabytes=64) as place:

        def exhaust() -> None:
            until = time.monotonic() + 30
            while not (place / "dead-build/qmp").exists() and time.monotonic() < until:
                time.sleep(0.1)
            fill(place, leave=8 * 1024**2)

        filler = threading.Thread(target=exhaust)
        filler.start()
        # the machine may be ended while the disk is still being filled
        with pytest.raises(InstanceError, match=r"(\d|1[0-5]) MiB are free on the disk of .*, and 16 MiB"):
            launch(tmp_path, disk, limits=ResourceLimits(free_disk_mb=16))
        filler.join()
        assert [item.name for item in place.iterdir()] == ["ballast"]


def test_machines_of_one_name_live_apart(store: DiskStore, tmp_path: Path) -> None:
    """Two data directories may have a build of one name at the same time; the end of one is not the other's."""
    disk = boot_disk(store, tmp_path, HANG)
    options = MachineOptions(cpus=1, memory_mb=64, entry="credentials")
    with ExitStack() as stack:
        first, second = (
            MachineInstance.start(
                tmp_path / side / "machines/dead-build", disk, options=options,
                accelerator=Accelerator(tmp_path, wanted="tcg"), limits=ResourceLimits(),
            )
            for side in ("one", "two")
        )  # fmt: skip
        stack.callback(second.close)
        eventually((second.folder / "qmp").exists, "the second QEMU runs")
        first.close()
        assert second.emulator.execute("query-status")["status"] == "running"
