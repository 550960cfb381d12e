"""Unpacks the archives of `ADD --unpack`: tar, also compressed with gzip, bzip2, xz or zstd, told by their content.

Names in an archive are resolved in the folder that it is unpacked into, links included: none leads out of it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, Self, cast

from imagesmith.copying.program.contents import write_all
from imagesmith.copying.program.failures import CopyBudget, UserFailure, about, reason, shown
from imagesmith.copying.program.metadata import is_copied, set_mode_in, set_owner_in
from imagesmith.copying.program.owners import Owner
from imagesmith.copying.program.roots import FOLDER, RootFolder, status_in, text_of

_PIECE: Final = 1024 * 1024
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTRIBUTE: Final = "SCHILY.xattr."
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UNREADABLE: Final = (
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    gzip.BadGzipFile,
    ValueError,
    OverflowError,
    MemoryError,
)
_ENDS: Final = ("EOFHeaderError", "EmptyHeaderError")
"""What the library raises at the end of an archive; it has no public names for them."""
_LONGEST: Final = 2**63 // 10**9 - 1


def is_archive(file: IO[bytes]) -> bool:
    """Whether a file begins as a tar archive, compressed or not.

    Raises UserFailure for damaged compression: half of an archive is no other file.
    """
    try:
        with _decompressed(file) as stream, _opened(stream) as archive:
            return archive.next() is not None
    except tarfile.TarError:
        return False
    except (*_UNREADABLE, OSError) as error:
        raise _unreadable(error) from error
    finally:
        file.seek(0)


def unpack(file: IO[bytes], folder: int, path: str, owner: Owner | None, budget: CopyBudget) -> None:
    """Unpack an archive into an open folder. Raises UserFailure."""
    unpacking = _ArchiveUnpacking(RootFolder(folder), owner, budget)
    try:
        with _decompressed(file) as stream, _opened(stream) as archive:
            while (member := archive.next()) is not None:
                with about(f"{path.rstrip('/')}/{member.name}"):
                    unpacking.add(archive, member)
                cast("Any", archive).members.clear()  # it keeps all
            _read_to_end(stream, budget)
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    unpacking.finish()


def _unreadable(error: BaseException) -> UserFailure:
    return UserFailure(f"the archive cannot be read: {shown(str(error)) or type(error).__name__}")


class _Header(tarfile.TarInfo):
    """A header that is damaged is an error wherever it stands; the library takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if type(error).__name__ in _ENDS:
                raise
            raise tarfile.ReadError(str(error)) from error


def _opened(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header)


def _read_to_end(stream: IO[bytes], budget: CopyBudget) -> None:
    """Read what follows the archive: the end of a compressed file holds its check sum."""
    left = budget.size
    while left > 0 and (data := stream.read(_PIECE)):
        left -= len(data)
        budget.check_time()


