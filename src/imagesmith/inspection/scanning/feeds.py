"""Importing advisories: folders, archives and single files of OSV documents, and the Debian tracker's JSON.

    a folder      every *.json and *.zip in it, in subfolders as well
    *.zip         every *.json inside, as the OSV exports are packed
    *.json        one OSV document, a list of them, or the export of the Debian security tracker
    https://...   one of these files, downloaded first

What a file holds is told by its content. A document that is not understood is counted, not an error: one odd
advisory must not keep out the other hundred thousand.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import urllib3

from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase
from imagesmith.inspection.scanning.debian import is_tracker, read_tracker
from imagesmith.inspection.scanning.osv import Advisory, Affected, read_osv

MAX_DOWNLOAD = 4 * 1024**3
MAX_FILE = 1024**3
"""Bytes of one JSON file; the export of the Debian tracker has some 70 MiB."""

_MAX_MEMBER = 32 * 1024 * 1024
_MAX_FILES = 2_000_000
_CHUNK = 1024 * 1024
_TIMEOUT = urllib3.Timeout(connect=20, read=120)

Found = tuple[Advisory, tuple[Affected, ...]]
OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Imported:
    """What one import did. `skipped` documents held nothing to match: withdrawn, or not understood."""

    source: str
    advisories: int
    skipped: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def import_advisories(database: AdvisoryDatabase, source: str, now: datetime, *, on_line: OnLine) -> Imported:
    """Import a path or URL; what the same source gave before is replaced. Raises AdvisoriesError."""
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
    return Imported(source, count, reading.skipped)


def _checked(found: Iterator[Found], source: str) -> Iterator[Found]:
    """The same advisories; none at all is an error, raised while the import can still be undone."""
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        raise AdvisoriesError(
            f"{source} holds no advisories; give a folder, .zip or .json of OSV documents, or the JSON of the "
            "Debian security tracker. What was imported before is unchanged"
        )


class _Reading:
    """One pass over a source; counts what it could not use."""

    def __init__(self) -> None:
        self.skipped = 0

    def path(self, path: Path) -> Iterator[Found]:
        if path.is_dir():
            files = sorted(item for item in path.rglob("*") if item.suffix in (".json", ".zip") and item.is_file())
            for item in files[:_MAX_FILES]:
                yield from self.path(item)
            return
        try:
            if path.suffix == ".zip":
                yield from self._archive(path)
                return
            if path.stat().st_size > MAX_FILE:
                raise AdvisoriesError(f"{path} is larger than {MAX_FILE} bytes")
            data = path.read_bytes()
        except (OSError, zipfile.BadZipFile) as error:
            raise AdvisoriesError(f"{path} cannot be read: {error}") from error
        yield from self._document(data)

    def _archive(self, path: Path) -> Iterator[Found]:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist()[:_MAX_FILES]:
                if member.filename.endswith(".json") and member.file_size <= _MAX_MEMBER:
                    with archive.open(member) as file:
                        # The stated size may be a lie: never read more than is allowed.
                        yield from self._document(file.read(_MAX_MEMBER))

    def _document(self, data: bytes) -> Iterator[Found]:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            self.skipped += 1
            return
        if is_tracker(document):
            yield from read_tracker(document)
            return
        for entry in document if isinstance(document, list) else [document]:
            found = read_osv(entry) if isinstance(entry, dict) else None
            if found is None:
                self.skipped += 1
            else:
                yield found


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
