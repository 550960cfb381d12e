"""Writes the upper folder of an overlay as the archive of a layer, the same bytes every time.

    upper/      sorted, depth first          a/          folder
      a/                                     a/.wh..wh..opq   it hides what the layers below have there
        b       a new file                   a/b
      c         whiteout            --->     .wh.c       what was removed
      etc/      copied up, unchanged         -           folders in which nothing changed, and links
                                                     that are as below, are left out

Times are whole seconds, not later than `latest`. Sockets, marks of the overlay and attributes of this machine are
no part of a layer. Nothing may run in the folder meanwhile. Links are never followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from imagesmith.layers.dropped_files import MOST_TOLD, drops
from imagesmith.layers.entries import OPAQUE, WHITEOUT, EntryKind, LayerEntry, LayerError, layer_xattrs, shown
from imagesmith.layers.lower_layers import MergedFolder, merged_root
from imagesmith.layers.overlay_form import is_opaque, is_whiteout, open_root
from imagesmith.layers.tar_headers import END, header, padding

MOST_DEPTH = 250
"""Folders within each other; a layer with more can neither be written nor unpacked."""
MOST_BYTES = 1 << 40
CHUNK = 1 << 20
_ZEROS = bytes(CHUNK)
_LONGEST_PATH = 4095
_KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFIFO: EntryKind.FIFO,
}

Sink = Callable[[bytes], object]
"""Takes the archive in chunks."""


@dataclass(frozen=True)
class WriterSettings:
    """`latest`: later times become this one, in seconds since the epoch. `settle`: the files themselves get the
    times of the archive, and what is left out is removed, so that the folder equals the layer; see `drops`."""

    latest: int | None = None
    drops: bool = False
    root_id: int = 0
    settle: bool = False
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True)
class Written:
    """Entries and bytes of an archive, the end included, and the first dropped files, in words."""

    entries: int
    size: int
    dropped: tuple[str, ...] = ()


def write_layer(
    upper: Path | int,
    sink: Sink,
    *,
    lowers: Iterable[Path | int] = (),
    settings: WriterSettings | None = None,
    check: Callable[[], object] = lambda: None,
) -> Written:
    """Write the archive of `upper` over the layers `lowers`, top first, all by path or descriptor.

    `check` is called now and then, and raises to end the work. Raises LayerError, OSError.
    """
    with ExitStack() as stack:
        below = stack.enter_context(merged_root(lowers))
        folder = open_root(upper)
        stack.callback(os.close, folder)
        writer = _Writer(sink, settings or WriterSettings(), check)
        writer.root(folder, below)
        return writer.end()


def changes_nothing(upper: Path, *, lowers: Iterable[Path]) -> bool:
    """Whether nothing was changed, the root neither; a tree of files is not searched for that. Raises OSError."""
    if any(upper.iterdir()):
        return False
    return not write_layer(upper, len, lowers=lowers).entries


class _Writer:
    def __init__(self, sink: Sink, settings: WriterSettings, check: Callable[[], object]) -> None:
        self._sink = sink
        self._settings = settings
        self._check = check
        self._buffer = bytearray()
        self._entries = 0
        self._size = 0
        self._dropped: list[str] = []
        self._linked: dict[tuple[int, int], bytes] = {}
        self._pending: list[LayerEntry] = []
        """Unchanged folders on the way down, written as soon as anything in them is."""

    def root(self, folder: int, below: MergedFolder) -> None:
        """The root is an entry only if it differs from the layer's below: most engines leave it out."""
        entry = self._entry(b"", os.fstat(folder), folder)
        if below and not self._is_copy(entry, os.fstat(folder), below, with_time=False):
            self._write(entry)
        self._children(b"", folder, below, depth=1)

    def end(self) -> Written:
        self._put(END)
        self._flush()
        return Written(self._entries, self._size, tuple(self._dropped))

    def _children(self, path: bytes, folder: int, below: MergedFolder, *, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise LayerError(f"{shown(path)} lies more than {MOST_DEPTH} folders deep: no layer is made of it")
        self._check()
        with os.scandir(folder) as found:
            names = sorted(os.fsencode(entry.name) for entry in found)
        for name in names:
            status = os.lstat(name, dir_fd=folder)
            self._child(path + b"/" + name if path else name, name, status, folder, below, depth)

    def _child(
        self, path: bytes, name: bytes, status: os.stat_result, parent: int, below: MergedFolder, depth: int
    ) -> None:
        if name.startswith(WHITEOUT):
            raise LayerError(f"{shown(path)}: a layer cannot carry files named `.wh.*`")
        if len(path) > _LONGEST_PATH:
            raise LayerError(f"{shown(path)} is a path of more than {_LONGEST_PATH} bytes")
        if is_whiteout(status):
            removed = path[: len(path) - len(name)] + WHITEOUT + name
            self._write(LayerEntry(EntryKind.FILE, removed, 0, mtime=self._settings.latest or 0))
        elif stat.S_ISDIR(status.st_mode):
            self._folder(path, name, status, parent, below, depth)
        elif self._settings.drops and drops(path, status, name, parent, self._settings.latest):
            self._dropped += [shown(path)] if len(self._dropped) < MOST_TOLD else []
            if self._settings.settle:
                os.unlink(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode):
            self._file(path, name, status, parent)
        elif stat.S_ISSOCK(status.st_mode) or self._is_same_link(name, status, parent, below):
            if self._settings.settle:
                os.unlink(name, dir_fd=parent)
        elif not self._hard_link(path, status):
            self._write(self._entry(path, status, parent, name))
            self._settle(status, name, parent)

    def _folder(
        self, path: bytes, name: bytes, status: os.stat_result, parent: int, below: MergedFolder, depth: int
    ) -> None:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            entry = self._entry(path, status, folder)
            with below.enter(name) as lower:
                hides = bool(lower) and is_opaque(folder)
                self._pending.append(entry)
                if hides or not lower or not self._is_copy(entry, status, lower):
                    self._release()
                if hides:
                    self._write(
                        LayerEntry(EntryKind.FILE, path + b"/" + OPAQUE, 0, mtime=self._settings.latest or 0)
                    )
                with MergedFolder(()) as nothing:
                    self._children(path, folder, nothing if hides else lower, depth=depth + 1)
            if not (self._pending and self._pending[-1] is entry):
                self._settle(status, folder)
            else:
                self._pending.pop()
                if self._settings.settle:
                    os.rmdir(name, dir_fd=parent)
        finally:
            os.close(folder)

    def _file(self, path: bytes, name: bytes, status: os.stat_result, parent: int) -> None:
        if self._hard_link(path, status):
            return
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._write(self._entry(path, status, file))
            self._content(path, file, status)
            self._settle(status, file)
        finally:
            os.close(file)

    def _content(self, path: bytes, file: int, status: os.stat_result) -> None:
        left, sparse = status.st_size, status.st_blocks * 512 < status.st_size
        hole = 0
        while left:
            if sparse and not hole:
                hole = _hole(file, status.st_size - left, status.st_size)
            if hole:
                chunk = _ZEROS[: min(hole, CHUNK)]
                hole -= len(chunk)
                if not hole:
                    os.lseek(file, status.st_size - left + len(chunk), os.SEEK_SET)
            else:
                chunk = os.read(file, min(left, CHUNK))
            if not chunk:
                raise LayerError(f"{shown(path)} became shorter while it was read")
            self._put(chunk)
            left -= len(chunk)
            if len(chunk) == CHUNK:
                self._check()
        self._put(padding(status.st_size))

    def _hard_link(self, path: bytes, status: os.stat_result) -> bool:
        """Write a further name of a file as a link to the first one; returns False for a first name."""
        if status.st_nlink < 2:
            return False
        first = self._linked.setdefault((status.st_dev, status.st_ino), path)
        if first is path:
            return False
        mtime = self._time(status)
        self._write(
            LayerEntry(
                EntryKind.HARD_LINK, path, stat.S_IMODE(status.st_mode), uid=status.st_uid, gid=status.st_gid,
                mtime=mtime, link=first,
            )
        )  # fmt: skip
        return True

    def _entry(self, path: bytes, status: os.stat_result, descriptor: int, name: bytes = b"") -> LayerEntry:
        """The entry of an open file, or of `name` in an open folder."""
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise LayerError(f"{shown(path)} is of a kind that no layer can carry")
        device = kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE)
        return LayerEntry(
            kind,
            path,
            stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size if kind is EntryKind.FILE else 0,
            mtime=self._time(status),
            link=os.readlink(name, dir_fd=descriptor) if kind is EntryKind.SYMLINK else b"",
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
            xattrs={} if kind is EntryKind.SYMLINK else self._xattrs(path, descriptor, name),
        )

    def _xattrs(self, path: bytes, descriptor: int, name: bytes) -> Mapping[str, bytes]:
        target: int | bytes = b"/proc/self/fd/%d/%b" % (descriptor, name) if name else descriptor
        follow = not name
        try:
            names = os.listxattr(target, follow_symlinks=follow)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return {}
            raise
        if not names:
            return {}
        return layer_xattrs(
            names,
            lambda key: os.getxattr(target, key, follow_symlinks=follow),
            path,
            root_id=self._settings.root_id,
        )

    def _is_copy(
        self, entry: LayerEntry, status: os.stat_result, lower: MergedFolder, *, with_time: bool = True
    ) -> bool:
        """Whether a folder is as in the layers below, but for its content."""
        below = os.fstat(lower.folders[0])
        same = (entry.mode, entry.uid, entry.gid) == (stat.S_IMODE(below.st_mode), below.st_uid, below.st_gid)
        if not same or (with_time and status.st_mtime_ns != below.st_mtime_ns):
            return False
        return entry.xattrs == self._xattrs(entry.path, lower.folders[0], b"")

    def _is_same_link(self, name: bytes, status: os.stat_result, parent: int, below: MergedFolder) -> bool:
        """Whether a link is as in the layers below: one that was replaced for a while and put back."""
        found = below.find(name) if stat.S_ISLNK(status.st_mode) and status.st_nlink == 1 else None
        if found is None:
            return False
        folder, lower = found
        same = (status.st_mode, status.st_uid, status.st_gid) == (lower.st_mode, lower.st_uid, lower.st_gid)
        if not same or self._time(status) != self._time(lower):
            return False
        return os.readlink(name, dir_fd=parent) == os.readlink(name, dir_fd=folder)

    def _time(self, status: os.stat_result) -> int:
        whole = status.st_mtime_ns // 1_000_000_000
        return whole if self._settings.latest is None else min(whole, self._settings.latest)

    def _settle(self, status: os.stat_result, descriptor: int | bytes, parent: int | None = None) -> None:
        time = self._time(status) * 1_000_000_000
        if not self._settings.settle:
            return
        if isinstance(descriptor, int):
            if time != status.st_mtime_ns or stat.S_ISDIR(status.st_mode):
                os.utime(descriptor, ns=(time, time))
        elif time != status.st_mtime_ns:
            os.utime(descriptor, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _write(self, entry: LayerEntry) -> None:
        self._release()
        self._entries += 1
        self._put(header(entry))

    def _release(self) -> None:
        if self._pending:
            waiting, self._pending = self._pending, []
            for entry in waiting:
                self._write(entry)

    def _put(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._settings.most_bytes:
            raise LayerError(f"the layer has more than {self._settings.most_bytes} bytes")
        if len(data) == CHUNK:
            self._flush()
            self._sink(data)
            return
        self._buffer += data
        if len(self._buffer) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._sink(bytes(self._buffer))
            self._buffer.clear()


def _hole(file: int, position: int, size: int) -> int:
    """The length of the hole at a position; 0 if there is data."""
    try:
        return os.lseek(file, position, os.SEEK_DATA) - position
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size - position
        raise
