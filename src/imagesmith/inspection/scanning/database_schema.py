"""The schema of the advisory database, and its upgrades; database.py explains the tables."""

from __future__ import annotations

import sqlite3

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
_VERSION = 2
_UPGRADES = (
    """
ALTER TABLE advisories ADD COLUMN key TEXT NOT NULL DEFAULT '';
ALTER TABLE advisories ADD COLUMN modified INTEGER NOT NULL DEFAULT 0;
ALTER TABLE affected ADD COLUMN current INTEGER NOT NULL DEFAULT 1;
ALTER TABLE affected ADD COLUMN rating TEXT NOT NULL DEFAULT '';
ALTER TABLE affected ADD COLUMN stream TEXT NOT NULL DEFAULT '';
CREATE INDEX advisories_by_key ON advisories (key, modified) WHERE key != '';
""",
    """
ALTER TABLE advisories ADD COLUMN digest TEXT NOT NULL DEFAULT '';
ALTER TABLE advisories ADD COLUMN matched INTEGER NOT NULL DEFAULT 0;
CREATE INDEX advisories_unmatched ON advisories (id) WHERE NOT matched;
CREATE INDEX affected_by_advisory ON affected (advisory);
CREATE TABLE names (name TEXT NOT NULL, advisory INTEGER NOT NULL, PRIMARY KEY (name, advisory)) WITHOUT ROWID;
CREATE INDEX names_by_advisory ON names (advisory);
INSERT OR IGNORE INTO names SELECT json_extract(document, '$.id'), id FROM advisories WHERE document != '';
INSERT OR IGNORE INTO names SELECT related.value, advisories.id
    FROM advisories, json_each(advisories.document, '$.related') AS related WHERE document != ''
""",
)
"""What version 1 added to version 0, whose records have no key and stay until their next import; and so on."""


def prepare(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; safe when several open an old file at once."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= _VERSION:
        return
    connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for upgrade in _UPGRADES[version:]:
        for statement in upgrade.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("COMMIT")
