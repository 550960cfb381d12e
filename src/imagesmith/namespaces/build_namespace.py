"""The user namespace of a build: uid 0 in it is an ordinary id of the machine, and files on disk keep theirs.

lease a range of ids --> NamespaceMaker --> BuildNamespace --overlay--> the root of a container, with its ids
                                                          --view-----> mounts for the tools that enter it
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from imagesmith.namespaces.id_maps import IdMap
from imagesmith.namespaces.maker import NamespaceError, NamespaceMaker
from imagesmith.namespaces.mount_trees import NO_DEVICES, NO_SET_USER_ID, READ_ONLY, clone_own_file, clone_tree
from imagesmith.namespaces.user_namespace import UserNamespace, free_ids, make_descriptor

_MOUNTS: Final = "/run"
"""Where maker_program.py puts the trees of a view."""
_CURES: Final = {
    errno.ENOSPC: "`sysctl user.max_user_namespaces` is the most that this machine allows: raise it",
    errno.ENOSYS: "Linux 6.1 or newer is needed",
    errno.EINVAL: "this needs Linux 6.1 or newer, and the data directory on ext4, xfs or btrfs",
    errno.EPERM: "a container or security module forbids it: run imagesmith on the machine itself",
}


@dataclass(frozen=True)
class ViewMount:
    """A folder or file that tools inside see: a root whose files have the ids of the namespace, or our own."""

    source: Path
    writable: bool
    from_disk: bool = False
    """A folder of ours that can be written: what uid 0 owns on disk is root's inside."""
    device: bool = False
    """A device node that can be opened there, by whom its mode allows to."""


@dataclass(frozen=True)
class NamespaceView:
    """A mount namespace (a descriptor, which the caller closes), and the paths of what was added there."""

    descriptor: int
    paths: tuple[Path, ...]


class Used(Protocol):
    """A program that runs while somebody uses it."""

    def use(self) -> None: ...

    def release(self) -> None: ...


class BuildNamespace(UserNamespace):
    """The namespace of a build. Make one with `start` or `of_free_ids`."""

    def __init__(
        self, maker: NamespaceMaker, descriptor: int, ids: IdMap, lease: int, others: Sequence[Used]
    ) -> None:
        super().__init__(descriptor, ids, lease)
        self._maker = maker
        self._used = (maker, *others)

    @classmethod
    def start(
        cls, maker: NamespaceMaker, ids: IdMap, *, lease: int = -1, others: Sequence[Used] = ()
    ) -> BuildNamespace:
        """Make the namespace, which owns the lease from now on. Raises NamespaceError.

        `others`: programs that are used, like the maker, until the namespace is closed.
        """
        with ExitStack() as stack, explained():
            with ExitStack() as leased:
                if lease >= 0:
                    leased.callback(os.close, lease)
                for program in (maker, *others):
                    program.use()
                    stack.callback(program.release)
                leased.pop_all()
            descriptor = make_descriptor(maker.ask, ids, lease)
            stack.pop_all()
        return cls(maker, descriptor, ids, lease=lease, others=others)

    @classmethod
    def of_free_ids(cls, maker: NamespaceMaker, others: Sequence[Used] = ()) -> BuildNamespace:
        """A namespace with ids that no other has. Raises NamespaceError, NoIds."""
        ids, lease = free_ids()
        return cls.start(maker, ids, lease=lease, others=others)

    def overlay(self, store: Path, folder: Path, options: str) -> int:
        """A detached overlay of a container's folder below the store's; the caller closes it.

        On disk, files are numbered from 0. Raises NamespaceError.
        """
        with explained():
            tree = clone_tree(store, namespace=self.files)
            try:
                request = {"do": "overlay", "folder": str(folder.relative_to(store)), "options": options}
                return self._maker.ask(request, [self.descriptor, tree])
            finally:
                os.close(tree)

    def view(self, mounts: Sequence[ViewMount]) -> NamespaceView:
        """Mounts of this machine, with folders and files added that the user of the namespace can reach. Raises
        NamespaceError."""
        with explained(), ExitStack() as stack:
            trees = []
            for mount in mounts:
                tree = self._clone(mount)
                stack.callback(os.close, tree)
                trees.append(tree)
            found = self._maker.ask({"do": "view"}, [self.descriptor, *trees])
        return NamespaceView(found, tuple(Path(_MOUNTS, str(number)) for number in range(len(mounts))))

    def _clone(self, mount: ViewMount) -> int:
        if mount.device:
            return clone_tree(mount.source, READ_ONLY | NO_SET_USER_ID, clear=NO_DEVICES)
        if mount.writable:
            return clone_tree(mount.source, NO_DEVICES, namespace=self.files if mount.from_disk else -1)
        return clone_own_file(mount.source, self.files)

    def close(self) -> None:
        if self._close():
            for program in self._used:
                program.release()


@contextlib.contextmanager
def explained() -> Any:
    """Errors of the block say what to try."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "")
        text = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        raise NamespaceError(error.errno or errno.EIO, f"{text}; {cure}" if cure else text) from error
