"""Importing advisories: folders, archives and single files of OSV documents, and the Debian tracker's JSON.

    a folder            every file of these forms in it, in subfolders as well
    *.zip               every *.json and *.jsonl inside, as the OSV exports are packed
    *.json, *.json.gz   one OSV document, a list of them, or the export of the Debian security tracker
    *.jsonl, *.jsonl.gz one OSV document a line
    https://...         one of these files, downloaded first

Suffixes match in any letter case, and the content decides the form of a file. A document that is not understood is
counted, not an error: one odd advisory must not block the other hundred thousand.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import urllib3

from imagesmith.inspection.scanning.advisories import AdvisoryRecord
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
from imagesmith.inspection.scanning.debian import is_tracker, read_tracker
from imagesmith.inspection.scanning.osv import read_osv

MAX_DOWNLOAD = 4 * 1024**3
MAX_FILE = 1024**3
"""Most bytes of one JSON file; the export of the Debian tracker has some 70 MiB."""

_MAX_MEMBER = 32 * 1024 * 1024
_MAX_FILES = 2_000_000
_CHUNK = 1024 * 1024
_TIMEOUT = urllib3.Timeout(connect=20, read=120)

_DOCUMENTS = (".json", ".jsonl", ".ndjson")
_FILES = (*_DOCUMENTS, *(f"{ending}.gz" for ending in _DOCUMENTS), ".zip")
_FIRST_LINES = 3
"""Lines that are tried to see whether a file holds a document a line; the first may be damaged."""
_GZIP = b"\x1f\x8b"

_ARCHIVE_ERRORS = (
    OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError,
)  # fmt: skip
"""The exceptions of `zipfile` for a damaged or encrypted archive, or an unknown compression."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Imported:
    """The result of one import. `skipped` documents held nothing to match: withdrawn, or not understood.

    Those of them that are `withdrawn` end the advisories of all sources under their names.
    """

    source: str
    advisories: int
    skipped: int
    withdrawn: int

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)


def import_advisories(database: AdvisoryDatabase, source: str, now: datetime, *, on_line: OnLine) -> Imported:
    """Import a path or URL; replaces the earlier records of the same source. Raises AdvisoriesError."""
    if source.startswith(("https://", "http://")):
        with tempfile.TemporaryDirectory(prefix="imagesmith-advisories-") as folder:
            path = Path(folder) / (source.rstrip("/").rpartition("/")[2].partition("?")[0] or "feed.json")
            _download(source, path, on_line)
            return _import(database, source, path, now)
    path = Path(source).absolute()
    return _import(database, str(path), path, now)


def _import(database: AdvisoryDatabase, source: str, path: Path, now: datetime) -> Imported:
    reading = _Reading()
    count = database.replace(source, _checked(reading.path(path), source), now)
    return Imported(source, count, reading.skipped, reading.withdrawn)


def _checked(found: Iterator[AdvisoryRecord], source: str) -> Iterator[AdvisoryRecord]:
    """The same advisories; none at all is an error, raised while the import can still be undone."""
    empty = True
    for item in found:
        empty = empty and item.advisory is None and not item.withdrawn
        yield item
    if empty:
        raise AdvisoriesError(
            f"{source} contains no advisories; use a folder, .zip, .json, .jsonl or .json.gz of OSV documents, "
            "or the JSON of the Debian security tracker. What was imported before is unchanged"
        )


class _Reading:
    """One pass over a source; counts unusable documents."""

    def __init__(self) -> None:
        self.skipped = 0
        self.withdrawn = 0

    def path(self, path: Path) -> Iterator[AdvisoryRecord]:
        if path.is_dir():
            files = sorted(item for item in path.rglob("*") if _is_named(item.name, _FILES) and item.is_file())
            for item in files[:_MAX_FILES]:
                yield from self.path(item)
            return
        try:
            if _is_named(path.name, (".zip",)) or zipfile.is_zipfile(path):
                yield from self._archive(path)
                return
            data = _content(path)
        except (OSError, EOFError, zlib.error) as error:
            raise AdvisoriesError(f"{path} cannot be read: {error}") from error
        yield from self._document(data)

    def _archive(self, path: Path) -> Iterator[AdvisoryRecord]:
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist()[:_MAX_FILES]:
                    if not _is_named(member.filename, _DOCUMENTS):
                        continue
                    if member.file_size > _MAX_MEMBER:
                        self.skipped += 1
                        continue
                    with archive.open(member) as file:
                        # The stated size may be wrong: never read more than the limit.
                        data = file.read(_MAX_MEMBER)
                    yield from self._document(data)
        except _ARCHIVE_ERRORS as error:
            raise AdvisoriesError(f"{path} cannot be read: {error}") from error

    def _document(self, data: bytes) -> Iterator[AdvisoryRecord]:
        document = _parsed(data)
        if document is None:
            lines = [line for line in data.split(b"\n") if line.strip()]
            if len(lines) < 2 or not any(isinstance(_parsed(line), dict) for line in lines[:_FIRST_LINES]):
                self.skipped += 1
                return
            for line in lines:
                yield from self._entries(_parsed(line))
            return
        yield from self._entries(document)

    def _entries(self, document: Any) -> Iterator[AdvisoryRecord]:
        if is_tracker(document):
            yield from read_tracker(document)
            return
        for entry in document if isinstance(document, list) else [document]:
            found = read_osv(entry) if isinstance(entry, dict) else None
            if found is None or found.advisory is None:
                self.skipped += 1
            if found is not None:
                self.withdrawn += found.withdrawn
                yield found


def _is_named(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings)


def _content(path: Path) -> bytes:
    """The unpacked content of a file of bounded size. Raises AdvisoriesError, OSError, EOFError, zlib.error."""
    with path.open("rb") as plain:
        packed = plain.read(len(_GZIP)) == _GZIP
    with gzip.open(path) if packed else path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise AdvisoriesError(f"{path} is larger than {MAX_FILE} bytes")
    return data


def _parsed(data: bytes) -> Any:
    """The parsed JSON document; None when it is invalid."""
    try:
        return _without_surrogates(data, json.loads(data))
    except (ValueError, RecursionError):
        return None


def _without_surrogates(data: bytes, document: Any) -> Any:
    """A lone surrogate, such as `\\ud800`, is valid JSON, but no database stores it: `?` in its place."""
    if not _SURROGATE.search(data):
        return document
    return json.loads(json.dumps(document, ensure_ascii=False).encode(errors="replace"))


def _download(url: str, path: Path, on_line: OnLine) -> None:
    on_line(f"downloading {url}")
    try:
        with urllib3.PoolManager(timeout=_TIMEOUT) as http:
            response = http.request("GET", url, preload_content=False, retries=urllib3.Retry(total=3, redirect=3))
            if response.status != 200:
                raise AdvisoriesError(f"{url} answered HTTP {response.status}; check `source` in [advisories]")
            with path.open("wb") as file:
                size = 0
                for chunk in response.stream(_CHUNK):
                    size += len(chunk)
                    if size > MAX_DOWNLOAD:
                        raise AdvisoriesError(f"{url} is larger than {MAX_DOWNLOAD} bytes")
                    file.write(chunk)
            response.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise AdvisoriesError(f"{url} cannot be downloaded: {error}") from error
