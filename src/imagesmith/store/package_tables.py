"""The tables of what images contain, and of what is known to be wrong with it.

packages            every distinct package, once: its columns are searched, its document is what was read
inventories         an image whose packages were read; `system` is its operating system as JSON, empty: unknown
inventory_packages  the packages of an inventory, in their order
exposures           vulnerabilities that advisories named after the build of an image

An inventory has a number, because an ARN in each of a thousand rows would be most of the database.
"""

from __future__ import annotations

import sqlalchemy as sa

from imagesmith.store.account_tables import metadata
from imagesmith.store.columns import number, text

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite numbers rows by itself only in columns of the type INTEGER."""

packages = sa.Table(
    "packages",
    metadata,
    sa.Column("number", _KEY, primary_key=True, autoincrement=True),
    text("key"),
    text("kind"),
    text("name"),
    text("version"),
    text("source"),
    text("lookup"),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Index("packages_by_key", "key", unique=True),
    sa.Index("packages_by_lookup", "lookup", "kind"),
    sa.Index("packages_by_source", "source", "kind"),
)

inventories = sa.Table(
    "inventories",
    metadata,
    sa.Column("number", _KEY, primary_key=True, autoincrement=True),
    text("image_arn"),
    text("system"),
    sa.Index("inventories_by_image", "image_arn", unique=True),
)

inventory_packages = sa.Table(
    "inventory_packages",
    metadata,
    number("inventory", primary_key=True, autoincrement=False),
    number("position", primary_key=True, autoincrement=False),
    number("package"),
    sa.Index("inventory_packages_by_package", "package", "inventory"),
    sqlite_with_rowid=False,
)

exposures = sa.Table(
    "exposures",
    metadata,
    number("inventory", primary_key=True, autoincrement=False),
    text("vulnerability_id", primary_key=True),
    text("severity"),
    number("observed"),
    sa.Index("exposures_by_vulnerability", "vulnerability_id"),
    sqlite_with_rowid=False,
)
