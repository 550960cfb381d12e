"""Makes this process root of a user namespace of its own, for a server that an ordinary user starts.

    imagesmith serve  --unshare-->  root of a namespace: 0 is the user, 1 to 65535 are the user's subordinate ids
         '-- newuidmap, newgidmap, which wait outside, write the map

What follows is the same as for root, but for what the kernel gives only to root of the machine: ranges of ids for
each build, device nodes, and the control groups of version 1. The mounts are the process's own as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imagesmith import processes
from imagesmith.namespaces.id_maps import IdMap, IdRange, own_ids
from imagesmith.namespaces.maker import NamespaceError

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_SECONDS: Final = 30.0
# "$1" is the process; the maps follow, those of groups behind "--".
_WRITE_MAPS: Final = """\
read -r _ || exit 1
process=$1; shift; users=
while [ "$1" != -- ]; do users="$users $1"; shift; done; shift
newuidmap "$process" $users && newgidmap "$process" "$@"
"""
_SETTINGS: Final = (
    (Path("/proc/sys/user/max_user_namespaces"), "0", "sysctl user.max_user_namespaces=15000"),
    (Path("/proc/sys/kernel/unprivileged_userns_clone"), "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"), "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)  # fmt: skip
"""Settings that forbid namespaces to users, the value that does, and what root runs to allow them."""


def enter_own_namespace() -> IdMap:
    """Become root of a new user namespace, with its own mounts; returns its map. Call it before any thread exists.

    Raises NoIds without subordinate ids, and NamespaceError; both name the command that helps.
    """
    ids = own_ids()
    if threading.active_count() > 1 or len(list(Path("/proc/self/task").iterdir())) > 1:
        raise NamespaceError("a user namespace must be entered before the process starts threads")
    writer = _map_writer(ids)
    assert writer.stdin is not None and writer.stderr is not None
    libc = ctypes.CDLL(None, use_errno=True)
    with writer.stdin, writer.stderr:
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
            code = ctypes.get_errno()
            writer.stdin.close()
            writer.wait()
            raise _forbidden(code)
        with contextlib.suppress(BrokenPipeError):
            writer.stdin.write(b"\n")
            writer.stdin.close()
        said = writer.stderr.read().decode(errors="replace").strip()
        if writer.wait(_SECONDS) != 0:
            raise _forbidden(errno.EPERM, said or "newuidmap failed")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return ids


def _map_writer(ids: IdMap) -> subprocess.Popen[bytes]:
    """A program outside of the namespace that writes its maps once it reads a line."""
    words = [*_words(ids.users), "--", *_words(ids.groups)]
    return processes.start(
        ["sh", "-c", _WRITE_MAPS, "maps", str(os.getpid()), *words],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _words(parts: Sequence[IdRange]) -> list[str]:
    return [str(number) for part in parts for number in (part.inside, part.outside, part.count)]


def _forbidden(code: int, said: str = "") -> NamespaceError:
    """What stands in the way, with the command that root runs to remove it."""
    if "not found" in said:
        return NamespaceError(code, "newuidmap is missing: as root, `apt-get install uidmap`")
    for path, value, cure in _SETTINGS:
        with contextlib.suppress(OSError):
            if path.read_text().strip() == value:
                return NamespaceError(
                    code, f"this machine forbids user namespaces to ordinary users: as root, `{cure}`"
                )
    return NamespaceError(code, f"no user namespace can be made: {said or os.strerror(code)}")
