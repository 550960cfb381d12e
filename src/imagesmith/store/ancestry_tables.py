"""The tables of what images are built on.

ancestry     an image, its digest, and what it was built on: an ARN or another reference, and the digest of that
revocations  images that must not be used, and why; their children inherit it
"""

from __future__ import annotations

import sqlalchemy as sa

from imagesmith.store.account_tables import metadata
from imagesmith.store.columns import number, text

ancestry = sa.Table(
    "ancestry",
    metadata,
    text("image_arn", primary_key=True),
    text("digest"),
    text("parent"),
    text("parent_digest"),
    sa.Index("ancestry_by_digest", "digest"),
    sa.Index("ancestry_by_parent", "parent"),
    sa.Index("ancestry_by_parent_digest", "parent_digest"),
)

revocations = sa.Table(
    "revocations",
    metadata,
    text("image_arn", primary_key=True),
    text("reason"),
    text("author"),
    number("revoked"),
)
