"""Packages of images as rows, on both databases."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from imagesmith.store import inventories, queries
from imagesmith.store.database import Database
from imagesmith.store.package_tables import inventory_packages, packages
from testing.fleet import DEBIAN, SCOPE, deb, image_arn, put_image

BASH, SSL = deb("bash", "5.2"), deb("libssl3", "3.0.1", "openssl")


def count(database: Database, table: sa.Table) -> int:
    with database.read() as tx:
        return int(tx.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def test_a_package_of_many_images_is_one_row(database: Database) -> None:
    """Each image lists its packages in the order that it was given, also one that occurs twice."""
    rows = {"a": [SSL, BASH, SSL], "b": [BASH], "c": []}
    for name, items in rows.items():
        put_image(database, name, items)
    assert count(database, packages) == 2 and count(database, inventory_packages) == 4
    with database.read() as tx:
        for name, items in rows.items():
            assert inventories.get_inventory(tx, image_arn(name)) == [item.to_json() for item in items]
        assert inventories.get_inventory(tx, image_arn("none")) is None
        assert inventories.systems(tx) == [json.dumps(DEBIAN.to_json(), sort_keys=True, separators=(",", ":"))]


def test_packages_that_no_image_has_are_removed(database: Database) -> None:
    """With the image, and when another inventory takes the place of the first; those of others stay."""
    put_image(database, "a", [BASH, SSL])
    put_image(database, "b", [BASH])
    with database.write(SCOPE) as tx:
        inventories.put_inventory(tx, image_arn("a"), [deb("curl", "8").to_json()])
        assert sorted(item.document["name"] for item in inventories.all_packages(tx)) == ["bash", "curl"]
        queries.delete(tx, image_arn("a"))
        queries.delete(tx, image_arn("b"))
    assert count(database, packages) == 0 and count(database, inventory_packages) == 0


@pytest.mark.parametrize(
    ("name", "found"),
    [("openssl", ["libssl3"]), ("libssl3", ["libssl3"]), ("bash", ["bash"]), ("ssl", []), ("", [])],
)
def test_packages_are_found_by_their_own_name_and_by_their_source(
    database: Database, name: str, found: list[str]
) -> None:
    """Each once, although both names of `bash` are the same."""
    put_image(database, "a", [BASH, SSL])
    with database.read() as tx:
        assert [item.document["name"] for item in inventories.packages_named(tx, [name], ["deb"])] == found
        assert list(inventories.packages_named(tx, [name], ["rpm"])) == []


def test_the_holders_of_a_package_are_those_of_one_system_if_wanted(database: Database) -> None:
    """The same package on another system is another answer."""
    put_image(database, "a", [BASH])
    put_image(database, "b", [BASH], system=None)
    with database.read() as tx:
        (package,) = inventories.all_packages(tx)
        debian, *_ = (text for text in inventories.systems(tx) if text)
        assert [item.image_arn for item in inventories.holders(tx, [package.number], debian)] == [image_arn("a")]
        both = {item.image_arn for item in inventories.holders(tx, [package.number])}
        assert both == {image_arn("a"), image_arn("b")}
        assert inventories.images_without_system(tx) == 1
