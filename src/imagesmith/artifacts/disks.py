"""Disks by digest in the data directory, all of them qcow2 without a backing file.

    disks/
      sha256/<hex>         one disk, read-only; its name is the digest of its bytes
      documents/<hex>/     what is known about it: inventory, provenance
      drafts/<pid>-...     being written; those of dead processes are removed by sweep()

A disk appears under its name only when it is whole and on the medium: write, fsync, rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.processes import Cancellation, ProcessFailed

EXPORT_FORMATS = ("raw", "vmdk", "vhd")
_CONVERT_SECONDS = 4 * 3600.0
_OPTIONS = {
    "qcow2": ["-O", "qcow2"],
    "raw": ["-O", "raw"],
    "vmdk": ["-O", "vmdk", "-o", "subformat=streamOptimized"],
    "vhd": ["-O", "vpc", "-o", "subformat=dynamic,force_size=on"],
}
_MAGIC = b"QFI\xfb"
_SECTOR = 512
_LARGEST = 2 * 1024**4
_EXTERNAL_DATA = 1 << 2


class DiskError(RuntimeError):
    """A disk that cannot be had, read or written: says which, why, and what to try."""


@dataclass(frozen=True)
class Disk:
    """A disk of the store."""

    digest: str
    path: Path
    size: int
    """Bytes of the file."""
    virtual_size: int
    """Bytes that a guest sees."""


Obtain = Callable[[Path, str], None]
"""Writes a disk that is not here, by its digest, to a new file. Raises SharedStoreError."""


class DiskStore:
    """The disks of one data directory."""

    def __init__(self, folder: Path, *, obtain: Obtain | None = None) -> None:
        self.folder = folder
        self._obtain = obtain
        self._kept = folder / "sha256"
        self._drafts = folder / "drafts"
        for place in (self._kept, self._drafts):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, digest: str) -> Disk:
        """A disk by its digest, which is obtained first when it is not here. Raises DiskError."""
        path = self._path(digest)
        if self._obtain is not None and not path.exists():
            self._bring(self._obtain, digest)
        try:
            return Disk(digest, path, path.stat().st_size, examine(path).virtual_size)
        except OSError as error:
            raise DiskError(f"the disk {digest} is not in {self.folder}: {error.strerror}") from error

    def _bring(self, obtain: Obtain, digest: str) -> None:
        with self.draft() as draft:
            try:
                obtain(draft, digest)
            except SharedStoreError as error:
                raise DiskError(f"the disk {digest} is not in {self.folder}: {error}") from error
            self.keep(draft)

    def digests(self) -> list[str]:
        return sorted(f"sha256:{place.name}" for place in self._kept.iterdir())

    def remove(self, digest: str) -> None:
        self._path(digest).unlink(missing_ok=True)
        shutil.rmtree(self._documents(digest), ignore_errors=True)

    def attach(self, digest: str, name: str, data: bytes) -> None:
        """Keep a document beside a disk, instead of an earlier one of this name. Raises OSError."""
        folder = self._documents(digest)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(folder / name)
        finally:
            draft.unlink(missing_ok=True)

    def documents(self, digest: str) -> dict[str, Path]:
        """The documents beside a disk, by name."""
        folder = self._documents(digest)
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return {place.name: place for place in found if not place.name.startswith(".")}

    def check(self, digest: str) -> None:
        """Read a disk to its end and compare it with its name. Raises DiskError."""
        with self.get(digest).path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != f"sha256:{found}":
            raise DiskError(f"the disk {digest} is damaged: its bytes have the digest sha256:{found}")

    @contextlib.contextmanager
    def draft(self) -> Iterator[Path]:
        """A place to write a disk to, before `keep`; gone at the end."""
        path = self._drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, draft: Path) -> Disk:
        """Take a written qcow2 disk into the store under its digest. Raises DiskError, OSError."""
        virtual = examine(draft).virtual_size
        with draft.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())
        target = self._kept / digest
        draft.replace(target)
        folder = os.open(self._kept, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Disk(f"sha256:{digest}", target, target.stat().st_size, virtual)

    def capture(self, source: Path, *, cancellation: Cancellation | None = None) -> Disk:
        """A compressed, sparse copy of a disk with everything it is an overlay of. Raises DiskError, Cancelled.

        `source` must be ours: QEMU follows the backing file that it names.
        """
        with self.draft() as draft:
            options = ["-c", "-m", "4", *_OPTIONS["qcow2"], "-o", "compression_type=zstd"]
            _convert(["-f", "qcow2", *options, str(source), str(draft)], cancellation)
            return self.keep(draft)

    def enlarge(self, digest: str, size: int, *, cancellation: Cancellation | None = None) -> Disk:
        """A copy of a disk with `size` bytes, the new ones zero. Raises DiskError, Cancelled."""
        disk = self.get(digest)
        with self.draft() as draft:
            shutil.copyfile(disk.path, draft)
            _qemu_img(["resize", "-q", "-f", "qcow2", str(draft), str(size)], "enlarging a disk", cancellation)
            return self.keep(draft)

    def take(self, source: Path, *, cancellation: Cancellation | None = None) -> Disk:
        """A copy of anybody's raw or qcow2 disk. Raises DiskError, Cancelled."""
        found = examine(source)
        with self.draft() as draft:
            options = ["-m", "4", *_OPTIONS["qcow2"]]
            if found.format == "raw":
                options += ["-c", "-o", "compression_type=zstd"]
                _convert(["-f", "raw", *options, str(source), str(draft)], cancellation)
            else:
                shutil.copyfile(source, draft)
            return self.keep(draft)

    def export(self, digest: str, target: Path, form: str, *, cancellation: Cancellation | None = None) -> None:
        """Write a disk as `raw`, `vmdk`, `vhd` or `qcow2`; `target` appears when it is whole. Raises DiskError."""
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            self.write(digest, draft, form, cancellation=cancellation)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError as error:
            raise DiskError(f"{target} cannot be written: {error.strerror}") from error
        finally:
            draft.unlink(missing_ok=True)

    def write(self, digest: str, target: Path, form: str, *, cancellation: Cancellation | None = None) -> None:
        """As export, to a file that the caller keeps out of sight until it is whole."""
        if form not in _OPTIONS:
            raise DiskError(f"'{form}' is no format for a disk; known are {', '.join(_OPTIONS)}")
        disk = self.get(digest)
        _convert(["-f", "qcow2", "-m", "4", *_OPTIONS[form], str(disk.path), str(target)], cancellation)

    def sweep(self) -> list[str]:
        """Remove what dead processes left half written; give the names."""
        gone = [
            place for place in self._drafts.iterdir() if not Path("/proc", place.name.partition("-")[0]).exists()
        ]
        for place in gone:
            place.unlink(missing_ok=True)
        return sorted(place.name for place in gone)

    def _documents(self, digest: str) -> Path:
        return self.folder / "documents" / self._path(digest).name

    def _path(self, digest: str) -> Path:
        kind, _, name = digest.partition(":")
        if kind != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise DiskError(f"'{digest}' is no digest of a disk")
        return self._kept / name


