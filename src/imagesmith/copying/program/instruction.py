"""Carries out one instruction: each source in turn, in the order of the text."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final

from imagesmith.copying.program.contents import copy_content, write_all
from imagesmith.copying.program.destinations import CopyDestination
from imagesmith.copying.program.failures import CopyBudget, UserFailure, about, shown
from imagesmith.copying.program.links import linked
from imagesmith.copying.program.metadata import Wanted, set_owner
from imagesmith.copying.program.modes import ModeChange
from imagesmith.copying.program.owners import ROOT_OWNER, find_owner
from imagesmith.copying.program.patterns import PatternList, has_wildcards
from imagesmith.copying.program.roots import RootFolder, text_of
from imagesmith.copying.program.sources import FoundItem, check_plain_parents, find_items, missing, split_pivot
from imagesmith.copying.program.trees import TargetFolder, TreeCopy, remove_replaced

if TYPE_CHECKING:
    from imagesmith.copying.program import download

_TEXT_MODE: Final = stat.S_IFREG | 0o644
_DOWNLOAD_MODE: Final = stat.S_IFREG | 0o600
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SourceFailed(Exception):
    """A failure with the number of its source."""

    def __init__(self, message: str, source: int | None) -> None:
        super().__init__(message)
        self.source = source


@dataclass
class CopyOutcome:
    """What is reported when all went well."""

    unmatched: list[int] = field(default_factory=list)
    downloads: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class CopyingInstruction:
    """One COPY or ADD with its roots."""

    request: dict[str, Any]
    source: RootFolder | None
    target: RootFolder
    budget: CopyBudget
    outcome: CopyOutcome = field(default_factory=CopyOutcome)
    wanted: Wanted = field(default_factory=Wanted)

    def carry_out(self) -> CopyOutcome:
        """Raises SourceFailed."""
        with ExitStack() as stack:
            number: int | None = None
            try:
                root = self._target(stack)
                destination = CopyDestination.parse(
                    self.request["destination"], self.request["folder"], root, self.wanted, self.budget
                )
                for number, source in enumerate(self.request["sources"]):
                    with about(source.get("pattern") or source.get("name") or "the download"):
                        self._add(source, number, destination)
                number = None
                stack.close()
            except UserFailure as failure:
                raise SourceFailed(str(failure), number) from failure
            except OSError as error:
                raise SourceFailed(error.strerror or str(error), number) from error
        return self.outcome

    def _target(self, stack: ExitStack) -> RootFolder:
        """The root to write, after the flags were read. As in BuildKit, --chmod takes --link's effect away."""
        chmod, chown = self.request["chmod"], self.request["chown"]
        is_linked = self.request["link"] and not chmod
        self.wanted = Wanted(
            owner=find_owner(chown, self.target, names=not is_linked) if chown else None,
            mode=ModeChange.parse(chmod) if chmod else None,
        )
        return stack.enter_context(linked(self.target, self.budget)) if is_linked else self.target

    def _add(self, source: dict[str, Any], number: int, destination: CopyDestination) -> None:
        kind = source["kind"]
        if kind == "text":
            self._add_text(source["name"], base64.b64decode(source["content"]), destination)
        elif kind == "url":
            self._add_url(source, destination)
        elif self.request["parents"]:
            self._add_parents(source["pattern"], destination)
        elif not self._add_path(source["pattern"], destination):
            self.outcome.unmatched.append(number)

    # Files of the source root

    def _add_path(self, pattern: str, destination: CopyDestination) -> bool:
        """Whether anything matched; a pattern may match nothing, as in BuildKit."""
        source = self._source(pattern)
        found = find_items(source, pattern, self.budget)
        if not found and not has_wildcards(pattern):
            raise missing(source, pattern)
        excludes = PatternList(self.request["excludes"])
        kept = [item for item in found if item.is_folder or not _is_excluded(item, excludes)]
        self._check_single(pattern, [item for item in kept if not item.is_folder], destination)
        for item in kept:
            self._add_item(source, item, destination, PatternList(()), excludes)
        return bool(found)

    def _check_single(self, pattern: str, files: list[FoundItem], destination: CopyDestination) -> None:
        if len(files) > 1 and not destination.is_folder and not destination.is_there_as_folder():
            raise UserFailure(
                f"'{shown(pattern)}' matches {len(files)} files, which need a folder as destination: "
                f"write '{shown(self.request['destination'])}/'"
            )

    def _add_parents(self, pattern: str, destination: CopyDestination) -> None:
        source = self._source(pattern)
        pivot, below = split_pivot(pattern)
        if not has_wildcards(pattern):
            check_plain_parents(source, pivot, below)
        for item in find_items(source, pivot, self.budget):
            if item.is_folder:
                includes = PatternList([below]) if below else PatternList(())
                self._add_item(source, item, destination, includes, PatternList(self.request["excludes"]))

    def _add_item(
        self,
        source: RootFolder,
        item: FoundItem,
        destination: CopyDestination,
        includes: PatternList,
        excludes: PatternList,
    ) -> None:
        copy = TreeCopy(
            root=destination.root, wanted=self.wanted, budget=self.budget, includes=includes, excludes=excludes
        )
        if item.is_folder:
            with (
                destination.folder() as target,
                about(text_of(item.names)),
                source.deep_folder(item.names) as folder,
            ):
                copy.folder_contents(folder, target)
            return
        with destination.file(item.name) as (target, name), source.deep_folder(item.names[:-1]) as folder:
            copy.item(folder, item.names[-1], target, name)

    def _source(self, pattern: str) -> RootFolder:
        if self.source is None:
            raise UserFailure(f"there is nothing to copy '{shown(pattern)}' from")
        return self.source

    # Files that are made

    def _add_text(self, name: str, content: bytes, destination: CopyDestination) -> None:
        with destination.file(name) as (folder, target), _new_file(folder, target, self.budget) as file:
            write_all(file, content, self.budget)
            self._own(file, _TEXT_MODE)

    def _add_url(self, source: dict[str, Any], destination: CopyDestination) -> None:
        from imagesmith.copying.program import download  # other copies start sooner without it

        url = source["url"]
        name = download.file_name(url) if destination.is_folder or destination.is_there_as_folder() else "download"
        with download.opened(url, self.request["authorities"], self.budget) as response:
            if self.request["unpack"]:
                self._unpack_url(response, source["checksum"], destination, name)
                return
            with destination.file(name) as (folder, target), _new_file(folder, target, self.budget) as file:
                self._save(response, source["checksum"], file)
                self._finish(file, response)

    def _unpack_url(
        self, response: download.DownloadResponse, checksum: str, destination: CopyDestination, name: str
    ) -> None:
        """Unpack a download; what is no archive is copied as it is, like a local file."""
        from imagesmith.copying.program import archives

        with _unnamed_file(destination.root.descriptor) as file:
            self._save(response, checksum, file.fileno())
            if archives.is_archive(file):
                with destination.folder() as folder:
                    archives.unpack(file, folder.descriptor, folder.path, self.wanted.owner, self.budget)
                return
            with destination.file(name) as (folder, target), _new_file(folder, target, self.budget) as new:
                copy_content(file.fileno(), new, os.fstat(file.fileno()), self.budget)
                self._finish(new, response)

    def _save(self, response: download.DownloadResponse, checksum: str, file: int) -> None:
        from imagesmith.copying.program import download

        digest, size = download.save(response, lambda data: write_all(file, data, self.budget), self.budget)
        download.check_sum(response.url, checksum, digest)
        self.outcome.downloads.append({"url": response.url, "sha256": digest, "size": size})

    def _finish(self, descriptor: int, response: download.DownloadResponse) -> None:
        self._own(descriptor, _DOWNLOAD_MODE)
        os.utime(descriptor, (response.modified, response.modified))

    def _own(self, descriptor: int, mode: int) -> None:
        set_owner(descriptor, self.wanted.owner or ROOT_OWNER)
        os.fchmod(descriptor, self.wanted.mode_of(mode))


@contextmanager
def _new_file(folder: TargetFolder, name: str, budget: CopyBudget) -> Iterator[int]:
    with about(f"{folder.path.rstrip('/')}/{name}"):
        remove_replaced(folder.descriptor, name, folder.path)
        budget.entry()
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder.descriptor)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@contextmanager
def _unnamed_file(folder: int) -> Iterator[IO[bytes]]:
    """A temporary file on the target's file system; overlays have no O_TMPFILE before Linux 6.3."""
    name = f".imagesmith-{secrets.token_hex(8)}"
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
    os.unlink(name, dir_fd=folder)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        yield file


def _is_excluded(item: FoundItem, excludes: PatternList) -> bool:
    """Whether a file that a source names itself is left out: by its name, or by its path from the root."""
    return any(excludes.match(path)[0] for path in (item.name, "/".join(item.names)))
