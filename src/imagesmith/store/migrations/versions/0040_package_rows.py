"""Inventories become rows: each distinct package once, and the packages of an image by number.

The packages stood as one JSON value for each image, which no question about all images could read in time. Stored
inventories are brought over in batches; a killed migration left the old table as it was, and starts again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0032"
branch_labels = None
depends_on = None

_BATCH = 50
_VALUES = 500
_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    op.rename_table("inventories", "old_inventories")
    packages, inventories, parts = _create_tables()
    connection = op.get_bind()
    for rows in _old(connection):
        for number, (image_arn, os_version, items) in rows:
            connection.execute(
                sa.insert(inventories), {"number": number, "image_arn": image_arn, "system": _system(os_version)}
            )
            _bring_over(connection, packages, parts, number, items)
    if connection.dialect.name == "postgresql":
        highest = (
            "SELECT setval(pg_get_serial_sequence('inventories', 'number'), coalesce(max(number), 0) + 1, false)"
        )
        connection.execute(sa.text(f"{highest} FROM inventories"))
    op.drop_table("old_inventories")


def _create_tables() -> tuple[sa.Table, sa.Table, sa.Table]:
    packages = op.create_table(
        "packages",
        sa.Column("number", _KEY, nullable=False, autoincrement=True),
        *(_text(name) for name in ("key", "kind", "name", "version", "source", "lookup")),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("packages_by_key", "packages", ["key"], unique=True)
    op.create_index("packages_by_lookup", "packages", ["lookup", "kind"])
    op.create_index("packages_by_source", "packages", ["source", "kind"])
    inventories = op.create_table(
        "inventories",
        sa.Column("number", _KEY, nullable=False, autoincrement=True),
        *(_text(name) for name in ("image_arn", "system")),
        # the table that is brought over still has the usual name
        sa.PrimaryKeyConstraint("number", name="inventories_number"),
    )
    op.create_index("inventories_by_image", "inventories", ["image_arn"], unique=True)
    parts = op.create_table(
        "inventory_packages",
        *(_number(name) for name in ("inventory", "position", "package")),
        sa.PrimaryKeyConstraint("inventory", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("inventory_packages_by_package", "inventory_packages", ["package", "inventory"])
    op.create_table(
        "exposures",
        _number("inventory"),
        _text("vulnerability_id"),
        _text("severity"),
        _number("observed"),
        sa.PrimaryKeyConstraint("inventory", "vulnerability_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("exposures_by_vulnerability", "exposures", ["vulnerability_id"])
    return packages, inventories, parts


def _old(connection: sa.Connection) -> Iterator[list[tuple[int, tuple[str, str, Sequence[Mapping[str, Any]]]]]]:
    """Numbered inventories of the older version, in batches."""
    old = sa.table("old_inventories", sa.column("image_arn", sa.Text), sa.column("packages", sa.JSON))
    resources = sa.table("resources", sa.column("arn", sa.Text), sa.column("document", sa.JSON))
    after, number = "", 0
    while True:
        query = (
            sa.select(old.c.image_arn, old.c.packages, resources.c.document)
            .select_from(old.outerjoin(resources, resources.c.arn == old.c.image_arn))
            .where(old.c.image_arn > after)
        )
        found = connection.execute(query.order_by(old.c.image_arn).limit(_BATCH)).all()
        if not found:
            return
        after = found[-1].image_arn
        numbered = enumerate(found, number + 1)
        number += len(found)
        yield [
            (position, (row.image_arn, str((row.document or {}).get("osVersion", "")), row.packages))
            for position, row in numbered
        ]


def _bring_over(
    connection: sa.Connection, packages: sa.Table, parts: sa.Table, number: int, items: Sequence[Mapping[str, Any]]
) -> None:
    rows = {_key(item): item for item in items}
    known = _known(connection, packages, list(rows))
    missing = [_columns(key, rows[key]) for key in sorted(rows) if key not in known]
    for start in range(0, len(missing), _VALUES):
        connection.execute(sa.insert(packages), missing[start : start + _VALUES])
    known |= _known(connection, packages, [row["key"] for row in missing])
    positioned = [
        {"inventory": number, "position": position, "package": known[_key(item)]}
        for position, item in enumerate(items)
    ]
    for start in range(0, len(positioned), _VALUES):
        connection.execute(sa.insert(parts), positioned[start : start + _VALUES])


def _known(connection: sa.Connection, packages: sa.Table, keys: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(keys), _VALUES):
        query = sa.select(packages.c.key, packages.c.number).where(
            packages.c.key.in_(keys[start : start + _VALUES])
        )
        found.update((row.key, row.number) for row in connection.execute(query))
    return found


def _key(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _columns(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    kind, name = str(row.get("kind", "")), str(row.get("name", ""))
    normal = re.sub(r"[-_.]+", "-", name).lower() if kind == "pypi" else name
    return {
        "key": key, "kind": kind, "name": name, "version": str(row.get("version", "")),
        "source": str(row.get("source", "") or name), "lookup": normal, "document": dict(row),
    }  # fmt: skip


_IDS = {
    "Debian": "debian", "Ubuntu": "ubuntu", "Alpine": "alpine", "Rocky": "rocky", "AlmaLinux": "almalinux",
    "RHEL": "rhel", "SUSE": "sles", "Amazon Linux": "amzn", "Wolfi": "wolfi", "Photon": "photon",
}  # fmt: skip


def _system(os_version: str) -> str:
    """The operating system of `Debian 12`; empty for one that the words do not identify."""
    name, _, version = os_version.rpartition(" ")
    if name not in _IDS:
        return ""
    system = {"id": _IDS[name], "like": "", "name": name, "pretty": os_version, "version_id": version}
    return orjson.dumps(system, option=orjson.OPT_SORT_KEYS).decode()


def downgrade() -> None:
    op.create_table(
        "old_inventories",
        _text("image_arn"),
        sa.Column("packages", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("image_arn", name="old_inventories_image"),
    )
    connection = op.get_bind()
    query = sa.text(
        "SELECT inventories.image_arn, packages.document FROM inventories LEFT JOIN inventory_packages "
        "ON inventory_packages.inventory = inventories.number LEFT JOIN packages "
        "ON packages.number = inventory_packages.package "
        "ORDER BY inventories.image_arn, inventory_packages.position"
    )
    held: dict[str, list[Any]] = {}
    for image_arn, document in connection.execute(query):
        items = held.setdefault(image_arn, [])
        if document is not None:
            items.append(json.loads(document) if isinstance(document, str) else document)
    old = sa.table("old_inventories", sa.column("image_arn", sa.Text), sa.column("packages", sa.JSON))
    for image_arn, items in held.items():
        connection.execute(sa.insert(old), {"image_arn": image_arn, "packages": items})
    for table in ("exposures", "inventory_packages", "inventories", "packages"):
        op.drop_table(table)
    op.rename_table("old_inventories", "inventories")