@dataclass(frozen=True)
class Examined:
    """What a file turned out to be."""

    format: str
    virtual_size: int


def examine(path: Path) -> Examined:
    """Tell raw from qcow2 by the first bytes, without any tool, and refuse what would make one read other files.

    A qcow2 file may name a backing file or a data file anywhere on this machine, and so may a VMDK; such disks are
    refused before QEMU sees them. Raises DiskError.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_SECTOR)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DiskError(f"{path} cannot be read: {error.strerror}") from error
    if header[:4] == _MAGIC:
        return Examined("qcow2", _qcow2_size(path, header))
    for magic, name in ((b"KDMV", "vmdk"), (b"# Disk Desc", "vmdk"), (b"conectix", "vhd"), (b"vhdxfile", "vhdx")):
        if header.startswith(magic):
            raise DiskError(f"{path} is a {name} disk; make a qcow2 of it first, with qemu-img convert -O qcow2")
    if header[510:512] != b"\x55\xaa" or size % _SECTOR:
        raise DiskError(f"{path} is no disk: it is neither qcow2 nor a raw disk with a partition table")
    return Examined("raw", _bounded(path, size))


def _qcow2_size(path: Path, header: bytes) -> int:
    version = int.from_bytes(header[4:8], "big")
    backing = int.from_bytes(header[8:16], "big")
    encryption = int.from_bytes(header[32:36], "big")
    features = int.from_bytes(header[72:80], "big") if version >= 3 else 0
    if version not in (2, 3):
        raise DiskError(f"{path}: qcow2 version {version} is not known")
    if backing or features & _EXTERNAL_DATA:
        raise DiskError(f"{path} names another file that it needs; flatten it first: qemu-img convert -O qcow2")
    if encryption:
        raise DiskError(f"{path} is encrypted")
    return _bounded(path, int.from_bytes(header[24:32], "big"))


def _bounded(path: Path, size: int) -> int:
    if not 0 < size <= _LARGEST:
        raise DiskError(f"{path} has a size of {size} bytes; at most {_LARGEST} are taken")
    return size


def _convert(arguments: list[str], cancellation: Cancellation | None) -> None:
    _qemu_img(["convert", *arguments], "copying a disk", cancellation)


def _qemu_img(arguments: list[str], what: str, cancellation: Cancellation | None) -> None:
    try:
        processes.check(["qemu-img", *arguments], what=what, timeout=_CONVERT_SECONDS, cancellation=cancellation)
    except FileNotFoundError as error:
        raise DiskError("qemu-img is not installed; try: apt-get install qemu-utils") from error
    except ProcessFailed as error:
        raise DiskError(str(error)) from error
