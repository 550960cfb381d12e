"""Owners, modes, times and extended attributes of what was copied."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from imagesmith.copying.program.failures import PathlessFailure, reason, shown
from imagesmith.copying.program.modes import FOLDER_MODE, ModeChange
from imagesmith.copying.program.owners import ROOT_OWNER, Owner

_CAPABILITY: Final = "security.capability"
_ACLS: Final = ("system.posix_acl_access", "system.posix_acl_default")
_NO_ATTRIBUTES: Final = (errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Wanted:
    """What the flags of an instruction ask for instead of what the source has."""

    owner: Owner | None = None
    mode: ModeChange | None = None

    def owner_of(self, status: os.stat_result) -> Owner:
        return self.owner or Owner(status.st_uid, status.st_gid)

    def mode_of(self, mode: int) -> int:
        """The permission bits of a file with this mode."""
        return self.mode.apply(mode) if self.mode else stat.S_IMODE(mode)


def set_owner(descriptor: int, owner: Owner) -> None:
    with _ids_of_build(owner):
        os.fchown(descriptor, owner.uid, owner.gid)


def set_owner_in(folder: int, name: str, owner: Owner) -> None:
    with _ids_of_build(owner):
        os.chown(name, owner.uid, owner.gid, dir_fd=folder, follow_symlinks=False)


@contextmanager
def _ids_of_build(owner: Owner) -> Iterator[None]:
    """Word the refusal of an id that the user namespace of a build does not have."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise PathlessFailure(
            f"the owner {owner.uid}:{owner.gid} is beyond the ids of a build; use --chown"
        ) from error


def set_mode_in(folder: int, name: str, mode: int) -> None:
    """Set the mode of what was just made; links are never followed, and have no mode."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        # fchmod refuses such a descriptor
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def set_new_folder(descriptor: int, wanted: Wanted) -> None:
    """Owner and mode of a folder that has no source."""
    set_owner(descriptor, wanted.owner or ROOT_OWNER)
    os.fchmod(descriptor, wanted.mode.new_folder() if wanted.mode else FOLDER_MODE)


def set_times(descriptor: int, status: os.stat_result) -> None:
    os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))


def set_times_in(folder: int, name: str, status: os.stat_result) -> None:
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=folder, follow_symlinks=False)


def copy_all(source: int, target: int, status: os.stat_result, wanted: Wanted) -> None:
    """Give an open file or folder the metadata of its source. The order counts: a new owner clears set-user-id
    bits and file capabilities."""
    set_owner(target, wanted.owner_of(status))
    os.fchmod(target, wanted.mode_of(status.st_mode))
    copy_attributes(source, target, has_mode=wanted.mode is not None)
    set_times(target, status)


def copy_attributes(source: int, target: int, *, has_mode: bool) -> None:
    """The user's attributes, file capabilities and ACLs; others are the kernel's or the storage driver's own.

    `has_mode`: a mode was asked for, and an access list would change it.
    """
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return
        raise
    for name in names:
        if not is_copied(name) or (has_mode and name == _ACLS[0]):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            raise PathlessFailure(f"its attribute {shown(name)} cannot be written: {reason(error)}") from error


def is_copied(name: str) -> bool:
    """Whether an extended attribute goes with a file."""
    return name == _CAPABILITY or name in _ACLS or name.startswith("user.")
