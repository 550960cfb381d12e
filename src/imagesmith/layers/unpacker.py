"""Unpacks an untrusted layer into a folder of its own, in the form that an overlay merges.

    archive --TarReader--> entry --> its parent folders, opened one by one without following a link --> the file
                                          '-- missing: made with owner and mode of the layers below

Nothing outside the folder is read or written: every name is one component in an open folder, and what is there
already is never followed. A link target is only text. Whatever the archive does, the work is bounded: entries,
bytes, expansion, depth and time. A folder that was not unpacked to the end is the caller's to remove.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from imagesmith.layers.entries import (
    OPAQUE,
    WHITEOUT,
    EntryKind,
    LayerEntry,
    LayerError,
    is_acl,
    is_layer_xattr,
    shown,
)
from imagesmith.layers.lower_layers import MergedFolder, merged_folder, merged_root
from imagesmith.layers.overlay_form import (
    MakeNode,
    is_opaque,
    is_whiteout,
    make_device,
    make_opaque,
    make_whiteout,
    open_folder,
    open_root,
)
from imagesmith.layers.tar_reader import ArchiveSource, ReadEntry, TarReader, split_path
from imagesmith.layers.writer import MOST_DEPTH

_CHUNK = 1 << 20
_GRAIN = 1 << 16
"""Zeros of this length become a hole."""
_ZEROS = bytes(_GRAIN)
_META = b".wh..wh."
"""Prefix of the marks of an old union file system, which mean nothing here."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class UnpackLimits:
    """What a layer may cost. `ratio`: bytes written for each byte of the blob, beyond `ratio_free` bytes."""

    entries: int = 2_000_000
    bytes_written: int = 1 << 40
    ratio: int = 250
    ratio_free: int = 1 << 30
    depth: int = MOST_DEPTH
    ids: int = 1 << 32
    """Users and groups that a file may belong to: 0 to the one below."""
    seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class _Late:
    """What a folder gets when its content is complete: its time, and the rights that new files would inherit."""

    mtime_ns: int
    acls: Mapping[str, bytes]


@dataclass(frozen=True)
class Unpacked:
    """What came of a layer. `devices`: device nodes that were left out."""

    entries: int
    size: int
    devices: int = 0


