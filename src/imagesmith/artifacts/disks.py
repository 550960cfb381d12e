"""Stores disks by digest in the data directory, all of them qcow2 without a backing file.

    disks/
      sha256/<hex>         one disk, read-only; its name is the digest of its bytes
      documents/<hex>/     documents about it: inventory, provenance
      drafts/<draft>/      being written; those of killed processes are removed by remove_leftovers()

A disk appears under its name only when it is complete and on the medium: write, fsync, rename.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.disk_formats import FORMATS, LARGEST_DISK, name_inside
from imagesmith.artifacts.intact import IntactFiles, digest_of_path
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.draft_folders import draft_folder, remove_abandoned
from imagesmith.files import move_atomically, write_atomically
from imagesmith.locks import file_lock
from imagesmith.processes import Cancellation, ProcessFailed

EXPORT_FORMATS = ("raw", "vmdk", "vhd")
_CONVERT_SECONDS = 4 * 3600.0
_MAGIC = b"QFI\xfb"
_SECTOR = 512
_EXTERNAL_DATA = 1 << 2


class DiskError(RuntimeError):
    """A disk cannot be obtained, read or written; the text says which, why, and what to try."""


@dataclass(frozen=True)
class Disk:
    """A disk of the store."""

    digest: str
    path: Path
    size: int
    """Bytes of the file."""
    virtual_size: int
    """Bytes of the disk, as a guest sees it."""


Obtain = Callable[[Path, str], None]
"""Writes a disk that is not here, by its digest, to a new file. Raises SharedStoreError."""


class DiskStore:
    """The disks of one data directory."""

    def __init__(self, folder: Path, *, obtain: Obtain | None = None) -> None:
        self.folder = folder
        self._obtain = obtain
        self._intact = IntactFiles()
        self._kept = folder / "sha256"
        self._drafts = folder / "drafts"
        self._lock = folder / "drafts.lock"
        for needed in (self._kept, self._drafts):
            needed.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, digest: str) -> Disk:
        """A disk by its digest; a missing one is obtained first. Raises DiskError."""
        path = self._path(digest)
        if self._obtain is not None and not path.exists():
            self._fetch(self._obtain, digest)
        try:
            return Disk(digest, path, path.stat().st_size, examine(path).virtual_size)
        except OSError as error:
            raise DiskError(f"the disk {digest} is not in {self.folder}: {path}: {error.strerror}") from error

    def _fetch(self, obtain: Obtain, digest: str) -> None:
        with self.draft() as draft:
            try:
                obtain(draft, digest)
            except SharedStoreError as error:
                raise DiskError(f"the disk {digest} is not in {self.folder}: {error}") from error
            self.keep(draft)

    def whole(self, digest: str, *, cancellation: Cancellation | None = None) -> Disk:
        """Like get, but checks the bytes against the digest; a damaged disk is obtained again.

        Raises DiskError, Cancelled.
        """
        path = self._path(digest)
        fault = self._intact.fault(path, digest, cancellation=cancellation)
        if fault and self._obtain is not None:
            self._fetch(self._obtain, digest)
            fault = self._intact.fault(path, digest, cancellation=cancellation)
        if fault and path.exists():
            raise DiskError(f"the disk {digest} {fault}: {path}; restore it from a backup, or rebuild its image")
        return self.get(digest)

    def digests(self) -> list[str]:
        return sorted(f"sha256:{path.name}" for path in self._kept.iterdir())

    def remove(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)
        shutil.rmtree(self._documents(digest), ignore_errors=True)

    def attach(self, digest: str, name: str, data: bytes) -> None:
        """Keep a document beside a disk; replaces an earlier one of this name. Raises OSError."""
        folder = self._documents(digest)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / name, data)

    def documents(self, digest: str) -> dict[str, Path]:
        """The documents beside a disk, by name."""
        folder = self._documents(digest)
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return {path.name: path for path in found if not path.name.startswith(".")}

    def check(self, digest: str) -> None:
        """Read a disk to its end and compare it with its name. Raises DiskError."""
        found = digest_of_path(self.get(digest).path)
        if digest != found:
            raise DiskError(f"the disk {digest} is damaged: its bytes have the digest {found}")

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """Path of a draft to write a disk to, before `keep`; removed at the end."""
        with self._draft_folder() as folder:
            yield folder / "disk"

    def _draft_folder(self) -> contextlib.AbstractContextManager[Path]:
        return draft_folder(self._drafts, lock=self._lock)

    def keep(self, draft: Path) -> Disk:
        """Take a written qcow2 disk into the store under its digest. Raises DiskError, OSError."""
        virtual = examine(draft).virtual_size
        digest = digest_of_path(draft)
        target = self._path(digest)
        move_atomically(draft, target, mode=0o400)
        return Disk(digest, target, target.stat().st_size, virtual)

    def capture(self, source: Path, *, cancellation: Cancellation | None = None) -> Disk:
        """A compressed, sparse copy of a disk with its backing chain. Raises DiskError, Cancelled.

        `source` must be trusted: QEMU follows the backing file that it names.
        """
        with self.draft() as draft:
            options = ["-c", "-m", "4", *FORMATS["qcow2"].options, "-o", "compression_type=zstd"]
            _convert(["-f", "qcow2", *options, str(source), str(draft)], cancellation)
            return self.keep(draft)

    def enlarge(self, digest: str, size: int, *, cancellation: Cancellation | None = None) -> Disk:
        """A copy of a disk with `size` bytes, the new ones zero. Raises DiskError, Cancelled."""
        disk = self.get(digest)
        with self.draft() as draft:
            shutil.copyfile(disk.path, draft)
            _qemu_img(["resize", "-q", "-f", "qcow2", str(draft), str(size)], "enlarging a disk", cancellation)
            return self.keep(draft)

    def take(self, source: Path, *, name: str = "", cancellation: Cancellation | None = None) -> Disk:
        """A copy of an untrusted raw or qcow2 disk; errors call it `name`. Raises DiskError, Cancelled."""
        found = examine(source, name)
        with self.draft() as draft:
            options = ["-m", "4", *FORMATS["qcow2"].options]
            if found.format == "raw":
                options += ["-c", "-o", "compression_type=zstd"]
                _convert(["-f", "raw", *options, str(source), str(draft)], cancellation)
            else:
                shutil.copyfile(source, draft)
            return self.keep(draft)

    def export(self, digest: str, target: Path, form: str, *, cancellation: Cancellation | None = None) -> None:
        """Write a disk as `raw`, `vmdk`, `vhd` or `qcow2`; `target` appears when complete. Raises DiskError."""
        try:
            with self._written(digest, target.parent, target.name, form, cancellation) as whole:
                move_atomically(whole, target)
        except OSError as error:
            raise DiskError(f"{target} cannot be written: {error.strerror}") from error

    @contextlib.contextmanager
    def exported(
        self, digest: str, name: str, form: str, *, cancellation: Cancellation | None = None
    ) -> Iterator[Path]:
        """Like export, to a file of that name that is removed at the end. Raises DiskError."""
        with self._written(digest, None, name, form, cancellation) as whole:
            yield whole

    @contextlib.contextmanager
    def _written(
        self, digest: str, beside: Path | None, name: str, form: str, cancellation: Cancellation | None
    ) -> Iterator[Path]:
        """Write a disk in a folder of its own, so that it has its final name at once; None: among the drafts."""
        if form not in FORMATS:
            raise DiskError(f"'{form}' is not a format for a disk; known formats: {', '.join(FORMATS)}")
        disk = self.whole(digest, cancellation=cancellation)
        refusal = FORMATS[form].refusal(disk.virtual_size)
        if refusal:
            raise DiskError(refusal)
        with self._draft_folder() if beside is None else _hidden_folder(beside) as folder:
            target = folder / name_inside(name, form)
            options = FORMATS[form].options
            _convert(["-f", "qcow2", "-m", "4", *options, str(disk.path), str(target)], cancellation)
            yield target

    def remove_leftovers(self) -> list[str]:
        """Remove the drafts of killed processes; returns their names."""
        with file_lock(self._lock):
            return remove_abandoned(self._drafts)

    def _documents(self, digest: str) -> Path:
        return self.folder / "documents" / self._path(digest).name

    def _path(self, digest: str) -> Path:
        kind, _, name = digest.partition(":")
        if kind != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise DiskError(f"'{digest}' is not the digest of a disk")
        return self._kept / name


@dataclass(frozen=True)
class Examined:
    """The detected format of a file."""

    format: str
    virtual_size: int


def examine(path: Path, name: str = "") -> Examined:
    """Distinguish raw from qcow2 by the first bytes, without any tool, and refuse disks that reference other files.

    A qcow2 file may name a backing file or a data file anywhere on this machine, and so may a VMDK; such disks are
    refused before QEMU sees them; errors call it `name`, by default its path. Raises DiskError.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            header = file.read(_SECTOR)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DiskError(f"{name} cannot be read: {error.strerror}") from error
    if header[:4] == _MAGIC:
        return Examined("qcow2", _qcow2_size(name, header))
    for magic, form in ((b"KDMV", "vmdk"), (b"# Disk Desc", "vmdk"), (b"conectix", "vhd"), (b"vhdxfile", "vhdx")):
        if header.startswith(magic):
            raise DiskError(f"{name} is a {form} disk; convert it first: qemu-img convert -O qcow2")
    if header[510:512] != b"\x55\xaa" or size % _SECTOR:
        raise DiskError(f"{name} is not a disk: it is neither qcow2 nor a raw disk with a partition table")
    return Examined("raw", _bounded(name, size))


