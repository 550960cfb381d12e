"""A machine whose disk is frozen while it runs, and another that goes on from there, as the cache has it.

Two boots under emulation.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.artifacts.disk_root import open_root
from imagesmith.artifacts.disks import DiskStore
from imagesmith.instances.command import Command
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.backing_chain import BackingChain
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.ssh_keys import MachineIdentity
from testing.machines import MadeBase, left_over

pytestmark = [pytest.mark.tool, pytest.mark.timeout(1500)]


def deferred(folder: Path, name: str, base: MadeBase) -> MachineInstance:
    return MachineInstance.launch(
        folder / "machines" / name, base.disk.path, options=MachineOptions(entry="credentials", fast_boot=True),
        accelerator=Accelerator(folder / "machines"), deferred=True,
    )  # fmt: skip


def test_another_machine_goes_on_from_a_frozen_disk(machine_base: MadeBase, tmp_path: Path) -> None:
    """It has what was there before the disk was frozen and nothing of later, and lets in who was let in before."""
    kept = tmp_path / "kept.qcow2"
    first = deferred(tmp_path, "first-build", machine_base)
    try:
        assert not first.started and not first.folder.exists()
        first.run(Command(["sh", "-c", "echo before >/root/before"]))
        frozen = first.snapshot_disk("state-1.qcow2")
        kept.hardlink_to(frozen)
        first.run(Command(["sh", "-c", "echo after >/root/after; sync"]))
        assert first.read("/root/before") == b"before\n" and first.read("/root/after") == b"after\n"
        with open_root(frozen) as root:
            assert root.system.find("root/before") is not None
        identity = MachineIdentity.from_json(first.disk.identity.to_json())
    finally:
        first.close()
    second = deferred(tmp_path, "second-build", machine_base)
    try:
        second.resume(BackingChain(machine_base.disk.path, (kept,)), identity)
        assert second.read("/root/before") == b"before\n" and not second.exists("/root/after")
        second.snapshot_disk("state-2.qcow2")
        second.run(Command(["sh", "-c", "echo more >/root/more"]))
        second.stop()
        image = DiskStore(tmp_path / "disks").capture(second.disk.path)
    finally:
        second.close()
    with open_root(image.path) as root:
        there = [name for name in ("before", "after", "more") if root.system.find(f"root/{name}") is not None]
    assert there == ["before", "more"]
    assert left_over(tmp_path) == []
