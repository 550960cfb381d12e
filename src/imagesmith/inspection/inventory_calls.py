"""Inventories of roots that nobody trusts, taken in sealed processes (sealed_inventory.py)."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.namespaces.mount_trees import NO_DEVICES, READ_ONLY, clone_tree
from imagesmith.namespaces.sealed_answers import SealedCallFailed
from imagesmith.namespaces.sealed_calls import SealedProgram
from imagesmith.namespaces.user_namespace import UserNamespace
from imagesmith.processes import Cancellation

_MODULE: Final = "imagesmith.inspection.sealed_inventory"
_SECONDS: Final = 3600.0
_INVENTORY_BYTES: Final = 64 * 1024**2
"""As JSON: a hundred thousand packages and more."""


def inventory_of_folder(
    sealed: SealedProgram, folder: Path, scratch: Path, cancellation: Cancellation
) -> Inventory:
    """The inventory of a folder whose files are numbered from 0. `scratch`: an empty folder, for the work.

    Raises SealedCallFailed, OSError, Cancelled.
    """
    with ExitStack() as stack:
        stack.enter_context(sealed.used())
        namespace = stack.enter_context(sealed.namespace())
        root = clone_tree(folder, NO_DEVICES | READ_ONLY, namespace=namespace.files)
        stack.callback(os.close, root)
        return _inventory(sealed, namespace, root, scratch, cancellation)


def inventory_of_archive(
    sealed: SealedProgram, archive: bytes, scratch: Path, cancellation: Cancellation
) -> Inventory:
    """The inventory of the files in a tar file. Raises like inventory_of_folder."""
    with ExitStack() as stack:
        stack.enter_context(sealed.used())
        namespace = stack.enter_context(sealed.namespace())
        descriptor = os.memfd_create("archive")
        stack.callback(os.close, descriptor)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(archive)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return _inventory(sealed, namespace, descriptor, scratch, cancellation, archive=True)


def inventory_of_mount(
    sealed: SealedProgram, namespace: UserNamespace, root: Path, scratch: Path, cancellation: Cancellation
) -> Inventory:
    """The inventory of a root that is mounted with the ids of the namespace. Raises like inventory_of_folder."""
    with ExitStack() as stack:
        stack.enter_context(sealed.used())
        descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        return _inventory(sealed, namespace, descriptor, scratch, cancellation)


def _inventory(
    sealed: SealedProgram, namespace: UserNamespace, root: int, scratch: Path, cancellation: Cancellation, *,
    archive: bool = False,
) -> Inventory:  # fmt: skip
    folder = clone_tree(scratch, NO_DEVICES, namespace=namespace.files)
    try:
        found = sealed.call(
            _MODULE, {"archive": archive}, namespace, [root], seconds=_SECONDS, scratch=folder,
            cancellation=cancellation, most_bytes=_INVENTORY_BYTES,
        )  # fmt: skip
    finally:
        os.close(folder)
    return _checked(found)


def _checked(found: Any) -> Inventory:
    """An answer as an inventory: a process that an image has taken over may answer anything."""
    try:
        rows, system = found["packages"], found["system"]
        if not all(isinstance(value, str) for row in (*rows, system.values()) for value in row):
            raise TypeError("a field that has no text")
        packages = tuple(Package(*row) for row in rows)
        return Inventory(OsRelease(**found["system"]), packages, tuple(map(str, found["problems"])))
    except (KeyError, TypeError, AttributeError) as error:
        raise SealedCallFailed(errno.EBADMSG, f"its answer lacks an inventory: {error}") from error
