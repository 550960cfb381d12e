"""The packages of images, as rows: each distinct package once, whatever number of images have it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.package_tables import exposures, inventories, inventory_packages, packages
from imagesmith.store.upsert import inserting, upserting
from imagesmith.values.api import ApiDocument
from imagesmith.values.chunks import in_chunks
from imagesmith.values.json_text import json_bytes
from imagesmith.values.names import sha256_hex
from imagesmith.values.package_names import normal_name

_LOCK: Final = 5_019_200_417_733_661
"""PostgreSQL's lock of the rows of packages: a package is not removed while another image begins to refer to it."""
_MOST_VALUES: Final = 500
"""Values in one statement."""
_INSERT_PARTS: Final = inserting(inventory_packages)


@dataclass(frozen=True)
class StoredPackage:
    """A package of one or more images; `document` is a row of an inventory."""

    number: int
    document: ApiDocument


@dataclass(frozen=True)
class Holder:
    """An image that holds a package."""

    image_arn: str
    inventory: int
    package: int


def put_inventory(
    tx: Connection, image_arn: str, rows: Sequence[Mapping[str, Any]], system: Mapping[str, str] | None = None
) -> None:
    """Store the packages of an image over an earlier inventory; `system` as OsRelease has it, None: unknown."""
    _take_turn(tx)
    _remove(tx, image_arn)
    text = "" if system is None else json_bytes(system, ordered=True).decode()
    tx.execute(sa.insert(inventories).values(image_arn=image_arn, system=text))
    number = tx.scalar(sa.select(inventories.c.number).where(inventories.c.image_arn == image_arn))
    keys = [_key(row) for row in rows]
    numbers = _numbers(tx, dict(zip(keys, rows, strict=True)))
    _INSERT_PARTS.write(
        tx,
        [{"inventory": number, "position": position, "package": numbers[key]} for position, key in enumerate(keys)],
    )


def get_inventory(tx: Connection, image_arn: str) -> Sequence[ApiDocument] | None:
    """The rows of an inventory in their order; None without one."""
    number = inventory_number(tx, image_arn)
    if number is None:
        return None
    parts = inventory_packages
    query = (
        sa.select(packages.c.document)
        .join(parts, parts.c.package == packages.c.number)
        .where(parts.c.inventory == number)
        .order_by(parts.c.position)
    )
    return [dict(row.document) for row in tx.execute(query)]


def inventory_number(tx: Connection, image_arn: str) -> int | None:
    return tx.scalar(sa.select(inventories.c.number).where(inventories.c.image_arn == image_arn))


def forget_inventory(tx: Connection, image_arn: str) -> None:
    _take_turn(tx)
    _remove(tx, image_arn)


def systems(tx: Connection) -> list[str]:
    """Each operating system of an inventory, once, as its JSON; an empty text stands for unknown ones."""
    return list(tx.scalars(sa.select(inventories.c.system).distinct().order_by(inventories.c.system)))


def images_without_system(tx: Connection) -> int:
    """Images that have packages and an unknown operating system: advisories cannot be looked up for them."""
    parts = sa.exists().where(inventory_packages.c.inventory == inventories.c.number)
    query = sa.select(sa.func.count()).select_from(inventories).where(inventories.c.system == "", parts)
    return int(tx.scalar(query) or 0)


def images_with_system(tx: Connection, arns: Iterable[str]) -> set[str]:
    """Those of the images whose inventory states an operating system."""
    found: set[str] = set()
    for chunk in in_chunks(sorted(set(arns)), _MOST_VALUES):
        query = sa.select(inventories.c.image_arn).where(inventories.c.system != "")
        found.update(tx.scalars(query.where(inventories.c.image_arn.in_(chunk))))
    return found


def packages_named(
    tx: Connection, names: Iterable[str], kinds: Sequence[str], *, version: str = ""
) -> Iterator[StoredPackage]:
    """The packages with one of these names, or built from a source with one; names as in advisories."""
    version_is = [packages.c.version == version] if version else []
    for chunk in in_chunks(sorted(set(names)), _MOST_VALUES):
        seen: set[int] = set()
        for column in (packages.c.lookup, packages.c.source):
            query = sa.select(packages.c.number, packages.c.document)
            for row in tx.execute(query.where(column.in_(chunk), packages.c.kind.in_(kinds), *version_is)):
                if row.number not in seen:
                    seen.add(row.number)
                    yield StoredPackage(row.number, row.document)


