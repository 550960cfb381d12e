"""`--link`: the files go into an empty folder first, which is then laid over the target.

So nothing of the target is looked at: links in the path of the destination are replaced by folders, and folders on
the way get the owner and mode of new ones, as in a layer of its own.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from imagesmith.copying.program.failures import CopyBudget, UserFailure, about, shown
from imagesmith.copying.program.metadata import copy_attributes, set_owner, set_times
from imagesmith.copying.program.owners import Owner
from imagesmith.copying.program.roots import FOLDER, RootFolder, open_folder_in, status_in


@contextmanager
def linked(target: RootFolder, budget: CopyBudget) -> Iterator[RootFolder]:
    """An empty root on the target's file system; what is in it at the end is laid over the target."""
    top = os.open(".", FOLDER, dir_fd=target.descriptor)
    name = f".imagesmith-link-{secrets.token_hex(8)}"
    before = os.fstat(top)
    try:
        os.mkdir(name, 0o755, dir_fd=top)
        own = open_folder_in(top, name)
        try:
            yield RootFolder(own)
            names = os.listdir(own)
            with about("/"):
                _lay_over(own, top, "", budget)
        finally:
            os.close(own)
        os.rmdir(name, dir_fd=top)
        if not names:
            set_times(top, before)
    finally:
        os.close(top)


def _lay_over(source: int, target: int, path: str, budget: CopyBudget) -> None:
    for name in sorted(os.listdir(source)):
        budget.check_time()
        inner = f"{path}/{name}"
        with about(inner):
            new = os.stat(name, dir_fd=source, follow_symlinks=False)
            there = status_in(target, name)
            if there is not None and stat.S_ISDIR(new.st_mode) and stat.S_ISDIR(there.st_mode):
                _merge(name, source, target, inner, budget)
                continue
            if there is not None:
                if stat.S_ISDIR(there.st_mode):
                    raise UserFailure(
                        f"with --link the folder {shown(inner)} of the image would be replaced by a file: end the "
                        "destination with a slash, or leave out --link"
                    )
                os.unlink(name, dir_fd=target)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)


def _merge(name: str, source: int, target: int, path: str, budget: CopyBudget) -> None:
    new = open_folder_in(source, name)
    old = open_folder_in(target, name)
    try:
        status = os.fstat(new)
        _lay_over(new, old, path, budget)
        set_owner(old, Owner(status.st_uid, status.st_gid))
        os.fchmod(old, stat.S_IMODE(status.st_mode))
        copy_attributes(new, old, has_mode=False)
        set_times(old, status)
    finally:
        os.close(old)
        os.close(new)
    os.rmdir(name, dir_fd=source)
