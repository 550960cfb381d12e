"""Reads the layers below a layer as the overlay merges them, one folder at a time and without following a link.

A folder of the merged tree is the folders of that path in the layers, top first, down to the first layer that hides
the rest: by a whiteout, by another kind of file, or by an opaque folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagesmith.layers.overlay_form import is_opaque, is_whiteout, open_folder, open_root


class MergedFolder:
    """Open folders of one path, top layer first; empty if no layer has the path. Use as a context manager."""

    def __init__(self, folders: Sequence[int]) -> None:
        self.folders = folders

    def __enter__(self) -> MergedFolder:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self.folders:
            os.close(folder)

    def __bool__(self) -> bool:
        return bool(self.folders)

    def find(self, name: bytes) -> tuple[int, os.stat_result] | None:
        """The folder that shows a name, and the status of the file; None if nothing is there."""
        for folder in self.folders:
            try:
                status = os.lstat(name, dir_fd=folder)
            except FileNotFoundError:
                continue
            return None if is_whiteout(status) else (folder, status)
        return None

    def enter(self, name: bytes) -> MergedFolder:
        """The folder of this name; empty if there is none."""
        found: list[int] = []
        try:
            for folder in self.folders:
                try:
                    status = os.lstat(name, dir_fd=folder)
                except FileNotFoundError:
                    continue
                child = open_folder(name, folder) if stat.S_ISDIR(status.st_mode) else None
                if child is None:
                    break
                found.append(child)
                if is_opaque(child):
                    break
        except BaseException:
            MergedFolder(found).__exit__()
            raise
        return MergedFolder(found)


@contextmanager
def merged_root(layers: Iterable[Path | int]) -> Iterator[MergedFolder]:
    """The root of layers, top first."""
    folders: list[int] = []
    try:
        for layer in layers:
            folders.append(open_root(layer))
            if is_opaque(folders[-1]):
                break
        yield MergedFolder(folders)
    finally:
        for folder in folders:
            os.close(folder)


@contextmanager
def merged_folder(root: MergedFolder, components: Sequence[bytes]) -> Iterator[MergedFolder]:
    """The folder of a path below a root; empty if there is none."""
    current = root
    try:
        for name in components:
            following = current.enter(name)
            if current is not root:
                current.__exit__()
            current = following
        yield current
    finally:
        if current is not root:
            current.__exit__()