def _qcow2_size(name: str, header: bytes) -> int:
    version = int.from_bytes(header[4:8], "big")
    backing = int.from_bytes(header[8:16], "big")
    encryption = int.from_bytes(header[32:36], "big")
    features = int.from_bytes(header[72:80], "big") if version >= 3 else 0
    if version not in (2, 3):
        raise DiskError(f"{name}: qcow2 version {version} is not known")
    if backing or features & _EXTERNAL_DATA:
        raise DiskError(f"{name} depends on another file; flatten it first: qemu-img convert -O qcow2")
    if encryption:
        raise DiskError(f"{name} is encrypted")
    return _bounded(name, int.from_bytes(header[24:32], "big"))


def _bounded(name: str, size: int) -> int:
    if not 0 < size <= LARGEST_DISK:
        raise DiskError(f"{name} has a size of {size} bytes; the limit is {LARGEST_DISK}")
    return size


@contextlib.contextmanager
def _hidden_folder(parent: Path) -> Iterator[Path]:
    """A folder on the file system of the target, which is renamed out of it; removed at the end."""
    with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _convert(arguments: list[str], cancellation: Cancellation | None) -> None:
    _qemu_img(["convert", *arguments], "copying a disk", cancellation)


def _qemu_img(arguments: list[str], what: str, cancellation: Cancellation | None) -> None:
    try:
        processes.check(["qemu-img", *arguments], what=what, timeout=_CONVERT_SECONDS, cancellation=cancellation)
    except FileNotFoundError as error:
        raise DiskError("qemu-img is not installed; try: apt-get install qemu-utils") from error
    except ProcessFailed as error:
        raise DiskError(str(error)) from error
