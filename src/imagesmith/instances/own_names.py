"""Name resolution in a root whose /etc/hosts and /etc/resolv.conf belong to the image: lent, never mounted over.

A container gets both files from outside, as every container does. The root of a disk keeps its own, which
components read, write and replace. The lines that it lacks to resolve names are written into it while a program
runs there:

    /etc/hosts         missing: a file with localhost
    /etc/resolv.conf   a link, mostly to /run: its target is written; a file, or nothing: our text replaces it

and removed afterwards. If a component changed the file meanwhile, its text is kept, without ours.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagesmith.artifacts.rootfs import Root

_MOST_LINKS: Final = 16
_LARGEST: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Lent:
    """A file of the root that holds our text. `before`: its earlier content, None if it did not exist."""

    path: str
    text: bytes
    before: bytes | None
    times: tuple[int, int]
    folders: tuple[str, ...]
    """Folders made for it, outermost first."""


def lend_names(path: Path, *, resolver: str, hosts: str) -> tuple[Lent, ...]:
    """Make names resolve in a root; nothing may run in it. Raises OSError."""
    with Root(path) as root:
        lent = [_lend(root, "/etc/resolv.conf", resolver.encode())] if resolver else []
        if _kind(root, "/etc/hosts") == 0:
            lent.append(_lend(root, "/etc/hosts", hosts.encode()))
    return tuple(lent)


def return_names(path: Path, lent: tuple[Lent, ...]) -> None:
    """Undo lend_names in a root in which nothing runs any more; changes by the build are kept."""
    if not lent:
        return
    # a replaced container no longer has a root
    with contextlib.suppress(FileNotFoundError), Root(path) as root:
        for item in lent:
            with contextlib.suppress(OSError):
                _give_back(root, item)


def _lend(root: Root, path: str, text: bytes) -> Lent:
    target = _end_of(root, path)
    folders = _make_folders(root, posixpath.dirname(target))
    before, times = None, (0, 0)
    if _kind(root, target):
        before = root.read(target, limit=_LARGEST)
        with _opened(root, target, os.O_PATH) as descriptor:
            status = os.fstat(descriptor)
            times = (status.st_atime_ns, status.st_mtime_ns)
    _write(root, target, text)
    return Lent(path=target, text=text, before=before, times=times, folders=folders)


def _give_back(root: Root, item: Lent) -> None:
    found = root.read(item.path, limit=_LARGEST) if _kind(root, item.path) == stat.S_IFREG else None
    if found is not None and item.text in found:
        rest = found.replace(item.text, item.before or b"", 1)
        if rest or item.before is not None:
            _write(root, item.path, rest)
            if rest == item.before:
                with _opened(root, item.path, os.O_RDONLY) as descriptor:
                    os.utime(descriptor, ns=item.times)
        else:
            _unlink(root, item.path)
    for folder in reversed(item.folders):
        with root.folder(posixpath.dirname(folder)) as parent:
            os.rmdir(posixpath.basename(folder), dir_fd=parent)


def _end_of(root: Root, path: str) -> str:
    """The target of a path of the root, without links, whether it exists or not. Raises OSError."""
    rest, done, links = path.split("/"), "", 0
    while rest:
        part = rest.pop(0)
        if part in ("", ".", ".."):
            done = posixpath.dirname(done).rstrip("/") if part == ".." else done
            continue
        inner = f"{done}/{part}"
        if _kind(root, inner) != stat.S_IFLNK:
            done = inner
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(f"{path} leads through more than {_MOST_LINKS} links")
        with root.folder(done or "/") as parent:
            target = os.readlink(part, dir_fd=parent)
        rest, done = target.split("/") + rest, "" if target.startswith("/") else done
    return done


def _kind(root: Root, path: str) -> int:
    """The type of a file, without following a link; 0 if it does not exist."""
    try:
        with root.folder(posixpath.dirname(path)) as parent:
            return stat.S_IFMT(os.lstat(posixpath.basename(path), dir_fd=parent).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _make_folders(root: Root, path: str) -> tuple[str, ...]:
    made = []
    for folder in [*reversed([str(item) for item in Path(path).parents]), path]:
        if _kind(root, folder) == 0 and folder != "/":
            with root.folder(posixpath.dirname(folder)) as parent:
                os.mkdir(posixpath.basename(folder), 0o755, dir_fd=parent)
            made.append(folder)
    return tuple(made)


def _write(root: Root, path: str, data: bytes) -> None:
    with _opened(root, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        os.write(descriptor, data)


def _unlink(root: Root, path: str) -> None:
    with root.folder(posixpath.dirname(path)) as parent:
        os.unlink(posixpath.basename(path), dir_fd=parent)


@contextlib.contextmanager
def _opened(root: Root, path: str, flags: int) -> Iterator[int]:
    descriptor = root.open(path, flags, mode=0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
