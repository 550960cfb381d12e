"""A user namespace that is held by a descriptor, with the lock on its ids."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from imagesmith.namespaces.host_ids import HostIds
from imagesmith.namespaces.id_maps import ID_TABLE, IdMap, IdRange, lease_range, nested_ids


class UserNamespace:
    """close() ends it once nothing runs in it."""

    def __init__(self, descriptor: int, ids: IdMap, lease: int) -> None:
        self.descriptor = descriptor
        self.lease = lease
        """The lock on the range of ids; programs inside hold it as well. -1: there is none."""
        self.host_ids = HostIds(ids.users[0].outside if ids.privileged else 0)
        self._lock = threading.Lock()

    @property
    def path(self) -> str:
        """A path to the namespace, for programs that enter it as root outside."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @property
    def files(self) -> int:
        """The namespace for clone_tree, where a folder of this machine is given its ids; -1: it has them."""
        return self.descriptor if self.host_ids.first else -1

    def keep_ids(self) -> None:
        """Never give the ids back while this process lives: something of the namespace may run on."""
        with self._lock:
            self.lease = -1

    def close(self) -> None:
        self._close()

    def _close(self) -> bool:
        """Returns False if it was closed before."""
        with self._lock:
            descriptors, self.descriptor, self.lease = (self.descriptor, self.lease), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)
        return descriptors[0] >= 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_ids() -> tuple[IdMap, int]:
    """Ids for a namespace that no other has, and the lock on them: -1 for an ordinary user's, which all share.

    Raises NoIds.
    """
    ids = nested_ids()
    return (ids, -1) if ids is not None else lease_range(ID_TABLE)


def make_descriptor(ask: Callable[[dict[str, Any]], int], ids: IdMap, lease: int) -> int:
    """Have a program make the namespace; after a failure, the lease is given back."""
    try:
        return ask({"do": "make", "uid": _rows(ids.users), "gid": _rows(ids.groups)})
    except BaseException:
        if lease >= 0:
            os.close(lease)
        raise


def _rows(parts: Sequence[IdRange]) -> list[list[int]]:
    return [[part.inside, part.outside, part.count] for part in parts]
