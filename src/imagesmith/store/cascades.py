"""Images that became AVAILABLE and whose dependent pipelines were not checked yet.

A row is written in the transaction that makes the image AVAILABLE and removed after its dependents were started, so
the next server continues when one dies in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import microseconds
from imagesmith.store.tables import cascades, resources
from imagesmith.store.upsert import for_dialect, inserts_if_absent
from imagesmith.values.states import PipelineStatus

_PUT = inserts_if_absent(cascades)
_WAITING = sa.select(cascades.c.image_arn).order_by(cascades.c.since, cascades.c.image_arn)
_RECIPE_MEMBERS = ("containerRecipeArn", "imageRecipeArn")
_MOST_FRAGMENTS = 100
"""Greatest number of conditions in a statement; with more, everything is listed."""

_RECIPE_KINDS = ("container-recipe", "image-recipe")


def put_cascade(tx: Connection, image_arn: str, since: datetime) -> None:
    """Record that an image became AVAILABLE."""
    tx.execute(for_dialect(tx, _PUT), {"image_arn": image_arn, "since": microseconds(since)})


def waiting_cascades(tx: Connection, limit: int) -> list[str]:
    """Images of any scope, the oldest first."""
    return list(tx.execute(_WAITING.limit(limit)).scalars())


def forget_cascades(tx: Connection, image_arns: Sequence[str]) -> None:
    tx.execute(sa.delete(cascades).where(cascades.c.image_arn.in_(image_arns)))


def parents_like(tx: Connection, account: str, region: str, fragment: str) -> list[tuple[str, str]]:
    """(recipe, parentImage) of a scope's recipes whose parent contains a text."""
    parent = resources.c.document["parentImage"].as_string()
    query = sa.select(resources.c.arn, parent).where(
        resources.c.account == account, resources.c.region == region, resources.c.kind.in_(_RECIPE_KINDS)
    )
    return [(arn, text) for arn, text in tx.execute(query.where(parent.contains(fragment, autoescape=True)))]


def enabled_pipelines(tx: Connection, account: str, region: str, fragments: Sequence[str]) -> list[tuple[str, str]]:
    """(pipeline, its recipe as written) of a scope's ENABLED pipelines, by ARN; other recipes may be left out.

    `fragments`: each wanted recipe contains one of these texts. Reads every pipeline, which takes seconds for a
    million, so call it in a transaction that only reads.
    """
    recipe = sa.func.coalesce(*(resources.c.document[name].as_string() for name in _RECIPE_MEMBERS))
    query = sa.select(resources.c.arn, recipe).where(
        resources.c.account == account,
        resources.c.region == region,
        resources.c.kind == "image-pipeline",
        resources.c.status == PipelineStatus.ENABLED,
    )
    if len(fragments) <= _MOST_FRAGMENTS:
        query = query.where(sa.or_(*(recipe.contains(fragment, autoescape=True) for fragment in fragments)))
    return [(arn, text) for arn, text in tx.execute(query.order_by(resources.c.arn))]
