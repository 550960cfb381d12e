"""The advisory database of the embedded matcher: advisories on disk, by affected package.

    data_dir/advisories/
      advisories.sqlite    feeds       one row per source that was imported: what, when, how many
                           advisories  one row per document; its text, as JSON, is empty when it is withdrawn
                           affected    (ecosystem, package) -> advisory and ranges, clustered by that key; `fixed`
                                       alone is the most frequent range: all versions below it

One import is one transaction that replaces the earlier records of the same source: after a kill at any moment the
old data is still there, and a concurrent scan sees either the old or the new data. Several sources may contain one
document: the last modified is `current`, also if it is a withdrawal, and independently of the order of imports.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.inspection.scanning.advisories import Advisory, AdvisoryRecord, Affected, Event, Rating
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
_VERSION = 1
_UPGRADE = """
ALTER TABLE advisories ADD COLUMN key TEXT NOT NULL DEFAULT '';
ALTER TABLE advisories ADD COLUMN modified INTEGER NOT NULL DEFAULT 0;
ALTER TABLE affected ADD COLUMN current INTEGER NOT NULL DEFAULT 1;
ALTER TABLE affected ADD COLUMN rating TEXT NOT NULL DEFAULT '';
ALTER TABLE affected ADD COLUMN stream TEXT NOT NULL DEFAULT '';
CREATE INDEX advisories_by_key ON advisories (key, modified) WHERE key != '';
"""
"""The additions of version 1 to version 0; records of version 0 have no key, and stay until their next import."""

_SUPERSEDED = """
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY key ORDER BY modified DESC, id DESC) AS rank
        FROM advisories WHERE key != '')
    WHERE rank > 1"""
"""Documents that a later one replaces."""

_BUSY_SECONDS = 60
_BATCH = 2000
_BEGINNING = ("introduced", "0")

Ranges = tuple[tuple[Event, ...], ...]


class AdvisoriesError(RuntimeError):
    """Advisory data that is missing, or cannot be read or imported: names it and the remedy."""


@dataclass(frozen=True)
class Feed:
    """One imported source. `imported` is an ISO instant."""

    source: str
    imported: str
    advisories: int


@dataclass(frozen=True)
class AdvisoryStatus:
    """The output of `imagesmith advisories status`."""

    path: str
    feeds: tuple[Feed, ...]
    ecosystems: dict[str, int]
    """Ecosystem -> number of packages with advisories."""

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)


class AdvisoryDatabase:
    """The database of one data directory; any number of scans and one import at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "advisories.sqlite"

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def replace(self, source: str, found: Iterable[AdvisoryRecord], now: datetime) -> int:
        """Replace the records of a source; returns how many hold an advisory."""
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
            _mark_current(connection)
        return count

    def status(self) -> AdvisoryStatus:
        """Feeds and ecosystems; both empty before the first import."""
        if not self.exists:
            return AdvisoryStatus(str(self.path), (), {})
        with self._open() as connection:
            feeds = connection.execute("SELECT source, imported, advisories FROM feeds ORDER BY source").fetchall()
            counted = connection.execute(
                "SELECT ecosystem, count(DISTINCT name) FROM affected WHERE current "
                "GROUP BY ecosystem ORDER BY ecosystem"
            ).fetchall()
        return AdvisoryStatus(str(self.path), tuple(Feed(*row) for row in feeds), dict(counted))

    @contextmanager
    def reader(self) -> Iterator[AdvisoryReader]:
        """Open one consistent view. Raises AdvisoriesError when nothing was imported yet."""
        if not self.exists:
            raise AdvisoriesError("no advisories have been imported")
        with self._open() as connection:
            connection.execute("BEGIN")
            yield AdvisoryReader(connection)

    @contextmanager
    def _open(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            _prepare(connection)
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
            if connection is not None:
                connection.close()


class AdvisoryReader:
    """One consistent view of the advisories."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ecosystems(self) -> tuple[str, ...]:
        """Every ecosystem that has an advisory; one index access each."""
        query = """
            WITH RECURSIVE each(name) AS (
                SELECT min(ecosystem) FROM affected
                UNION ALL
                SELECT (SELECT min(ecosystem) FROM affected WHERE ecosystem > each.name) FROM each
                WHERE each.name IS NOT NULL)
            SELECT name FROM each WHERE name IS NOT NULL"""
        return tuple(name for (name,) in self._connection.execute(query))

    def affecting(self, ecosystem: str, name: str) -> Iterator[tuple[int, Affected]]:
        """The advisories about a package: their numbers and affected versions."""
        query = """
            SELECT advisory, fixed, ranges, rating, stream FROM affected
            WHERE ecosystem = ? AND name = ? AND current"""
        for number, fixed, text, rated, stream in self._connection.execute(query, (ecosystem, name)):
            rating = Rating.from_json(json.loads(rated)) if rated else None
            if fixed:
                ranges: Ranges = ((_BEGINNING, ("fixed", fixed)),)
                yield number, Affected(ecosystem, name, ranges, rating=rating, stream=stream)
            else:
                kept, versions = json.loads(text)
                ranges = tuple(tuple((kind, version) for kind, version in events) for events in kept)
                yield (
                    number,
                    Affected(
                        ecosystem=ecosystem,
                        name=name,
                        ranges=ranges,
                        versions=tuple(versions),
                        rating=rating,
                        stream=stream,
                    ),
                )

    def advisory(self, number: int) -> Advisory:
        query = "SELECT document FROM advisories WHERE id = ?"
        return Advisory.from_json(json.loads(self._connection.execute(query, (number,)).fetchone()[0]))


def _prepare(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; safe when several open an old file at once."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= _VERSION:
        return
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in _UPGRADE.split(";")[:-1] if version < _VERSION else ():
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, feed: int, found: Iterable[AdvisoryRecord]) -> int:
    (highest,) = connection.execute("SELECT coalesce(max(id), 0) FROM advisories").fetchone()
    count = 0
    documents: list[tuple[int, int, str, str, int]] = []
    rows: list[tuple[str, str, int, int, str, str, str, str]] = []
    for number, record in enumerate(found, highest + 1):
        advisory = record.advisory
        count += advisory is not None
        text = "" if advisory is None else json.dumps(advisory.to_json(), separators=(",", ":"))
        documents.append((number, feed, text, record.key, record.modified))
        for part, item in enumerate(record.affected):
            fixed = _fixed_only(item)
            ranges = "" if fixed else json.dumps([item.ranges, item.versions], separators=(",", ":"))
            rating = "" if item.rating is None else json.dumps(item.rating.to_json(), separators=(",", ":"))
            rows.append((item.ecosystem, item.name, number, part, fixed, ranges, rating, item.stream))
        if len(documents) >= _BATCH:
            _flush(connection, documents, rows)
    _flush(connection, documents, rows)
    return count


def _mark_current(connection: sqlite3.Connection) -> None:
    """Mark the last modified record of every document as current, after a source was added or removed."""
    connection.execute(f"CREATE TEMP TABLE superseded AS {_SUPERSEDED}")
    connection.execute(
        "UPDATE affected SET current = 1 WHERE NOT current AND advisory NOT IN (SELECT id FROM superseded)"
    )
    connection.execute("UPDATE affected SET current = 0 WHERE current AND advisory IN (SELECT id FROM superseded)")
    connection.execute("DROP TABLE superseded")


def _fixed_only(item: Affected) -> str:
    """The version below which everything is affected, if the range states nothing else; else empty."""
    if item.versions or len(item.ranges) != 1 or len(item.ranges[0]) != 2:
        return ""
    first, (kind, version) = item.ranges[0]
    return version if first == _BEGINNING and kind == "fixed" else ""


def _flush(connection: sqlite3.Connection, documents: list[Any], rows: list[Any]) -> None:
    connection.executemany(
        "INSERT INTO advisories (id, feed, document, key, modified) VALUES (?, ?, ?, ?, ?)", documents
    )
    connection.executemany(
        "INSERT INTO affected (ecosystem, name, advisory, part, fixed, ranges, rating, stream) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    documents.clear()
    rows.clear()
