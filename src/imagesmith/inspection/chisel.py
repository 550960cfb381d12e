"""Packages of a chiselled Ubuntu, which has neither dpkg nor its database.

var/lib/chisel/manifest.wall    zstd; one JSON object a line:
                                {"jsonwall":"1.0","schema":"1.0","count":N}
                                {"kind":"package","name":"libc6","version":"2.39-0ubuntu8","sha256":"...","arch":"amd64"}
                                {"kind":"slice",...}, {"kind":"path","path":"/x","slices":["libc6_libs"],...}

The manifest does not name the source package of a package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from imagesmith.inspection.files import Files, Reading, UnreadableDatabase, damaged_words, opened
from imagesmith.inspection.packages import MAX_FIELD, MAX_FILE, MAX_PACKAGES, Package

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHISEL = "var/lib/chisel/manifest.wall"
_CHUNK = 256 * 1024
_MAX_LINE = 64 * 1024
_MAX_WINDOW = 27
"""Logarithm of the most memory for decompression: 128 MiB, zstd's own default."""


def read_chisel(files: Files, wanted: frozenset[str] = frozenset()) -> Reading:
    """The packages with present slices; see Reading."""
    packages: set[Package] = set()
    owners: dict[str, str] = {}
    damaged = 0
    problems: tuple[str, ...] = ()
    try:
        for line in _lines(files):
            entry = _entry(line)
            match entry.get("kind", ""):
                case "package" if len(packages) < MAX_PACKAGES:
                    name, version, architecture = (str(entry.get(key, "")) for key in ("name", "version", "arch"))
                    if not name or not version or max(map(len, (name, version, architecture))) > MAX_FIELD:
                        damaged += 1
                        continue
                    packages.add(Package(name, version, architecture, source=""))
                case "path" if str(entry.get("path", ""))[1:] in wanted:
                    slices = entry.get("slices")
                    if isinstance(slices, list) and slices:
                        owners[str(entry["path"])[1:]] = str(slices[0]).partition("_")[0]
                case "slice" | "path" | "content":
                    pass
                case _:
                    damaged += "jsonwall" not in entry
    except UnreadableDatabase as error:
        problems = (str(error),)
    return Reading(frozenset(packages), owners, (*problems, *damaged_words(CHISEL, damaged)))


def _entry(line: bytes) -> Mapping[str, Any]:
    try:
        entry = orjson.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _lines(files: Files) -> Iterator[bytes]:
    """The lines of the manifest, decompressed bit by bit. Raises Unreadable."""
    with opened(files, CHISEL) as file:
        if file is None:
            return
        decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW})
        rest, total = b"", 0
        while not decompressor.eof:
            files.check()
            data = file.read(_CHUNK) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                raise UnreadableDatabase(f"{CHISEL} is cut short")
            try:
                text = decompressor.decompress(data, _CHUNK)
            except zstd.ZstdError as error:
                raise UnreadableDatabase(f"{CHISEL} cannot be decompressed: {error}") from error
            total += len(text)
            *whole, rest = (rest + text).split(b"\n")
            if total > MAX_FILE or len(rest) > _MAX_LINE:
                raise UnreadableDatabase(
                    f"{CHISEL} contains more than {MAX_FILE} bytes, or a line of more than {_MAX_LINE}"
                )
            yield from whole
        if rest:
            yield rest
        if decompressor.unused_data or file.read(1):
            raise UnreadableDatabase(f"{CHISEL} has data after its end")
