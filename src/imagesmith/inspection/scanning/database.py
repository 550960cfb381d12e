"""The advisory database of the embedded matcher: advisories on disk, by affected package.

    data_dir/advisories/
      advisories.sqlite    feeds       one row per source that was imported: what, when, how many
                           advisories  one row per document; its text, as JSON, is empty when it is withdrawn
                           affected    (ecosystem, package) -> advisory and ranges, clustered by that key; `fixed`
                                       alone is the most frequent range: all versions below it
                           names       every name of a vulnerability -> the advisories about it

A row of `advisories` is `matched` once the packages of all images were compared with it. Its
`digest` is that of what a comparison reads, so that a record which a new import brings unchanged stays matched.

One import is one transaction that replaces the earlier records of the same source: after a kill at any moment the
old data is still there, and a concurrent scan sees either the old or the new data. Several sources may contain one
document: the last modified is `current`, also if it is a withdrawal, and independently of the order of imports.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.inspection.scanning.advisories import Advisory, AdvisoryRecord, Affected, Event, Rating
from imagesmith.inspection.scanning.database_schema import prepare
from imagesmith.settings import Settings
from imagesmith.values.json_text import json_bytes
from imagesmith.values.names import iso_instant, sha256_hex

_SUPERSEDED = """
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY key ORDER BY modified DESC, id DESC) AS rank
        FROM advisories WHERE key != '')
    WHERE rank > 1"""
"""Documents that a later one replaces."""

_KEEP_MATCHED = (
    "CREATE TEMP TABLE matched_before AS SELECT DISTINCT digest FROM advisories WHERE feed = ? AND matched"
)
_STILL_MATCHED = """
    UPDATE advisories SET matched = 1
    WHERE feed = ? AND digest != '' AND digest IN (SELECT digest FROM matched_before)"""

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

    @classmethod
    def of(cls, settings: Settings) -> AdvisoryDatabase:
        """The database of a data directory."""
        return cls(settings.data_dir / "advisories")

    def replace(self, source: str, found: Iterable[AdvisoryRecord], now: datetime) -> int:
        """Replace the records of a source; returns how many hold an advisory."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open(write=True) as connection:
            row = connection.execute("SELECT id FROM feeds WHERE source = ?", (source,)).fetchone()
            if row is not None:
                connection.execute(
                    "DELETE FROM affected WHERE advisory IN (SELECT id FROM advisories WHERE feed = ?)", row
                )
                connection.execute(_KEEP_MATCHED, row)
                connection.execute(
                    "DELETE FROM names WHERE advisory IN (SELECT id FROM advisories WHERE feed = ?)", row
                )
                connection.execute("DELETE FROM advisories WHERE feed = ?", row)
                connection.execute("DELETE FROM feeds WHERE id = ?", row)
            cursor = connection.execute(
                "INSERT INTO feeds (source, imported, advisories) VALUES (?, ?, 0)", (source, iso_instant(now))
            )
            feed = int(cursor.lastrowid or 0)
            count = _insert(connection, feed, found)
            connection.execute("UPDATE feeds SET advisories = ? WHERE id = ?", (count, feed))
            if row is not None:
                connection.execute(_STILL_MATCHED, (feed,))
                connection.execute("DROP TABLE matched_before")
            _mark_current(connection)
        return count

    def mark_matched(self, records: Mapping[int, str]) -> None:
        """Record that the packages of all images were compared with these records: number -> digest.

        A number may be that of another record by now, because an import replaces records.
        """
        with self._open(write=True) as connection:
            connection.executemany("UPDATE advisories SET matched = 1 WHERE id = ? AND digest = ?", records.items())

    def status(self) -> AdvisoryStatus:
        """Feeds and ecosystems; both empty before the first import."""
        if not self.path.exists():
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
        if not self.path.exists():
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
            prepare(connection)
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
        where = "ecosystem = ? AND name = ? AND current"
        return self._affected(where, (ecosystem, name))

    def affected_by(self, numbers: Sequence[int]) -> Iterator[tuple[int, Affected]]:
        """The packages that records name: their numbers and affected versions; nothing of superseded records."""
        for number in numbers:
            yield from self._affected("advisory = ? AND current", (number,))

    def named(self, name: str) -> list[int]:
        """The records about a vulnerability, by any of its names."""
        query = "SELECT advisory FROM names WHERE name = ? ORDER BY advisory"
        return [number for (number,) in self._connection.execute(query, (name,))]

    def unmatched(self, limit: int) -> dict[int, str]:
        """The next records that were not compared with the packages of images: number -> digest."""
        query = "SELECT id, digest FROM advisories WHERE NOT matched ORDER BY id LIMIT ?"
        return dict(self._connection.execute(query, (limit,)))

    def _affected(self, where: str, values: tuple[object, ...]) -> Iterator[tuple[int, Affected]]:
        query = f"SELECT advisory, ecosystem, name, fixed, ranges, rating, stream FROM affected WHERE {where}"  # noqa: S608
        for number, ecosystem, name, fixed, text, rated, stream in self._connection.execute(query, values):
            rating = Rating.from_json(json.loads(rated)) if rated else None
            ranges: Ranges = ((_BEGINNING, ("fixed", fixed)),)
            versions: tuple[str, ...] = ()
            if not fixed:
                kept, listed = json.loads(text)
                ranges = tuple(tuple((kind, version) for kind, version in events) for events in kept)
                versions = tuple(listed)
            yield number, Affected(ecosystem, name, ranges, versions, rating=rating, stream=stream)

    def advisory(self, number: int) -> Advisory:
        return self.advisories([number])[number]

    def advisories(self, numbers: Sequence[int]) -> dict[int, Advisory]:
        """The advisories of those records that hold one: others withdraw an earlier record."""
        query = "SELECT document FROM advisories WHERE id = ?"
        texts = {number: self._connection.execute(query, (number,)).fetchone()[0] for number in numbers}
        return {number: Advisory.from_json(json.loads(text)) for number, text in texts.items() if text}