def all_packages(tx: Connection) -> Iterator[StoredPackage]:
    """Every distinct package, in batches."""
    after = 0
    while True:
        query = sa.select(packages.c.number, packages.c.document).where(packages.c.number > after)
        rows = tx.execute(query.order_by(packages.c.number).limit(10 * _MOST_VALUES)).all()
        if not rows:
            return
        after = rows[-1].number
        yield from (StoredPackage(row.number, row.document) for row in rows)


def package_names(tx: Connection, numbers: Iterable[int]) -> dict[int, tuple[str, str, str]]:
    """Package -> its name, version and kind."""
    found: dict[int, tuple[str, str, str]] = {}
    table = packages
    for chunk in in_chunks(sorted(set(numbers)), _MOST_VALUES):
        query = sa.select(table.c.number, table.c.name, table.c.version, table.c.kind)
        found.update(
            (row[0], (row[1], row[2], row[3])) for row in tx.execute(query.where(table.c.number.in_(chunk)))
        )
    return found


def holders(tx: Connection, numbers: Iterable[int], system: str | None = None) -> Iterator[Holder]:
    """The images that hold any of these packages; of one operating system, if `system` is its JSON."""
    parts = inventory_packages
    query = sa.select(inventories.c.image_arn, parts.c.inventory, parts.c.package).join(
        inventories, inventories.c.number == parts.c.inventory
    )
    if system is not None:
        query = query.where(inventories.c.system == system)
    for chunk in in_chunks(sorted(set(numbers)), _MOST_VALUES):
        for row in tx.execute(query.where(parts.c.package.in_(chunk)).distinct()):
            yield Holder(row.image_arn, row.inventory, row.package)


def system_of(tx: Connection, image_arn: str) -> Mapping[str, str] | None:
    """The operating system of an inventory; None when it is unknown."""
    text = tx.scalar(sa.select(inventories.c.system).where(inventories.c.image_arn == image_arn))
    return json.loads(text) if text else None


def _numbers(tx: Connection, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The numbers of packages by key; packages that no image had yet are inserted."""
    known = _known(tx, rows)
    # in one order, in all transactions
    missing = [key for key in sorted(rows) if key not in known]
    for chunk in in_chunks(missing, _MOST_VALUES):
        tx.execute(sa.insert(packages), [_columns(key, rows[key]) for key in chunk])
    return known | _known(tx, missing)


def _known(tx: Connection, keys: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for chunk in in_chunks(keys, _MOST_VALUES):
        query = sa.select(packages.c.key, packages.c.number).where(packages.c.key.in_(chunk))
        found.update((row.key, row.number) for row in tx.execute(query))
    return found


def _key(row: Mapping[str, Any]) -> str:
    return sha256_hex(json_bytes(row, ordered=True))


def _columns(key: str, row: Mapping[str, Any]) -> Mapping[str, object]:
    kind, name = str(row.get("kind", "")), str(row.get("name", ""))
    return {
        "key": key, "kind": kind, "name": name, "version": str(row.get("version", "")),
        "source": str(row.get("source", "") or name), "lookup": normal_name(kind, name), "document": dict(row),
    }  # fmt: skip


def _remove(tx: Connection, image_arn: str) -> None:
    """Remove an inventory, and the packages that no other image has."""
    number = inventory_number(tx, image_arn)
    if number is None:
        return
    parts = inventory_packages
    had = set(tx.scalars(sa.select(parts.c.package).where(parts.c.inventory == number)))
    tx.execute(sa.delete(parts).where(parts.c.inventory == number))
    tx.execute(sa.delete(exposures).where(exposures.c.inventory == number))
    tx.execute(sa.delete(inventories).where(inventories.c.number == number))
    used = sa.exists().where(parts.c.package == packages.c.number)
    for chunk in in_chunks(sorted(had), _MOST_VALUES):
        tx.execute(sa.delete(packages).where(packages.c.number.in_(chunk), ~used))


def _take_turn(tx: Connection) -> None:
    if tx.dialect.name == "postgresql":
        tx.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


_PUT_EXPOSURES: Final = upserting(exposures)


def put_exposures(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store what advisories name since the build of images; rows as the table has them."""
    _PUT_EXPOSURES.write(tx, rows)


def exposures_of(tx: Connection, numbers: Iterable[int]) -> set[tuple[int, str]]:
    """(inventory, vulnerability) of what is stored for these inventories."""
    found: set[tuple[int, str]] = set()
    for chunk in in_chunks(sorted(set(numbers)), _MOST_VALUES):
        query = sa.select(exposures.c.inventory, exposures.c.vulnerability_id)
        rows = tx.execute(query.where(exposures.c.inventory.in_(chunk)))
        found.update((row.inventory, row.vulnerability_id) for row in rows)
    return found