class _ArchiveUnpacking:
    def __init__(self, root: RootFolder, owner: Owner | None, budget: CopyBudget) -> None:
        self._root = root
        self._owner = owner
        self._budget = budget
        self._times: dict[tuple[str, ...], float] = {}

    def add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        names = self._names(member.name)
        if not names:
            return
        self._budget.entry()
        self._budget.check_depth(len(names), member.name)
        if member.isdir():
            self._folder(names, member)
            return
        above = self._root.resolve(text_of(names[:-1]))
        self._make_above(above)
        with self._root.deep_folder(above) as folder:
            _remove(folder, names[-1], self._budget)
            self._item(archive, member, folder, names[-1])

    def finish(self) -> None:
        """Set the times of folders, which their content has changed."""
        for names, modified in reversed(self._times.items()):
            with about(text_of(names)), self._root.deep_folder(names) as folder:
                os.utime(folder, (modified, modified))

    def _names(self, name: str) -> tuple[str, ...]:
        words = [word for word in name.split("/") if word not in ("", ".")]
        done: list[str] = []
        for word in words:
            if word == "..":
                if not done:
                    raise UserFailure("the name of the archive's entry leads out of the destination")
                done.pop()
            else:
                done.append(word)
        return tuple(done)

    def _make_above(self, names: tuple[str, ...]) -> None:
        descriptor = os.open(".", FOLDER, dir_fd=self._root.descriptor)
        try:
            for name in names:
                if status_in(descriptor, name) is None:
                    self._budget.entry()
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                    set_owner_in(descriptor, name, Owner(0, 0))
                    set_mode_in(descriptor, name, 0o755)
                inner = os.open(name, FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
        finally:
            os.close(descriptor)

    def _folder(self, names: tuple[str, ...], member: tarfile.TarInfo) -> None:
        names = self._root.resolve(text_of(names))
        if not names:
            return
        self._make_above(names[:-1])
        with self._root.deep_folder(names[:-1]) as above:
            there = status_in(above, names[-1])
            if there is not None and not stat.S_ISDIR(there.st_mode):
                os.unlink(names[-1], dir_fd=above)
                there = None
            if there is None:
                os.mkdir(names[-1], 0o700, dir_fd=above)
            self._own(above, names[-1], member)
        with self._root.deep_folder(names) as folder:
            _set_attributes(folder, member)
        self._times[names] = _time(member)

    def _item(self, archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str) -> None:
        if member.islnk():
            self._hard_link(member, folder, name)
            return
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
            set_owner_in(folder, name, self._owner or Owner(member.uid, member.gid))
        elif member.isfile():
            self._file(archive, member, folder, name)
        else:
            self._special(member, folder, name)
            self._own(folder, name, member)
        os.utime(name, (_time(member), _time(member)), dir_fd=folder, follow_symlinks=False)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str) -> None:
        content = archive.extractfile(member)
        assert content is not None
        descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            while data := content.read(_PIECE):
                write_all(descriptor, data, self._budget)
            self._own(folder, name, member)
            _set_attributes(descriptor, member)
        finally:
            os.close(descriptor)

    def _hard_link(self, member: tarfile.TarInfo, folder: int, name: str) -> None:
        *above, first = self._names(member.linkname) or ("",)
        if not first:
            raise UserFailure("an archive's hard link names the destination itself")
        with self._root.deep_folder(self._root.resolve(text_of(above))) as other:
            os.link(first, name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)

    def _special(self, member: tarfile.TarInfo, folder: int, name: str) -> None:
        if member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=folder)
            return
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK if member.isblk() else 0
        if not kind:
            raise UserFailure(f"an archive's entry of type {member.type!r} cannot be unpacked")
        os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=folder)

    def _own(self, folder: int, name: str, member: tarfile.TarInfo) -> None:
        set_owner_in(folder, name, self._owner or Owner(member.uid, member.gid))
        set_mode_in(folder, name, member.mode & 0o7777)


def _set_attributes(descriptor: int, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_ATTRIBUTE)
        if key.startswith(_ATTRIBUTE) and is_copied(name):
            os.setxattr(descriptor, name, value.encode(errors="surrogateescape"))


def _time(member: tarfile.TarInfo) -> float:
    return member.mtime if 0 <= member.mtime <= _LONGEST else 0.0


def _remove(folder: int, name: str, budget: CopyBudget) -> None:
    """Remove what an entry of an archive replaces, with everything in it."""
    there = status_in(folder, name)
    if there is None:
        return
    if not stat.S_ISDIR(there.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    budget.check_time()
    try:
        shutil.rmtree(name, dir_fd=folder)
    except RecursionError:
        raise UserFailure(f"{shown(name)}: the folder that is replaced is nested too deep to be removed") from None


@contextmanager
def _decompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream of what a file holds, by its first bytes."""
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    if start.startswith(_ZSTD):
        with _zstd(file) as stream:
            yield stream
    elif start.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield cast("IO[bytes]", unzipped)
    elif start.startswith(b"BZh"):
        with bz2.BZ2File(file) as unzipped2:
            yield cast("IO[bytes]", unzipped2)
    elif start == b"\xfd7zXZ\x00":
        with lzma.LZMAFile(file, format=lzma.FORMAT_XZ) as unxzed:
            yield cast("IO[bytes]", unxzed)
    else:
        yield file


@contextmanager
def _zstd(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Python has no zstd in its library before 3.14."""
    argv = ["zstd", "--decompress", "--stdout", "--quiet"]
    try:
        process = subprocess.Popen(argv, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise UserFailure(f"an archive of zstd needs the program zstd on the server: {reason(error)}") from error
    with process:
        assert process.stdout is not None
        try:
            yield process.stdout
            _check_zstd(process, None)
        except tarfile.TarError as error:
            _check_zstd(process, error)
            raise
        finally:
            process.stdout.close()  # what it still has to write is not wanted
        process.wait()


def _check_zstd(process: subprocess.Popen[bytes], cause: Exception | None) -> None:
    """Raise EOFError if the program's output ended because it failed."""
    assert process.stdout is not None
    if process.stdout.read(1) == b"" and process.wait() != 0:
        raise EOFError("its compression with zstd is damaged") from cause
