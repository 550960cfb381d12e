"""What the commands about AMIs, bases and machines share: the disk of a name, and where machines run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesmith.artifacts.bases import ParentError
from imagesmith.artifacts.disks import Disk, DiskError, DiskStore
from imagesmith.artifacts.machine_bases import MachineBases
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.store import opened_store
from imagesmith.instances.machine.options import Entry
from imagesmith.instances.machine.place import MachinePlace
from imagesmith.managed.bases import managed_base, managed_bases
from imagesmith.processes import Cancellation
from imagesmith.settings import Settings
from imagesmith.store import amis
from imagesmith.store.amis import Ami
from imagesmith.workflows.stores import open_disks, open_exchange

_OURS = re.compile(r"(?:component|boot|copy)-([0-9]+)(?:-disk)?")


def disk_store(settings: Settings) -> DiskStore:
    """Raises CommandFailed when the store that hosts share cannot be used."""
    try:
        return open_disks(settings, open_exchange(settings))
    except SharedStoreError as error:
        raise CommandFailed(str(error)) from error


def publish_disk(settings: Settings, disk: Disk) -> None:
    """Have the other hosts reach a disk, where there is a store that they share. Raises CommandFailed."""
    try:
        exchange = open_exchange(settings)
        if exchange is not None:
            exchange.publish_disk(disk_store(settings), disk.digest)
    except SharedStoreError as error:
        raise CommandFailed(str(error)) from error


def machine_bases(settings: Settings) -> MachineBases:
    return MachineBases(
        disk_store(settings), folder=settings.data_dir / "bases", debian_mirror=settings.debian_mirror,
        max_age_seconds=settings.builds.base_max_age_days * 86400,
    )  # fmt: skip


def own_machines(settings: Settings) -> MachinePlace:
    """A place apart from the server's, so that neither sweeps the other's; all in it is named for a process."""
    place = MachinePlace.of(settings, folder=(settings.data_dir / "authoring" / "machines"))
    place.sweep(_is_running)
    return place


def _is_running(name: str) -> bool:
    """Whether the process that a machine or a copy of a disk is named for still lives."""
    found = _OURS.fullmatch(name)
    return found is not None and Path("/proc", found[1]).exists()


def find_ami(settings: Settings, ami_id: str) -> Ami:
    """An entry of the catalog. Raises CommandFailed."""
    with opened_store(settings) as tx:
        found = amis.get_ami(tx, ami_id)
    if found is None:
        raise CommandFailed(f"there is no AMI {ami_id}", "see: imagesmith ami list")
    return found


@contextmanager
def used_disk(
    place: MachinePlace,
    settings: Settings,
    name: str,
    *,
    say: Callable[[str], None],
    cancellation: Cancellation | None = None,
) -> Iterator[tuple[Disk, Entry]]:
    """The disk of a managed base, an AMI or a file, and how machines of it let us in.

    A file is copied, and the copy gone afterwards. Raises CommandFailed, Cancelled.
    """
    copies = place.folder / f"copy-{os.getpid()}-disk"
    try:
        yield _find_disk(settings, name, copies=copies, say=say, cancellation=cancellation)
    finally:
        shutil.rmtree(copies, ignore_errors=True)


def _find_disk(
    settings: Settings, name: str, *, copies: Path, say: Callable[[str], None], cancellation: Cancellation | None
) -> tuple[Disk, Entry]:
    try:
        base = managed_base(name, "machine")
        if base is not None:
            return machine_bases(settings).managed(base, on_line=say, cancellation=cancellation), "credentials"
        if name.startswith("ami-"):
            ami = find_ami(settings, name)
            entry: Entry = "credentials" if ami.document.get("entry") == "credentials" else "cloud-init"
            return disk_store(settings).get(ami.digest), entry
        if Path(name).is_file():
            return DiskStore(copies).take(Path(name), cancellation=cancellation), "cloud-init"
    except (ParentError, DiskError) as error:
        raise CommandFailed(str(error), "see: imagesmith doctor") from error
    known = ", ".join(base.name for base in managed_bases() if base.kind == "machine")
    raise CommandFailed(
        f"'{name}' is no disk", f"write a managed base ({known}), an ami- id, or the path of a disk"
    )
