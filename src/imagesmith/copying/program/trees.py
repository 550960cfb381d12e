"""Copies files and folders between two roots, with the rules of BuildKit for what is there already.

    folder over folder      merged; below the destination it gets owner, mode and times of its source
    file over file, link    replaces it
    file over folder        an error
    folder over file, link  an error

Folders are read and written by descriptors of their parents, one name at a time.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Final

from imagesmith.copying.program.contents import copy_content
from imagesmith.copying.program.failures import CopyBudget, PathlessFailure, UserFailure, about, shown
from imagesmith.copying.program.metadata import (
    Wanted,
    copy_all,
    set_mode_in,
    set_owner_in,
    set_times,
    set_times_in,
)  # fmt: skip
from imagesmith.copying.program.patterns import PatternList
from imagesmith.copying.program.roots import RootFolder, open_folder_in, status_in, text_of

_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class TargetFolder:
    """A folder of the target that may not exist yet: with patterns it is made when something is copied into it."""

    names: tuple[str, ...]
    above: TargetFolder | None = None
    source: int = -1
    """The folder that it is made like."""
    status: os.stat_result | None = None
    descriptor: int = -1
    created: bool = False

    @property
    def path(self) -> str:
        return text_of(self.names)

    def close(self) -> None:
        if self.descriptor >= 0 and self.above is not None:
            os.close(self.descriptor)
            self.descriptor = -1


@dataclass
class _Matched:
    """Whether patterns match a folder, and what they need to know of it for what is below."""

    included: bool = True
    includes: tuple[bool, ...] = ()
    excludes: tuple[bool, ...] = ()


@dataclass
class TreeCopy:
    """Copies of one source; hard links among its files stay hard links."""

    root: RootFolder
    """The target."""
    wanted: Wanted
    budget: CopyBudget
    includes: PatternList
    excludes: PatternList
    made: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    """Files with several links, by device and number -> where the first of them was written."""

    def folder_contents(self, source: int, target: TargetFolder) -> None:
        """Copy what is in a folder into an open folder of the target, which keeps its owner and mode."""
        status = os.fstat(source)
        self._contents(source, target, "", _Matched(included=not self.includes), 0)
        set_times(target.descriptor, status)

    def item(self, folder: int, name: str, target: TargetFolder, target_name: str) -> None:
        """Copy one item that is no folder."""
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        with about(name):
            self._item(folder, name, status, target, target_name)

    def _contents(self, source: int, target: TargetFolder, path: str, matched: _Matched, depth: int) -> None:
        self.budget.check_depth(depth, path)
        for name in self._listed(source):
            below = f"{path}/{name}" if path else name
            with about("/" + below):
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
                found = self._matched(below, matched)
                if stat.S_ISDIR(status.st_mode):
                    self._folder(source, name, status, target, below, found, depth)
                elif found.included:
                    self._item(source, name, status, target, name)

    def _listed(self, folder: int) -> list[str]:
        names: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if not len(names) % 10_000:
                    self.budget.check_listed(len(names))
                    self.budget.check_time()
        return sorted(names)

    def _matched(self, path: str, above: _Matched) -> _Matched:
        included, includes, excludes = True, above.includes, above.excludes
        if self.includes:
            included, includes = self.includes.match(path, above.includes)
        if self.excludes:
            excluded, excludes = self.excludes.match(path, above.excludes)
            included = included and not excluded
        return _Matched(included, includes, excludes)

    def _folder(
        self,
        source: int,
        name: str,
        status: os.stat_result,
        above: TargetFolder,
        path: str,
        matched: _Matched,
        depth: int,
    ) -> None:
        if not matched.included and not self._may_include_below(path, matched):
            return
        descriptor = open_folder_in(source, name)
        target = TargetFolder((*above.names, name), above, descriptor, status)
        try:
            if matched.included:
                self._make(target)
            self._contents(descriptor, target, path, matched, depth + 1)
            if target.descriptor < 0:
                return
            if matched.included:
                copy_all(descriptor, target.descriptor, status, self.wanted)
            elif target.created:
                set_times(target.descriptor, status)
        finally:
            target.close()
            os.close(descriptor)

    def _may_include_below(self, path: str, matched: _Matched) -> bool:
        if any(matched.excludes) and not self.excludes.has_exceptions:
            return False
        if self.includes and not any(matched.includes):
            return self.includes.may_match_below(path)
        return True

    def _make(self, folder: TargetFolder) -> int:
        """Open a folder of the target, and make it and those above it if they are missing."""
        if folder.descriptor >= 0:
            return folder.descriptor
        assert folder.above is not None and folder.status is not None
        above = self._make(folder.above)
        name = folder.names[-1]
        there = status_in(above, name)
        if there is None:
            self.budget.entry()
            os.mkdir(name, 0o700, dir_fd=above)
            folder.created = True
        elif not stat.S_ISDIR(there.st_mode):
            raise UserFailure(
                f"cannot copy to non-directory: {shown(folder.path)}: {kind_of(there)} is there, and the source "
                "is a folder; remove it with a RUN before, or copy into another folder"
            )
        folder.descriptor = open_folder_in(above, name)
        if folder.created:
            copy_all(folder.source, folder.descriptor, folder.status, self.wanted)
        else:
            os.fchmod(folder.descriptor, stat.S_IMODE(folder.status.st_mode))
        return folder.descriptor

    def _item(self, folder: int, name: str, status: os.stat_result, target: TargetFolder, target_name: str) -> None:
        if stat.S_ISSOCK(status.st_mode):
            return  # no layer carries a socket
        into = self._make(target)
        remove_replaced(into, target_name, target.path)
        self.budget.entry()
        if stat.S_ISREG(status.st_mode):
            self._file(folder, name, status, target, target_name)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=folder), target_name, dir_fd=into)
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(target_name, 0o600, dir_fd=into)
        else:
            self._device(target_name, status, into)
        set_owner_in(into, target_name, self.wanted.owner_of(status))
        if not stat.S_ISLNK(status.st_mode):
            set_mode_in(into, target_name, self.wanted.mode_of(status.st_mode))
        set_times_in(into, target_name, status)

    def _device(self, name: str, status: os.stat_result, into: int) -> None:
        try:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=into)
        except PermissionError as error:
            raise PathlessFailure("a device cannot be made here; leave it out with --exclude") from error

    def _file(self, folder: int, name: str, status: os.stat_result, target: TargetFolder, target_name: str) -> None:
        into = target.descriptor
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self.made:
            first = self.made[key]
            with self.root.deep_folder(first[:-1]) as other:
                os.link(first[-1], target_name, src_dir_fd=other, dst_dir_fd=into, follow_symlinks=False)
            return
        source = os.open(name, _FILE, dir_fd=folder)
        try:
            status = os.fstat(source)
            if not stat.S_ISREG(status.st_mode):
                raise PathlessFailure("it changed while it was copied")
            new = os.open(target_name, _NEW_FILE, 0o600, dir_fd=into)
            try:
                copy_content(source, new, status, self.budget)
                copy_all(source, new, status, self.wanted)
            finally:
                os.close(new)
        finally:
            os.close(source)
        if status.st_nlink > 1:
            self.made[key] = (*target.names, target_name)


def remove_replaced(folder: int, name: str, path: str) -> None:
    """Remove what a new file replaces. Raises UserFailure where a folder is there."""
    there = status_in(folder, name)
    if there is None:
        return
    if stat.S_ISDIR(there.st_mode):
        inner = f"{path.rstrip('/')}/{name}"
        raise UserFailure(
            f"cannot replace to directory {shown(inner)} with file: end the destination with a slash to copy into "
            "the folder, or remove it with a RUN before"
        )
    os.unlink(name, dir_fd=folder)


def kind_of(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "a link"
    return "a file" if stat.S_ISREG(status.st_mode) else "a special file"
