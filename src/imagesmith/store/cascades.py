"""Images that became AVAILABLE and whose dependent pipelines are still to be looked at.

A row is written in the transaction that makes the image AVAILABLE and removed after its dependents were started, so
a server that dies in between leaves it to the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import microseconds
from imagesmith.store.tables import cascades, resources
from imagesmith.store.upsert import for_dialect, inserts_if_absent

_PUT = inserts_if_absent(cascades)
_WAITING = sa.select(cascades.c.image_arn).order_by(cascades.c.since, cascades.c.image_arn)
_RECIPE_MEMBERS = ("containerRecipeArn", "imageRecipeArn")
_MOST_FRAGMENTS = 100
"""Conditions of one statement; beyond, everything is listed."""

_RECIPE_KINDS = ("container-recipe", "image-recipe")


def put_cascade(tx: Connection, image_arn: str, since: datetime) -> None:
    """Note that an image became AVAILABLE."""
    tx.execute(for_dialect(tx, _PUT), {"image_arn": image_arn, "since": microseconds(since)})


def waiting_cascades(tx: Connection, limit: int) -> list[str]:
    """Images of any scope, the oldest first."""
    return list(tx.execute(_WAITING.limit(limit)).scalars())


def forget_cascades(tx: Connection, image_arns: Sequence[str]) -> None:
    tx.execute(sa.delete(cascades).where(cascades.c.image_arn.in_(image_arns)))


def parents_like(tx: Connection, account: str, region: str, fragment: str) -> list[tuple[str, str]]:
    """(recipe, parentImage) of the recipes of a scope whose parent contains a text."""
    parent = resources.c.document["parentImage"].as_string()
    query = sa.select(resources.c.arn, parent).where(
        resources.c.account == account, resources.c.region == region, resources.c.kind.in_(_RECIPE_KINDS)
    )
    return [(arn, text) for arn, text in tx.execute(query.where(parent.contains(fragment, autoescape=True)))]


def enabled_pipelines(tx: Connection, account: str, region: str, fragments: Sequence[str]) -> list[tuple[str, str]]:
    """(pipeline, its recipe as written) of the ENABLED pipelines of a scope, by ARN; other recipes may be left out.

    `fragments`: texts of which the recipes that are wanted contain one. Looks at every pipeline: a million take
    seconds, so this belongs in a transaction that only reads.
    """
    recipe = sa.func.coalesce(*(resources.c.document[name].as_string() for name in _RECIPE_MEMBERS))
    query = sa.select(resources.c.arn, recipe).where(
        resources.c.account == account,
        resources.c.region == region,
        resources.c.kind == "image-pipeline",
        resources.c.status == "ENABLED",
    )
    if len(fragments) <= _MOST_FRAGMENTS:
        query = query.where(sa.or_(*(recipe.contains(fragment, autoescape=True) for fragment in fragments)))
    return [(arn, text) for arn, text in tx.execute(query.order_by(resources.c.arn))]
