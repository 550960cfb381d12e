"""Advisories on disk, by the packages that they affect: what the embedded matcher looks up.

    data_dir/advisories/
      advisories.sqlite    feeds       one row per source that was imported: what, when, how many
                           advisories  the text of each, as JSON
                           affected    (ecosystem, package) -> advisory and ranges, clustered by that key; `fixed`
                                       alone stands for the commonest range: everything below that version

One import is one transaction that replaces what the same source gave before: killed at any moment, the old data
is still there, and a scan that runs meanwhile sees one or the other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.inspection.scanning.osv import Advisory, Affected
from imagesmith.values.names import iso_instant

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feeds (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, imported TEXT NOT NULL, advisories INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS advisories (
    id INTEGER PRIMARY KEY, feed INTEGER NOT NULL, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS advisories_by_feed ON advisories (feed);
CREATE TABLE IF NOT EXISTS affected (
    ecosystem TEXT NOT NULL, name TEXT NOT NULL, advisory INTEGER NOT NULL, part INTEGER NOT NULL,
    fixed TEXT NOT NULL, ranges TEXT NOT NULL, PRIMARY KEY (ecosystem, name, advisory, part)) WITHOUT ROWID;
"""
_BUSY_SECONDS = 60
_BATCH = 2000
_BEGINNING = ("introduced", "0")


class AdvisoriesError(RuntimeError):
    """Advisory data that is missing, or cannot be read or imported: says what and what to do."""


@dataclass(frozen=True)
class Feed:
    """One imported source. `imported` is an ISO instant."""

    source: str
    imported: str
    advisories: int


@dataclass(frozen=True)
class AdvisoryStatus:
    """What `imagesmith advisories status` shows."""

    path: str
    feeds: tuple[Feed, ...]
    ecosystems: dict[str, int]
    """Ecosystem -> how many packages have advisories."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class AdvisoryDatabase:
    """The database of one data directory; any number of scans and one import at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "advisories.sqlite"

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def replace(self, source: str, found: Iterable[tuple[Advisory, tuple[Affected, ...]]], now: datetime) -> int:
        """Keep the advisories of a source instead of what it gave before; gives their number."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open(write=True) as connection:
            row = connection.execute("SELECT id FROM feeds WHERE source = ?", (source,)).fetchone()
            if row is not None:
                connection.execute(
                    "DELETE FROM affected WHERE advisory IN (SELECT id FROM advisories WHERE feed = ?)", row
                )
                connection.execute("DELETE FROM advisories WHERE feed = ?", row)
                connection.execute("DELETE FROM feeds WHERE id = ?", row)
            cursor = connection.execute(
                "INSERT INTO feeds (source, imported, advisories) VALUES (?, ?, 0)", (source, iso_instant(now))
            )
            feed = int(cursor.lastrowid or 0)
            count = _insert(connection, feed, found)
            connection.execute("UPDATE feeds SET advisories = ? WHERE id = ?", (count, feed))
        return count

    def status(self) -> AdvisoryStatus:
        """Feeds and ecosystems; both empty before the first import."""
        if not self.exists:
            return AdvisoryStatus(str(self.path), (), {})
        with self._open() as connection:
            feeds = connection.execute("SELECT source, imported, advisories FROM feeds ORDER BY source").fetchall()
            counted = connection.execute(
                "SELECT ecosystem, count(DISTINCT name) FROM affected GROUP BY ecosystem ORDER BY ecosystem"
            ).fetchall()
        return AdvisoryStatus(str(self.path), tuple(Feed(*row) for row in feeds), dict(counted))

    @contextmanager
    def reader(self) -> Iterator[AdvisoryReader]:
        """Look things up, all of one moment. Raises AdvisoriesError when nothing was imported yet."""
        if not self.exists:
            raise AdvisoriesError("no advisories were imported yet")
        with self._open() as connection:
            connection.execute("BEGIN")
            yield AdvisoryReader(connection)

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            if write:
                connection.execute("BEGIN IMMEDIATE")
            yield connection
            if connection.in_transaction:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise AdvisoriesError(
                f"the advisories in {self.path} cannot be used: {error}; remove that file and import again"
            ) from error
        finally:
            connection.close()


class AdvisoryReader:
    """One consistent view of the advisories."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def covers(self, ecosystem: str) -> bool:
        """Whether there is any advisory for this ecosystem."""
        query = "SELECT 1 FROM affected WHERE ecosystem = ? LIMIT 1"
        return self._connection.execute(query, (ecosystem,)).fetchone() is not None

    def affecting(self, ecosystem: str, name: str) -> Iterator[tuple[int, Affected]]:
        """The advisories about a package: their numbers and which versions they affect."""
        query = "SELECT advisory, fixed, ranges FROM affected WHERE ecosystem = ? AND name = ?"
        for number, fixed, text in self._connection.execute(query, (ecosystem, name)):
            if fixed:
                yield number, Affected(ecosystem, name, ((_BEGINNING, ("fixed", fixed)),))
            else:
                ranges, versions = json.loads(text)
                yield number, Affected(ecosystem, name, ranges, tuple(versions))

    def advisory(self, number: int) -> Advisory:
        query = "SELECT document FROM advisories WHERE id = ?"
        return Advisory.from_json(json.loads(self._connection.execute(query, (number,)).fetchone()[0]))


def _insert(connection: sqlite3.Connection, feed: int, found: Iterable[tuple[Advisory, Sequence[Affected]]]) -> int:
    (highest,) = connection.execute("SELECT coalesce(max(id), 0) FROM advisories").fetchone()
    number = highest
    documents: list[tuple[int, int, str]] = []
    rows: list[tuple[str, str, int, int, str, str]] = []
    for number, (advisory, affected) in enumerate(found, highest + 1):
        documents.append((number, feed, json.dumps(advisory.to_json(), separators=(",", ":"))))
        for part, item in enumerate(affected):
            fixed = _fixed_only(item)
            ranges = "" if fixed else json.dumps([item.ranges, item.versions], separators=(",", ":"))
            rows.append((item.ecosystem, item.name, number, part, fixed, ranges))
        if len(documents) >= _BATCH:
            _flush(connection, documents, rows)
    _flush(connection, documents, rows)
    return int(number - highest)


def _fixed_only(item: Affected) -> str:
    """The version below which everything is affected, when that is all there is to say; else empty."""
    if item.versions or len(item.ranges) != 1 or len(item.ranges[0]) != 2:
        return ""
    first, (kind, version) = item.ranges[0]
    return version if first == _BEGINNING and kind == "fixed" else ""


def _flush(connection: sqlite3.Connection, documents: list[Any], rows: list[Any]) -> None:
    connection.executemany("INSERT INTO advisories VALUES (?, ?, ?)", documents)
    connection.executemany("INSERT INTO affected VALUES (?, ?, ?, ?, ?, ?)", rows)
    documents.clear()
    rows.clear()