def unpack_layer(
    source: ArchiveSource,
    target: Path | int,
    *,
    lowers: Sequence[Path | int] = (),
    limits: UnpackLimits | None = None,
    make_node: MakeNode | None = make_device,
    consumed: Callable[[], int] | None = None,
    check: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Unpacked:
    """Unpack an archive into the empty folder `target`, which only this call uses, over `lowers`, top first.

    Folders are paths or open descriptors. `make_node` makes device nodes, which only root of the machine can; None:
    they are left out. `consumed` returns the bytes of the compressed
    blob that were read so far. Raises LayerError, OSError; `check` raises to end the work.
    """
    with ExitStack() as stack:
        below = stack.enter_context(merged_root(lowers))
        root = open_root(target)
        stack.callback(os.close, root)
        unpacker = _Unpacker(
            root,
            below,
            limits or UnpackLimits(),
            make_node=make_node,
            consumed=consumed,
            check=check,
            clock=clock,
        )
        stack.callback(unpacker.close)
        unpacker.run(TarReader(source))
        return Unpacked(unpacker.entries, unpacker.written, unpacker.left_out)


class _Unpacker:
    def __init__(
        self,
        root: int,
        below: MergedFolder,
        limits: UnpackLimits,
        *,
        make_node: MakeNode | None,
        consumed: Callable[[], int] | None,
        check: Callable[[], object],
        clock: Callable[[], float],
    ) -> None:
        self._root = root
        self._below = below
        self._limits = limits
        self._make_node = make_node
        self._consumed = consumed
        self._check = check
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self._way: list[tuple[bytes, int]] = []
        """The open folders from the root to the parent of the last entry."""
        self._late: dict[tuple[bytes, ...], _Late] = {}
        self.entries = 0
        self.written = 0
        self.left_out = 0

    def close(self) -> None:
        self._leave(0)

    def run(self, reader: TarReader) -> None:
        self._inherit(self._root, ())
        for found in reader:
            self.entries += 1
            if self.entries > self._limits.entries:
                raise LayerError(f"the layer has more than {self._limits.entries} entries")
            self._pause()
            if max(found.entry.uid, found.entry.gid) >= self._limits.ids:
                raise _beyond(found.entry)
            try:
                self._apply(found, reader)
            except (FileExistsError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise LayerError(f"{shown(found.entry.path)} cannot be unpacked: {error.strerror}") from error
        reader.drain(self._pause)
        for components in sorted(self._late, reverse=True):
            self._check()
            folder, late = self._existing(components), self._late[components]
            if folder is not None:
                for name, value in late.acls.items():
                    _set_xattr(folder, name, value, b"/".join(components))
                os.utime(folder, ns=(late.mtime_ns, late.mtime_ns))

    def _pause(self) -> None:
        self._check()
        if self._clock() > self._deadline:
            raise LayerError(f"the layer was not unpacked in {self._limits.seconds:g} seconds")

    def _apply(self, found: ReadEntry, reader: TarReader) -> None:
        entry, components = found.entry, found.components
        if len(components) > self._limits.depth:
            raise LayerError(f"{shown(entry.path)} lies more than {self._limits.depth} folders deep")
        if not components:
            if entry.kind is not EntryKind.FOLDER:
                raise LayerError("the root folder of the layer is an entry that is not a folder")
            self._finish(self._root, entry)
            self._remember(components, entry)
            return
        if components[0].startswith(_META) and components[0] != OPAQUE:
            return
        if any(name.startswith(WHITEOUT) for name in components[:-1]):
            raise LayerError(f"{shown(entry.path)} lies below the mark of a removal")
        parent = self._enter(components[:-1])
        if components[-1].startswith(WHITEOUT):
            self._remove_below(components, parent)
        else:
            self._make(found, parent, reader)

    # Whiteouts

    def _remove_below(self, components: Sequence[bytes], parent: int) -> None:
        name = components[-1]
        if name == OPAQUE:
            make_opaque(parent)
            return
        if name.startswith(_META):
            return
        removed = name[len(WHITEOUT) :]
        if removed in (b"", b".", b".."):
            raise LayerError(f"{shown(b'/'.join(components))} removes no name")
        # an entry of this layer stays, and hides what is below
        status = _status(removed, parent)
        if status is None:
            make_whiteout(removed, parent)
        elif stat.S_ISDIR(status.st_mode):
            folder = os.open(removed, _OPEN, dir_fd=parent)
            try:
                make_opaque(folder)
            finally:
                os.close(folder)

    # Entries

    def _make(self, found: ReadEntry, parent: int, reader: TarReader) -> None:
        entry, components, name = found.entry, found.components, found.components[-1]
        before = _status(name, parent)
        hides = before is not None and is_whiteout(before)
        if entry.kind is EntryKind.HARD_LINK:
            self._link(entry, components)
            return
        if entry.kind is EntryKind.FOLDER:
            if before is None or not stat.S_ISDIR(before.st_mode):
                self._clear(components, before)
                os.mkdir(name, 0o700, dir_fd=parent)
            folder = os.open(name, _OPEN, dir_fd=parent)
            try:
                if hides:
                    make_opaque(folder)
                self._finish(folder, entry)
            finally:
                os.close(folder)
            self._remember(components, entry)
            return
        self._clear(components, before)
        if entry.kind is EntryKind.FILE:
            self._file(found, name, parent, reader)
        elif entry.kind is EntryKind.SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
            _own(name, entry, parent)
            _set_time(name, parent, entry)
        else:
            self._special(entry, name, parent)

    def _special(self, entry: LayerEntry, name: bytes, parent: int) -> None:
        kinds = {EntryKind.CHARACTER_DEVICE: stat.S_IFCHR, EntryKind.BLOCK_DEVICE: stat.S_IFBLK}
        if entry.kind is EntryKind.CHARACTER_DEVICE and entry.device == (0, 0):
            raise LayerError(f"{shown(entry.path)} is a device 0:0, which an overlay takes for a removal")
        if entry.kind is EntryKind.FIFO:
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif self._make_node is not None:
            self._make_node(name, kinds[entry.kind], os.makedev(*entry.device), parent)
        else:
            self.left_out += 1
            return
        _own(name, entry, parent)
        # safe without following: nobody else changes this folder, and the name was made above
        os.chmod(name, entry.mode, dir_fd=parent)
        for key, value in entry.xattrs.items():
            _set_xattr(b"/proc/self/fd/%d/%b" % (parent, name), key, value, entry.path)
        _set_time(name, parent, entry)

    def _file(self, found: ReadEntry, name: bytes, parent: int, reader: TarReader) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if found.sparse is None:
                self._copy(file, 0, found.entry.size, reader)
            else:
                for offset, length in found.sparse.parts:
                    self._copy(file, offset, length, reader)
            if found.entry.size:
                os.ftruncate(file, found.entry.size)
            self._finish(file, found.entry)
            os.utime(file, ns=(found.entry.mtime * 1_000_000_000,) * 2)
        finally:
            os.close(file)

    def _copy(self, file: int, position: int, length: int, reader: TarReader) -> None:
        end = position + length
        while position < end:
            chunk = reader.content(min(_CHUNK, end - position))
            if not chunk:
                raise LayerError("the archive ends in the middle of a file")
            self._write(file, chunk, position)
            position += len(chunk)

    def _write(self, file: int, chunk: bytes, position: int) -> None:
        """Write what is not zero; the rest stays a hole."""
        view = memoryview(chunk)
        start = 0
        while start < len(chunk):
            end = start
            while end < len(chunk) and chunk[end : end + _GRAIN] != _ZEROS[: len(chunk) - end]:
                end += _GRAIN
            end = min(end, len(chunk))
            if end > start:
                self._count(end - start)
                _write_all(file, view[start:end], position + start)
            start = end + _GRAIN if end < len(chunk) else end
        if len(chunk) == _CHUNK:
            self._pause()

    def _count(self, size: int) -> None:
        self.written += size
        if self.written > self._limits.bytes_written:
            raise LayerError(f"the layer has more than {self._limits.bytes_written} bytes")
        if self._consumed is None or self.written <= self._limits.ratio_free:
            return
        if self.written > self._limits.ratio * max(1, self._consumed()):
            raise LayerError(f"the layer expands to more than {self._limits.ratio} times its compressed size")

    def _link(self, entry: LayerEntry, components: Sequence[bytes]) -> None:
        name, target = components[-1], split_path(entry.link)
        if not target or any(part.startswith(WHITEOUT) for part in target):
            raise LayerError(f"{shown(entry.path)} is a hard link to no file: {shown(entry.link)}")
        if target == tuple(components):
            return
        with ExitStack() as stack:
            source = self._link_source(entry, target)
            stack.callback(os.close, source)
            parent = self._enter(components[:-1])
            self._clear(components, _status(name, parent))
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            self._apply_last_name(name, parent, entry)

    def _apply_last_name(self, name: bytes, parent: int, entry: LayerEntry) -> None:
        """Give a file what its last name says, where that differs from its first, as Docker does."""
        status = os.lstat(name, dir_fd=parent)
        if not stat.S_ISREG(status.st_mode):
            return
        if (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (entry.uid, entry.gid, entry.mode):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            try:
                self._finish(file, entry)
            finally:
                os.close(file)
        _set_time(name, parent, entry)

    def _link_source(self, entry: LayerEntry, target: Sequence[bytes]) -> int:
        """An open folder of this layer that holds the target of a hard link, which may be copied from below."""
        folder = self._existing(target[:-1])
        status = None if folder is None else _status(target[-1], folder)
        if status is None and not self._is_hidden(target):
            status = self._copy_up(target)
        folder = self._existing(target[:-1])
        if status is None or folder is None or is_whiteout(status):
            raise LayerError(f"{shown(entry.path)} is a hard link to a missing file: {shown(entry.link)}")
        if stat.S_ISDIR(status.st_mode):
            raise LayerError(f"{shown(entry.path)} is a hard link to a folder: {shown(entry.link)}")
        return os.dup(folder)

    def _copy_up(self, path: Sequence[bytes]) -> os.stat_result | None:
        """Copy a file of the layers below into this one; None if there is none."""
        with merged_folder(self._below, path[:-1]) as lower:
            found = lower.find(path[-1])
            if found is None or stat.S_ISDIR(found[1].st_mode):
                return None if found is None else found[1]
            folder, status = found
            parent, name = self._enter(path[:-1]), path[-1]
            if stat.S_ISLNK(status.st_mode):
                os.symlink(os.readlink(name, dir_fd=folder), name, dir_fd=parent)
                os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
            elif stat.S_ISREG(status.st_mode):
                self._copy_file(name, folder, parent, status)
            else:
                raise LayerError(f"{shown(b'/'.join(path))} of a layer below is linked, and is not a file")
            os.utime(
                name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=parent, follow_symlinks=False
            )  # fmt: skip
        return status

    def _copy_file(self, name: bytes, folder: int, parent: int, status: os.stat_result) -> None:
        with ExitStack() as stack:
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, source)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            copy = os.open(name, flags, 0o600, dir_fd=parent)
            stack.callback(os.close, copy)
            position = 0
            while chunk := os.read(source, _CHUNK):
                self._write(copy, chunk, position)
                position += len(chunk)
            os.ftruncate(copy, position)
            _copy_metadata(source, copy, status)

    # Folders

    def _enter(self, components: Sequence[bytes]) -> int:
        """The open folder of a path; missing ones are made. Raises LayerError if a file or link is in the way."""
        shared = self._shared(components)
        self._leave(shared)
        folder = self._way[-1][1] if self._way else self._root
        for depth in range(shared, len(components)):
            name = components[depth]
            following = open_folder(name, folder)
            if following is None:
                following = self._make_parent(components[: depth + 1], folder)
            self._way.append((name, following))
            folder = following
        return folder

    def _make_parent(self, components: Sequence[bytes], parent: int) -> int:
        name = components[-1]
        status = _status(name, parent)
        if status is not None and not is_whiteout(status):
            raise LayerError(f"{shown(b'/'.join(components))} is not a folder, but the layer has files in it")
        if status is not None:
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o755, dir_fd=parent)
        folder = os.open(name, _OPEN, dir_fd=parent)
        os.fchmod(folder, 0o755)
        if status is not None:
            make_opaque(folder)
        elif not self._is_hidden(components):
            self._inherit(folder, components)
        return folder

    def _inherit(self, folder: int, components: Sequence[bytes]) -> None:
        """Give a folder without an entry what the layers below have at its path, if that is a folder."""
        with merged_folder(self._below, components) as lower:
            if lower:
                status = os.fstat(lower.folders[0])
                xattrs = _copy_metadata(lower.folders[0], folder, status)
                acls = {name: value for name, value in xattrs.items() if is_acl(name)}
                self._late[tuple(components)] = _Late(status.st_mtime_ns, acls)
            elif not components:
                os.fchmod(folder, 0o755)

    def _is_hidden(self, components: Sequence[bytes]) -> bool:
        """Whether this layer hides what the layers below have at a path."""
        folder = self._root
        opened: list[int] = []
        try:
            for name in components[:-1]:
                if is_opaque(folder):
                    return True
                status = _status(name, folder)
                if status is None:
                    return False
                if not stat.S_ISDIR(status.st_mode):
                    return True
                opened.append(os.open(name, _OPEN, dir_fd=folder))
                folder = opened[-1]
            return is_opaque(folder)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _existing(self, components: Sequence[bytes]) -> int | None:
        """The open folder of a path of this layer; None if it is missing."""
        self._leave(self._shared(components))
        folder = self._way[-1][1] if self._way else self._root
        for name in components[len(self._way) :]:
            following = open_folder(name, folder)
            if following is None:
                return None
            self._way.append((name, following))
            folder = following
        return folder

    def _shared(self, components: Sequence[bytes]) -> int:
        count = 0
        for (name, _), wanted in zip(self._way, components, strict=False):
            if name != wanted:
                break
            count += 1
        return count

    def _leave(self, depth: int) -> None:
        while len(self._way) > depth:
            os.close(self._way.pop()[1])

    def _clear(self, components: Sequence[bytes], status: os.stat_result | None) -> None:
        """Remove what an earlier entry of this layer put at a path."""
        if status is None:
            return
        parent = self._way[-1][1] if self._way else self._root
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(components[-1], dir_fd=parent)
            return
        # rmtree follows no link below an open folder
        shutil.rmtree(os.fsdecode(components[-1]), dir_fd=parent)

    def _remember(self, components: Sequence[bytes], entry: LayerEntry) -> None:
        acls = {name: value for name, value in entry.xattrs.items() if is_acl(name)}
        self._late[tuple(components)] = _Late(entry.mtime * 1_000_000_000, acls)

    def _finish(self, file: int, entry: LayerEntry) -> None:
        """Owner, mode and attributes of an open file or folder, in the order in which the kernel keeps them."""
        _own(file, entry)
        os.fchmod(file, entry.mode)
        for name, value in entry.xattrs.items():
            if entry.kind is not EntryKind.FOLDER or not is_acl(name):
                _set_xattr(file, name, value, entry.path)


def copy_metadata(source: Path, target: Path) -> None:
    """Give a folder owner, mode, time and attributes of another."""
    with ExitStack() as stack:
        folders = [os.open(path, _OPEN) for path in (source, target)]
        for folder in folders:
            stack.callback(os.close, folder)
        status = os.fstat(folders[0])
        for name, value in _copy_metadata(folders[0], folders[1], status).items():
            os.setxattr(folders[1], name, value)
        os.utime(folders[1], ns=(status.st_mtime_ns, status.st_mtime_ns))


def _status(name: bytes, folder: int) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(name, dir_fd=folder)
    return None


def _set_time(name: bytes, folder: int, entry: LayerEntry) -> None:
    moment = entry.mtime * 1_000_000_000
    os.utime(name, ns=(moment, moment), dir_fd=folder, follow_symlinks=False)


def _write_all(file: int, data: memoryview, position: int) -> None:
    while data:
        written = os.pwrite(file, data, position)
        data, position = data[written:], position + written


def _own(target: int | bytes, entry: LayerEntry, parent: int | None = None) -> None:
    try:
        if isinstance(target, int):
            os.fchown(target, entry.uid, entry.gid)
        else:
            os.chown(target, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _beyond(entry) from error


def _beyond(entry: LayerEntry) -> LayerError:
    return LayerError(
        f"{shown(entry.path)} belongs to {entry.uid}:{entry.gid}, beyond the ids of a build: change its owner in "
        "the image that it comes from"
    )


def _set_xattr(file: int | bytes, name: str, value: bytes, path: bytes) -> None:
    """`file`: a descriptor, or a path whose last component is no link."""
    try:
        os.setxattr(file, name, value, follow_symlinks=isinstance(file, int))
    except OSError as error:
        raise LayerError(f"{shown(path)}: the attribute {name} cannot be set: {error.strerror}") from error


def _copy_metadata(source: int, target: int, status: os.stat_result) -> Mapping[str, bytes]:
    """Owner, mode and the attributes of a layer; those of a folder that its new files would inherit are returned
    only."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    names: Iterable[str] = ()
    with contextlib.suppress(OSError):
        names = os.listxattr(source)
    found = {name: os.getxattr(source, name) for name in names if is_layer_xattr(name)}
    for name, value in found.items():
        if not stat.S_ISDIR(status.st_mode) or not is_acl(name):
            os.setxattr(target, name, value)
    return found
