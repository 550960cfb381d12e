"""What images are built on, and revocations that children inherit; on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from click.testing import Result

from imagesmith.cli.context import CommandFailed
from imagesmith.store import ancestry, queries
from imagesmith.store.ancestry import Lineage
from imagesmith.store.database import Database
from imagesmith.store.revocations import (
    Revocation,
    put_revocation,
    remove_revocation,
    revocation_of,
    revocation_of_digest,
)
from testing.fleet import SCOPE, digest_of, image_arn, put_image

Call = Callable[..., Result]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def family(database: Database) -> None:
    """base <- middle (by ARN) <- app (from a registry, by digest); other is built on something foreign."""
    put_image(database, "base", None, parent="debian:12", parent_digest="sha256:" + "d" * 64)
    put_image(database, "middle", None, parent=image_arn("base"), parent_digest=digest_of("base"))
    put_image(database, "app", None, parent="registry.example/middle:1", parent_digest=digest_of("middle"))
    put_image(database, "other", None, parent="debian:12", parent_digest="sha256:" + "d" * 64)


def names(items: list[Lineage]) -> list[str]:
    return [item.image_arn.split("/")[1] for item in items]


def test_parents_and_children_are_found_by_arn_and_by_digest(database: Database) -> None:
    """An image that is no image of the store ends the chain; two images on one foreign base are not relatives."""
    family(database)
    with database.read() as tx:
        assert names(ancestry.ancestors(tx, image_arn("app"))) == ["app", "middle", "base"]
        assert [(n, *names([item])) for n, item in ancestry.descendants(tx, image_arn("base"))] == [
            (1, "middle"),
            (2, "app"),
        ]
        assert ancestry.descendants(tx, image_arn("other")) == [] and ancestry.ancestors(tx, "arn:none") == []


def test_records_in_a_circle_end(database: Database) -> None:
    """Records are data: two images that name each other do not hang a command."""
    put_image(database, "a", None, parent=image_arn("b"))
    put_image(database, "b", None, parent=image_arn("a"))
    put_image(database, "self", None, parent_digest=digest_of("self"))
    with database.write(SCOPE) as tx:
        assert names(ancestry.ancestors(tx, image_arn("a"))) == ["a", "b"]
        assert names([item for _, item in ancestry.descendants(tx, image_arn("a"))]) == ["b"]
        assert names(ancestry.ancestors(tx, image_arn("self"))) == ["self"]
        put_revocation(tx, Revocation(image_arn("b"), "r", "a", NOW))
        assert revocation_of(tx, image_arn("a")) is not None


def test_children_inherit_a_revocation_until_it_is_withdrawn(database: Database) -> None:
    """The sentence of a child names the parent; an artifact is known by its digest alone."""
    family(database)
    with database.write(SCOPE) as tx:
        assert revocation_of(tx, image_arn("app")) is None
        put_revocation(tx, Revocation(image_arn("base"), "leaked key", "ann", NOW))
        found = revocation_of(tx, image_arn("app"))
        assert found == Revocation(image_arn("base"), "leaked key", "ann", NOW)
        assert found.sentence(image_arn("app")) == (
            f"{image_arn('app')} is revoked with {image_arn('base')}, which it is built on: leaked key"
        )
        assert revocation_of_digest(tx, digest_of("app")) == found
        assert revocation_of(tx, image_arn("other")) is None and revocation_of_digest(tx, "") is None
        assert not remove_revocation(tx, image_arn("app"))
        assert remove_revocation(tx, image_arn("base")) and revocation_of(tx, image_arn("app")) is None


def test_the_same_bytes_are_revoked_with_an_image(database: Database) -> None:
    """A reproducible build of the same recipe has the digest of the revoked one."""
    family(database)
    put_image(database, "base", None, build=2)
    with database.write(SCOPE) as tx:
        same = Lineage(image_arn=image_arn("base", 2), digest=digest_of("base"))
        ancestry.put_lineages(tx, [same])
        put_revocation(tx, Revocation(image_arn("base"), "r", "a", NOW))
        assert revocation_of(tx, image_arn("base", 2)) is not None


def test_a_deleted_image_leaves_the_ancestry(database: Database) -> None:
    """Its children keep its digest, and have no parent in the store."""
    family(database)
    with database.write(SCOPE) as tx:
        queries.delete(tx, image_arn("middle"))
        assert names(ancestry.ancestors(tx, image_arn("app"))) == ["app"]


def test_the_commands_show_and_change_it(store: Database, call: Call) -> None:
    """The tree has the base first; a revocation lists what holds the image and its children."""
    family(store)
    shown = json.loads(call("image", "ancestry", "middle", "--json").output)
    assert [item["arn"] for item in shown["parents"]] == [image_arn("base")]
    assert [(item["arn"], item["generation"]) for item in shown["children"]] == [(image_arn("app"), 1)]
    assert shown["base"] == {"reference": "debian:12", "digest": "sha256:" + "d" * 64}
    revoked = call("image", "revoke", "base/1.0.0/1", "--reason", "leaked key").output
    assert "built on it: 2" in revoked and "registry.example/app:1.0.0-1" in revoked
    tree = call("image", "ancestry", image_arn("app")).output.splitlines()
    assert tree[:4] == [
        "debian:12",
        f"  {image_arn('base')}  REVOKED",
        f"    {image_arn('middle')}  REVOKED",
        f"      {image_arn('app')}  <--  REVOKED",
    ]
    assert "leaked key" in tree[4]
    with pytest.raises(CommandFailed, match="which it is built on: leaked key") as failure:
        call("image", "unrevoke", "app")
    assert failure.value.hint == f"imagesmith image unrevoke {image_arn('base')}"
    assert "not revoked any more" in call("image", "unrevoke", "base").output
    with pytest.raises(CommandFailed, match="is not revoked"):
        call("image", "unrevoke", "base")


@pytest.mark.parametrize("reference", ["none", "base/2.0.0", "base/1.0.0/9", "", "/", "arn:x", "arn:aws:s3:::x"])
@pytest.mark.parametrize("words", [("ancestry",), ("revoke", "--reason", "r"), ("unrevoke",)], ids=lambda w: w[0])
def test_an_image_that_does_not_exist_is_named(
    words: tuple[str, ...], reference: str, store: Database, call: Call
) -> None:
    """Nothing is revoked by a misspelt name."""
    family(store)
    with pytest.raises(CommandFailed):
        call("image", words[0], reference, *words[1:])


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "two\nlines", "\x1b[31m"])
def test_a_reason_is_one_printable_line(reason: str, store: Database, call: Call) -> None:
    """Refusals and logs show it."""
    family(store)
    assert call("image", "revoke", "base", "--reason", reason).exit_code == 2
