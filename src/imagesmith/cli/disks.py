"""The common part of commands about AMIs, bases and machines: the disk of a name, and the folder of machines."""

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
from imagesmith.builds.stores import open_disks, open_exchange
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.store import opened_store
from imagesmith.instances.machine.machine_factory import MachineFactory
from imagesmith.instances.machine.options import Entry
from imagesmith.instances.orphans import end_orphans
from imagesmith.managed.bases import managed_base, managed_bases
from imagesmith.processes import Cancellation
from imagesmith.settings import Settings
from imagesmith.store import amis
from imagesmith.store.amis import Ami

_OURS = re.compile(r"(?:component|boot|copy)-([0-9]+)(?:-disk)?")


def disk_store(settings: Settings) -> DiskStore:
    """Raises CommandFailed when the exchange of the hosts cannot be used."""
    try:
        return open_disks(settings, open_exchange(settings))
    except SharedStoreError as error:
        raise CommandFailed(str(error)) from error


def publish_disk(settings: Settings, disk: Disk) -> None:
    """Publish a disk to the other hosts, where they have an exchange. Raises CommandFailed."""
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


def own_machines(settings: Settings) -> MachineFactory:
    """A folder apart from the server's, so that neither cleans up the other's; names in it contain a process id."""
    machines = MachineFactory.of(settings, folder=(settings.data_dir / "authoring" / "machines"))
    end_orphans()
    machines.remove_leftovers(_is_running)
    return machines


def _is_running(name: str) -> bool:
    """Whether the process in the name of a machine or a copied disk still runs."""
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
    machines: MachineFactory,
    settings: Settings,
    name: str,
    *,
    on_line: Callable[[str], None],
    cancellation: Cancellation | None = None,
) -> Iterator[tuple[Disk, Entry]]:
    """The disk of a managed base, an AMI or a file, and the access to machines on it.

    A file is copied, and the copy removed afterwards. Raises CommandFailed, Cancelled.
    """
    copies = machines.folder / f"copy-{os.getpid()}-disk"
    try:
        yield _find_disk(settings, name, copies=copies, on_line=on_line, cancellation=cancellation)
    finally:
        shutil.rmtree(copies, ignore_errors=True)


def _find_disk(
    settings: Settings,
    name: str,
    *,
    copies: Path,
    on_line: Callable[[str], None],
    cancellation: Cancellation | None,
) -> tuple[Disk, Entry]:
    try:
        base = managed_base(name, "machine")
        if base is not None:
            return machine_bases(settings).managed(base, on_line=on_line, cancellation=cancellation), "credentials"
        if name.startswith("ami-"):
            ami = find_ami(settings, name)
            entry: Entry = "credentials" if ami.document.get("entry") == "credentials" else "cloud-init"
            try:
                return disk_store(settings).whole(ami.digest, cancellation=cancellation), entry
            except DiskError as error:
                raise CommandFailed(f"{name} cannot be used: {error}", "see: imagesmith ami list") from error
        if Path(name).is_file():
            return DiskStore(copies).take(Path(name), cancellation=cancellation), "cloud-init"
    except (ParentError, DiskError) as error:
        raise CommandFailed(str(error), "see: imagesmith doctor") from error
    known = ", ".join(base.name for base in managed_bases() if base.kind == "machine")
    raise CommandFailed(
        f"'{name}' is not a disk", f"write a managed base ({known}), an ami- id, or the path of a disk"
    )
