"""What images are built on: their parents up to the base, and their children.

A parent is known by its ARN, or by its digest where a recipe names a registry: both lead to the same image.
The row of an image stays when the image is deleted: what was built on it still holds its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.ancestry_tables import ancestry
from imagesmith.store.prepared import Prepared
from imagesmith.store.upsert import upserting
from imagesmith.values.chunks import in_chunks

MOST_GENERATIONS: Final = 100
"""Greatest length of a chain that is followed: records of parents are data, and could form a circle."""
_MOST_VALUES: Final = 500
_PUT: Final = upserting(ancestry)
_SET_DIGESTS: Final = Prepared(
    sa.update(ancestry)
    .where(ancestry.c.image_arn == sa.bindparam("changed"))
    .values(
        digest=sa.bindparam("digest"),
        # a plan may know the digest of the parent before the outcome does
        parent_digest=sa.func.coalesce(
            sa.func.nullif(sa.bindparam("parent_digest"), sa.literal_column("''")), ancestry.c.parent_digest
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """An image and its parent. Empty digests: not known (yet), or not an image."""

    image_arn: str
    digest: str = ""
    parent: str = ""
    """The ARN of an image, a registry reference, a layout, an AMI; empty for an imported image."""
    parent_digest: str = ""


def put_lineages(tx: Connection, items: Sequence[Lineage]) -> None:
    _PUT.write(tx, [dict(vars(item)) for item in items])


def set_digests(tx: Connection, image_arn: str, *, digest: str, parent_digest: str) -> None:
    _SET_DIGESTS.run(tx, {"changed": image_arn, "digest": digest, "parent_digest": parent_digest})


def lineages(tx: Connection, arns: Iterable[str]) -> dict[str, Lineage]:
    """The lineages of those images that are stored."""
    return {item.image_arn: item for item in _select(tx, ancestry.c.image_arn, arns)}


def images_of_digest(tx: Connection, digest: str) -> list[str]:
    """The images whose artifact has this digest."""
    return [item.image_arn for item in _select(tx, ancestry.c.digest, [digest])]


def parent_of(tx: Connection, item: Lineage) -> Lineage | None:
    """The image that an image was built on; None for a base and for what is no image of this store."""
    found = next(_select(tx, ancestry.c.image_arn, [item.parent]), None) if item.parent else None
    if found is None and item.parent_digest:
        same = list(_select(tx, ancestry.c.digest, [item.parent_digest]))
        # an image that changed nothing has the digest of its parent
        found = min((other for other in same if other.image_arn != item.image_arn), key=_order, default=None)
    return found


def ancestors(tx: Connection, image_arn: str) -> list[Lineage]:
    """The image itself, its parent, the parent of that, and so on up to the base."""
    found: dict[str, Lineage] = {}
    current = lineages(tx, [image_arn]).get(image_arn)
    while current is not None and current.image_arn not in found and len(found) < MOST_GENERATIONS:
        found[current.image_arn] = current
        current = parent_of(tx, current)
    return list(found.values())


def sources(tx: Connection, image_arn: str) -> Iterator[list[str]]:
    """The images whose bytes an image may hold, nearest first, each once: those of its own digest, what any of them
    was built on, and so on.

    Of several images of a digest each counts: it is not known which of them was taken, and their parents differ.
    """
    level = _of_same_bytes(tx, lineages(tx, [image_arn]))
    yield from _generations(level, lambda items: _of_same_bytes(tx, _direct_parents(tx, items)))


def holders(tx: Connection, image_arn: str) -> Iterator[list[str]]:
    """The images that may hold the bytes of an image, as sources() of theirs: nearest first, each once."""
    level = _of_same_bytes(tx, lineages(tx, [image_arn]))
    yield from _generations(level, lambda items: _of_same_bytes(tx, _direct_children(tx, items)))


_Items = Mapping[str, Lineage]
"""Images by their ARNs."""


def _generations(level: _Items, following: Callable[[_Items], _Items]) -> Iterator[list[str]]:
    seen: set[str] = set()
    for _ in range(MOST_GENERATIONS):
        level = {arn: item for arn, item in level.items() if arn not in seen}
        if not level:
            break
        seen |= set(level)
        yield sorted(level)
        level = following(level)


def _of_same_bytes(tx: Connection, items: _Items) -> _Items:
    same = _select(tx, ancestry.c.digest, {item.digest for item in items.values()} - {""})
    return {**items, **{item.image_arn: item for item in same}}


def _direct_parents(tx: Connection, items: _Items) -> _Items:
    by_arn = _select(tx, ancestry.c.image_arn, {item.parent for item in items.values()} - {""})
    by_digest = _select(tx, ancestry.c.digest, {item.parent_digest for item in items.values()} - {""})
    return {item.image_arn: item for item in (*by_arn, *by_digest)}


def _direct_children(tx: Connection, items: _Items) -> _Items:
    by_arn = _select(tx, ancestry.c.parent, items)
    by_digest = _select(tx, ancestry.c.parent_digest, {item.digest for item in items.values()} - {""})
    return {item.image_arn: item for item in (*by_arn, *by_digest)}


def children(tx: Connection, parents: Sequence[Lineage]) -> list[Lineage]:
    """The images that are built directly on any of these, each once."""
    arns = {item.image_arn for item in parents}
    by_arn = _select(tx, ancestry.c.parent, arns)
    found = {item.image_arn: item for item in by_arn}
    digests = {item.digest for item in parents if item.digest}
    # one that names another image of the same digest by its ARN is a child of that one
    found.update(
        (item.image_arn, item)
        for item in _select(tx, ancestry.c.parent_digest, digests)
        if not item.parent.startswith("arn:")
    )
    return sorted((item for item in found.values() if item.image_arn not in arns), key=_order)


def descendants(tx: Connection, image_arn: str) -> list[tuple[int, Lineage]]:
    """(generation, image) of all images below one: children are generation 1."""
    level = list(lineages(tx, [image_arn]).values())
    seen = {item.image_arn for item in level}
    found: list[tuple[int, Lineage]] = []
    for generation in range(1, MOST_GENERATIONS):
        level = [item for item in children(tx, level) if item.image_arn not in seen]
        if not level:
            break
        seen |= {item.image_arn for item in level}
        found += [(generation, item) for item in level]
    return found


def _select(tx: Connection, column: sa.Column[Any], values: Iterable[str]) -> Iterator[Lineage]:
    for chunk in in_chunks(sorted(set(values)), _MOST_VALUES):
        for row in tx.execute(sa.select(ancestry).where(column.in_(chunk))):
            yield Lineage(**row._mapping)


def _order(item: Lineage) -> str:
    return item.image_arn


def planned_lineage(image_arn: str, plan: Mapping[str, Any], *, digest: str, parent_digest: str) -> Lineage:
    """The lineage in a stored plan."""
    parent = plan.get("parent") or {}
    return Lineage(
        image_arn=image_arn, digest=digest, parent=str(parent.get("reference", "")),
        parent_digest=parent_digest or str(parent.get("digest", "")),
    )  # fmt: skip
