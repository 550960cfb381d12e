"""File trees for tests of layers: what is in one, and overlays of several."""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagesmith.layers.entries import is_layer_xattr

Tree = dict[bytes, tuple[Any, ...]]


def tree_of(root: Path, *, times: bool = True) -> Tree:
    """Everything of a tree that a layer carries: kinds, modes, owners, times, content, links, attributes.

    The time of the root is left out, and so are sockets.
    """
    found: Tree = {}
    first: dict[tuple[int, int], bytes] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        place = os.path.join(os.fsencode(root), path) if path else os.fsencode(root)
        status = os.lstat(place)
        if stat.S_ISSOCK(status.st_mode):
            continue
        names = [] if stat.S_ISLNK(status.st_mode) else os.listxattr(place, follow_symlinks=False)
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(Path(os.fsdecode(place)).read_bytes()).digest()
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(place)
        if stat.S_ISDIR(status.st_mode):
            pending += [path + b"/" + name if path else name for name in sorted(os.listdir(place), reverse=True)]
        else:
            content += b" = " + first.setdefault((status.st_dev, status.st_ino), path)
        found[path] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0,
            int(status.st_mtime_ns // 1_000_000_000) if times and path else 0,
            content,
            {name: os.getxattr(place, name, follow_symlinks=False) for name in names if is_layer_xattr(name)},
        )
    return found


@contextmanager
def overlay(work: Path, lowers: Sequence[Path], *, upper: Path | None = None) -> Iterator[Path]:
    """A mounted overlay of folders, top first; `upper` takes the changes."""
    target = work / "merged"
    target.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(map(str, lowers))},redirect_dir=nofollow,metacopy=off,index=off,userxattr"
    if upper is None:
        below = work / "nothing"
        below.mkdir(exist_ok=True)
        options = options.replace("lowerdir=", f"lowerdir={below}:" if len(lowers) == 1 else "lowerdir=")
    else:
        (work / "work").mkdir(exist_ok=True)
        options += f",upperdir={upper},workdir={work / 'work'}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"overlay", bytes(target), b"overlay", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), options)
    try:
        yield target
    finally:
        assert libc.umount2(bytes(target), 0) == 0, os.strerror(ctypes.get_errno())
