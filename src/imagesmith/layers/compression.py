"""Compression of layers: reads gzip, zstd and none; writes gzip with isal, in one pass with both digests.

isal makes the same bytes for the same input and version. A blob that is kept is never compressed again, because
another version may make other bytes, and so another digest.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from isal import igzip, igzip_lib, isal_zlib

from imagesmith.layers.entries import LayerError
from imagesmith.layers.writer import WriterSettings, write_layer

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

GZIP = "gzip"
ZSTD = "zstd"
PLAIN = ""

_LEVEL = 2
_CHUNK = 1 << 18
_WAITING = 8
"""Chunks of a megabyte between the reader of the files and the compressor."""
_GZIP_MEMBER = 31
_ISAL_ERROR = cast(type[Exception], igzip_lib.error)
_MAGIC = ((b"\x1f\x8b", GZIP), (b"\x28\xb5\x2f\xfd", ZSTD))
_SKIPPABLE = (0x184D2A50, 0x184D2A5F)
_WINDOW_LOG = 27
"""Memory for reading zstd: 128 MiB, what its own tool allows."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


def compression_settings() -> Mapping[str, str | int]:
    """What decides over the bytes of a blob besides its archive."""
    return {"format": GZIP, "library": f"isal {version('isal')}", "level": _LEVEL}


@dataclass(frozen=True)
class PackedLayer:
    """A layer as an archive and as a blob; `entries` is 0 for a layer that changes nothing, -1 if not counted."""

    diff_id: str
    size: int
    digest: str
    blob_size: int
    entries: int
    dropped: str = ""
    """Lines with the files that were left out."""


def pack_layer(
    upper: Path | int,
    blob: BinaryIO,
    *,
    lowers: tuple[Path | int, ...] = (),
    settings: WriterSettings | None = None,
    check: Callable[[], object] = lambda: None,
) -> PackedLayer:
    """Write the layer of an upper folder as a gzip blob, in one pass. Raises LayerError, OSError."""
    archive = hashlib.sha256()
    packer = _Packer(blob)
    with ThreadPoolExecutor(1, thread_name_prefix="layer") as pool:
        waiting: list[Future[None]] = []

        def take(chunk: bytes) -> None:
            while len(waiting) >= _WAITING:
                waiting.pop(0).result()
            waiting.append(pool.submit(packer.add, chunk))
            archive.update(chunk)

        try:
            written = write_layer(upper, take, lowers=lowers, settings=settings, check=check)
        finally:
            pool.shutdown(wait=True, cancel_futures=sys.exc_info()[0] is not None)
        for done in waiting:
            done.result()
    packer.end()
    return PackedLayer(
        diff_id=f"sha256:{archive.hexdigest()}",
        size=written.size,
        digest=f"sha256:{packer.digest.hexdigest()}",
        blob_size=packer.size,
        entries=written.entries,
        dropped="\n".join(written.dropped),
    )


def pack_archive(source: BinaryIO, blob: BinaryIO, *, check: Callable[[], object] = lambda: None) -> PackedLayer:
    """Write the archive in a file of any compression as a gzip blob. Raises LayerError, OSError."""
    start = source.read(4)
    source.seek(0)
    archive = Decompressed(CountedFile(source), compression_of(start))
    packer, size = _Packer(blob), 0
    while chunk := archive.read(_CHUNK):
        check()
        packer.add(chunk)
        size += len(chunk)
    packer.end()
    return PackedLayer(archive.diff_id, size, f"sha256:{packer.digest.hexdigest()}", packer.size, entries=-1)


class _Packer:
    """Compresses, digests and writes a blob; in a thread of its own, because all three release the interpreter."""

    def __init__(self, blob: BinaryIO) -> None:
        self._blob = blob
        self._compressor = isal_zlib.compressobj(level=_LEVEL, wbits=_GZIP_MEMBER)
        self.digest = hashlib.sha256()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        self._keep(self._compressor.compress(chunk))

    def end(self) -> None:
        self._keep(self._compressor.flush())

    def _keep(self, data: bytes) -> None:
        self.digest.update(data)
        self._blob.write(data)
        self.size += len(data)


class CountedFile:
    """A file whose bytes are counted and digested as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        self.count += len(data)
        return data

    def readinto(self, target: bytearray | memoryview, /) -> int:
        """As the reader of gzip wants it."""
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


class Decompressed:
    """The archive in a blob, digested as it is read. Faults of the compression are LayerErrors."""

    def __init__(self, file: CountedFile, compression: str) -> None:
        self._archive = hashlib.sha256()
        self._chunk = b""
        self._position = 0
        self._reader: _Source = file
        if compression == GZIP:
            self._reader = igzip.IGzipFile(fileobj=file, mode="rb")  # type: ignore[no-untyped-call]
        elif compression == ZSTD:
            self._reader = ZstdFile(cast(BinaryIO, file), "rb", options=_zstd_options())

    def read(self, size: int, /) -> bytes:
        """At most this many bytes; fewer only where a chunk ends. Raises LayerError."""
        if self._position == len(self._chunk):
            self._chunk, self._position = self._next(), 0
        data = self._chunk[self._position : self._position + size]
        self._position += len(data)
        return data

    def _next(self) -> bytes:
        try:
            data = self._reader.read(_CHUNK)
        except (EOFError, zlib.error, ZstdError, _ISAL_ERROR) as error:
            raise LayerError(f"the blob cannot be uncompressed: {error}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            # what the reader of gzip raises for a wrong header or checksum
            raise LayerError(f"the blob cannot be uncompressed: {error}") from error
        self._archive.update(data)
        return data

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._archive.hexdigest()}"


def compression_of(start: bytes) -> str:
    """The compression of a blob by its first bytes, which tell more than its media type."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    if len(start) >= 4 and _SKIPPABLE[0] <= int.from_bytes(start[:4], "little") <= _SKIPPABLE[1]:
        return ZSTD
    return PLAIN


def _zstd_options() -> dict[int, int]:
    if sys.version_info >= (3, 14):
        from compression.zstd import DecompressionParameter
    else:
        from backports.zstd import DecompressionParameter
    return {int(DecompressionParameter.window_log_max): _WINDOW_LOG}
