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


@pytest.mark.parametrize("deleted", ["base", "middle", "app"])
@pytest.mark.parametrize("first", ["revoked", "deleted"])
def test_a_deleted_image_keeps_its_place(database: Database, deleted: str, first: str) -> None:
    """Its bytes are in its children and in registries: a revocation holds with it and without it."""
    family(database)
    with database.write(SCOPE) as tx:
        if first == "deleted":
            queries.delete(tx, image_arn(deleted))
        put_revocation(tx, Revocation(image_arn("base"), "leaked key", "ann", NOW))
        queries.delete(tx, image_arn(deleted))
        for name in ("base", "middle", "app"):
            found = revocation_of(tx, image_arn(name))
            assert found is not None and found == revocation_of_digest(tx, digest_of(name))
        assert names(ancestry.ancestors(tx, image_arn("app"))) == ["app", "middle", "base"]
        assert revocation_of(tx, image_arn("other")) is None
        assert remove_revocation(tx, image_arn("base")) and revocation_of(tx, image_arn("app")) is None


@pytest.mark.parametrize("named", ["arn", "digest"])
@pytest.mark.parametrize("revoked", [("base", 1), ("middle", 1), ("middle", 2), ("mother", 1)])
def test_every_image_of_the_same_bytes_is_followed(
    database: Database, revoked: tuple[str, int], named: str
) -> None:
    """Two builds of one digest were built on different parents: either may be what a child was built on."""
    family(database)
    put_image(database, "mother", None)
    put_image(database, "middle", None, build=2)
    put_image(database, "child", None, parent=image_arn("middle", 2) if named == "arn" else "registry.example/m:2",
              parent_digest=digest_of("middle"))  # fmt: skip
    with database.write(SCOPE) as tx:
        twin = Lineage(
            image_arn=image_arn("middle", 2), digest=digest_of("middle"), parent=image_arn("mother"),
            parent_digest=digest_of("mother"),
        )  # fmt: skip
        ancestry.put_lineages(tx, [twin])
        put_revocation(tx, Revocation(image_arn(*revoked), "r", "a", NOW))
        below = ["middle", "middle", "app", "child"]
        for arn in (image_arn("middle"), image_arn("middle", 2), image_arn("app"), image_arn("child")):
            assert revocation_of(tx, arn) is not None
        held = [arn.split("/")[1] for level in ancestry.holders(tx, image_arn(*revoked)) for arn in level]
        assert held == (below if revoked[0] == "middle" else [revoked[0], *below])
        for name in {"base", "mother", "other"} - {revoked[0]}:
            assert revocation_of(tx, image_arn(name)) is None


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


def test_a_deleted_image_is_marked_and_named_by_its_arn(store: Database, call: Call) -> None:
    """It can still be shown, withdrawn and revoked again; its name leads to nothing."""
    family(store)
    base = image_arn("base")
    call("image", "revoke", "base", "--reason", "leaked key")
    with store.write(SCOPE) as tx:
        queries.delete(tx, base)
    assert call("image", "ancestry", "middle").output.splitlines()[:4] == [
        "debian:12",
        f"  {base}  deleted  REVOKED",
        f"    {image_arn('middle')}  <--  REVOKED",
        f"      {image_arn('app')}  REVOKED",
    ]
    (parent,) = json.loads(call("image", "ancestry", "middle", "--json").output)["parents"]
    assert (parent["arn"], parent["deleted"]) == (base, True)
    with pytest.raises(CommandFailed, match="there is no image base"):
        call("image", "unrevoke", "base")
    assert "not revoked any more" in call("image", "unrevoke", base).output
    again = call("image", "revoke", base, "--reason", "after all").output.splitlines()
    assert again[1] == f"  {base}  deleted" and "registry.example/app:1.0.0-1" in again[-1]


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