def _insert(connection: sqlite3.Connection, feed: int, found: Iterable[AdvisoryRecord]) -> int:
    (highest,) = connection.execute("SELECT coalesce(max(id), 0) FROM advisories").fetchone()
    count = 0
    documents: list[tuple[int, int, str, str, int, str]] = []
    names: list[tuple[str, int]] = []
    rows: list[tuple[str, str, int, int, str, str, str, str]] = []
    for number, record in enumerate(found, highest + 1):
        advisory = record.advisory
        count += advisory is not None
        text = "" if advisory is None else json.dumps(advisory.to_json(), separators=(",", ":"))
        documents.append((number, feed, text, record.key, record.modified, _digest(record)))
        if advisory is not None:
            names += [(name, number) for name in {advisory.id, *record.names}]
        for part, item in enumerate(record.affected):
            fixed = _fixed_only(item)
            ranges = "" if fixed else json.dumps([item.ranges, item.versions], separators=(",", ":"))
            rating = "" if item.rating is None else json.dumps(item.rating.to_json(), separators=(",", ":"))
            rows.append((item.ecosystem, item.name, number, part, fixed, ranges, rating, item.stream))
        if len(documents) >= _BATCH:
            _flush(connection, documents, rows, names)
    _flush(connection, documents, rows, names)
    return count


def _mark_current(connection: sqlite3.Connection) -> None:
    """Mark the last modified record of every document as current, after a source was added or removed."""
    connection.execute(f"CREATE TEMP TABLE superseded AS {_SUPERSEDED}")
    again = "NOT current AND advisory NOT IN (SELECT id FROM superseded)"
    # what was superseded until now may be news for images that were built since
    connection.execute(
        f"UPDATE advisories SET matched = 0 WHERE id IN (SELECT advisory FROM affected WHERE {again})"  # noqa: S608
    )
    connection.execute(f"UPDATE affected SET current = 1 WHERE {again}")  # noqa: S608
    connection.execute("UPDATE affected SET current = 0 WHERE current AND advisory IN (SELECT id FROM superseded)")
    connection.execute("DROP TABLE superseded")


def _fixed_only(item: Affected) -> str:
    """The version below which everything is affected, if the range states nothing else; else empty."""
    if item.versions or len(item.ranges) != 1 or len(item.ranges[0]) != 2:
        return ""
    first, (kind, version) = item.ranges[0]
    return version if first == _BEGINNING and kind == "fixed" else ""


def _digest(record: AdvisoryRecord) -> str:
    """The digest of what a comparison reads: another wording of a description is not news."""
    advisory = record.advisory
    if advisory is None:
        return ""
    affected = [
        [item.ecosystem, item.name, item.ranges, item.versions, item.stream, item.rating and item.rating.severity]
        for item in record.affected
    ]
    return sha256_hex(json_bytes([advisory.id, advisory.severity, affected]))


def _flush(connection: sqlite3.Connection, documents: list[Any], rows: list[Any], names: list[Any]) -> None:
    connection.executemany(
        "INSERT INTO advisories (id, feed, document, key, modified, digest) VALUES (?, ?, ?, ?, ?, ?)", documents
    )
    connection.executemany("INSERT OR IGNORE INTO names (name, advisory) VALUES (?, ?)", names)
    connection.executemany(
        "INSERT INTO affected (ecosystem, name, advisory, part, fixed, ranges, rating, stream) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    documents.clear()
    rows.clear()
    names.clear()
