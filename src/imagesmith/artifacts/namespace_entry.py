"""Programs of this machine that work on a folder of ours in a user namespace: root there is not root outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagesmith.namespaces.build_namespace import BuildNamespace, ViewMount
from imagesmith.namespaces.entering import entering


@dataclass(frozen=True)
class NamespaceEntry:
    """`argv` goes before a program's; `folder` is the folder's path there; the program inherits `descriptors`."""

    argv: tuple[str, ...]
    folder: Path
    descriptors: tuple[int, ...] = ()


@contextmanager
def entered(namespace: BuildNamespace | None, folder: Path) -> Iterator[NamespaceEntry]:
    """How to enter a namespace with a folder that can be written there; without one, nothing is entered."""
    if namespace is None:
        yield NamespaceEntry((), folder)
        return
    view = namespace.view([ViewMount(folder, writable=True, from_disk=True)])
    try:
        entry = entering(
            user=f"/proc/self/fd/{namespace.descriptor}", mount=f"/proc/self/fd/{view.descriptor}"
        )  # fmt: skip
        # processes of the namespace's own: root inside may mount /proc only for those
        own = ("unshare", "--fork", "--pid", "--kill-child=KILL", "--mount-proc", "--")
        yield NamespaceEntry((*entry, *own), view.paths[0], (namespace.descriptor, view.descriptor))
    finally:
        os.close(view.descriptor)
