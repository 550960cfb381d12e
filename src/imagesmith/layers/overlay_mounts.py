"""Mounts overlays of many layers without their paths: the kernel takes one page of options.

The layers are named by short links in the container's folder, which is the working directory of the thread that
mounts. So neither the number of layers (120) nor a comma or colon in the path of the data directory matters.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.namespaces.mount_trees import attach_tree

MOST_LAYERS = 120
_MS_NODEV = 4
_CLONE_FS = 0x200
_DETACH, _NOFOLLOW = 2, 8
_OPTIONS = "redirect_dir=nofollow,metacopy=off,index=off,xino=off,volatile,userxattr"


def mount_overlay(folder: Path, layers: Sequence[Path]) -> None:
    """Mount `merged` in a container's folder: `upper` with the work folder `work` over the layers, top first.

    Device nodes cannot be opened in it. Raises OSError.
    """
    _link_layers(folder, layers)
    options = overlay_options(len(layers))
    _in_folder(folder, lambda libc: libc.mount(b"overlay", b"merged", b"overlay", _MS_NODEV, options.encode()))


def mount_inside(namespace: BuildNamespace, store: Path, folder: Path, layers: Sequence[Path]) -> None:
    """Like mount_overlay, for a namespace: its uid 0 owns there what uid 0 owns on disk. `store` holds the folder
    and the layers. Raises OSError."""
    _link_layers(folder, layers)
    tree = namespace.overlay(store, folder, overlay_options(len(layers)))
    try:
        attach_tree(tree, folder / "merged")
    finally:
        os.close(tree)


def _link_layers(folder: Path, layers: Sequence[Path]) -> None:
    """Name the layers by short links. They are relative: the folders may be mounted elsewhere."""
    links = folder / "l"
    links.mkdir(exist_ok=True)
    for number, layer in enumerate(layers):
        (links / str(number)).unlink(missing_ok=True)
        (links / str(number)).symlink_to(os.path.relpath(layer, links))


def overlay_options(layers: int) -> str:
    """The options of a mount that is made in a container's folder, over this number of layers."""
    lower = ":".join(f"l/{number}" for number in range(layers))
    return f"lowerdir={lower},upperdir=upper,workdir=work,{_OPTIONS}"


def unmount(mount_point: Path) -> None:
    """Unmount, at once or as soon as nothing uses it any more; does nothing if nothing is mounted there."""
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_NOFOLLOW, _NOFOLLOW | _DETACH):
        if libc.umount2(os.fsencode(mount_point), flags) == 0:
            return
        if ctypes.get_errno() in (errno.EINVAL, errno.ENOENT):
            return
        if ctypes.get_errno() != errno.EBUSY:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(mount_point))


def is_mounted(mount_point: Path) -> bool:
    """Whether a folder is the root of a mount."""
    try:
        return mount_point.stat().st_dev != mount_point.parent.stat().st_dev
    except OSError:
        return False


def mounted_below(root: Path) -> tuple[str, ...]:
    """Mount points below a folder in this mount namespace, deepest first."""
    prefix = str(root.resolve()) + "/"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounts = [_unescape(line.split()[4]) for line in lines]
    return tuple(sorted((mount for mount in mounts if mount.startswith(prefix)), reverse=True))


def _unescape(field: str) -> str:
    """Decode a path of mountinfo, which writes blanks and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


def _in_folder(folder: Path, call: Callable[[ctypes.CDLL], int]) -> None:
    """Call with libc in a thread whose working directory is a folder; the others keep theirs."""
    code: list[int] = []

    def work() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_FS):
            code.append(ctypes.get_errno())
            return
        try:
            os.chdir(folder)
        except OSError as error:
            code.append(error.errno or errno.EIO)
            return
        code.append(ctypes.get_errno() if call(libc) else 0)

    thread = threading.Thread(target=work, name="mount")
    thread.start()
    thread.join()
    if code[0]:
        raise OSError(code[0], os.strerror(code[0]), str(folder / "merged"))
