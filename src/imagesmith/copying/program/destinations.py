"""Where a file or a folder's contents go: the rules of slashes, folders that are there and folders to make."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from imagesmith.copying.program.failures import CopyBudget, UserFailure, about, shown
from imagesmith.copying.program.metadata import Wanted, set_new_folder
from imagesmith.copying.program.roots import FOLDER, RootFolder, status_in, text_of
from imagesmith.copying.program.trees import TargetFolder, kind_of


@dataclass
class CopyDestination:
    """The last word of an instruction, in a target root."""

    root: RootFolder
    path: str
    """From the root; with the slash at its end, if it has one."""
    wanted: Wanted
    budget: CopyBudget

    @classmethod
    def parse(cls, text: str, folder: str, root: RootFolder, wanted: Wanted, budget: CopyBudget) -> CopyDestination:
        """`folder` is the working folder, where a relative path begins."""
        path = posixpath.join("/", folder, text)
        # a doubled slash at the beginning has no meaning here
        clean = "/" + posixpath.normpath(path).lstrip("/")
        if (path.endswith(("/", "/.")) or text in ("", ".")) and clean != "/":
            clean += "/"
        return cls(root, clean, wanted, budget)

    @property
    def is_folder(self) -> bool:
        """Whether it is written as a folder."""
        return self.path.endswith("/")

    def is_there_as_folder(self) -> bool:
        there = self.root.status(self.root.resolve(self.path))
        return there is not None and stat.S_ISDIR(there.st_mode)

    @contextmanager
    def file(self, name: str) -> Iterator[tuple[TargetFolder, str]]:
        """The folder and the name that a file called `name` gets; folders on the way are made."""
        self._make_named_folders()
        names = self.root.resolve(self.path)
        there = self.root.status(names)
        if there is not None and stat.S_ISDIR(there.st_mode):
            names = (*names, name)
        elif self.is_folder and there is not None:
            raise UserFailure(f"{shown(self.path)} is {kind_of(there)}, no folder")
        with self._opened(names[:-1]) as folder:
            yield folder, names[-1]

    @contextmanager
    def folder(self) -> Iterator[TargetFolder]:
        """The folder that the contents of a folder go into, made if it is missing."""
        self._make_named_folders()
        names = self.root.resolve(self.path)
        there = self.root.status(names)
        if there is not None and not stat.S_ISDIR(there.st_mode):
            raise UserFailure(
                f"cannot copy to non-directory: {shown(text_of(names))}: {kind_of(there)} is there, and the source "
                "is a folder; remove it with a RUN before, or copy into another folder"
            )
        with self._opened(names) as folder:
            yield folder

    def _make_named_folders(self) -> None:
        """Make what is written before the last slash: a link at the end of the path may lead elsewhere."""
        make_folders(self.root, self.root.resolve(posixpath.dirname(self.path)), self.wanted, self.budget)

    @contextmanager
    def _opened(self, names: tuple[str, ...]) -> Iterator[TargetFolder]:
        make_folders(self.root, names, self.wanted, self.budget)
        with about(text_of(names)), self.root.folder(names) as descriptor:
            yield TargetFolder(names, descriptor=descriptor)


def make_folders(root: RootFolder, names: tuple[str, ...], wanted: Wanted, budget: CopyBudget) -> None:
    """Make the missing folders of a path without links, with the owner and mode that new folders get."""
    descriptor = os.open(".", FOLDER, dir_fd=root.descriptor)
    try:
        for number, name in enumerate(names):
            path = text_of(names[: number + 1])
            with about(path):
                there = status_in(descriptor, name)
                if there is not None and not stat.S_ISDIR(there.st_mode):
                    raise UserFailure(
                        f"cannot make the folder {shown(text_of(names))}: {shown(path)} is {kind_of(there)}; "
                        "remove it with a RUN before, or choose another destination"
                    )
                if there is None:
                    budget.entry()
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                inner = os.open(name, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
                if there is None:
                    set_new_folder(descriptor, wanted)
    finally:
        os.close(descriptor)
