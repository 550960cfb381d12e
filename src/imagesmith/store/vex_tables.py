"""The table of verdicts about vulnerabilities (VEX): one row for each statement about a product and a package.

An id is derived from what a statement is about, so two accounts may have the same.
"""

from __future__ import annotations

import sqlalchemy as sa

from imagesmith.store.account_tables import metadata
from imagesmith.store.columns import number, text

vex_statements = sa.Table(
    "vex_statements",
    metadata,
    text("account", primary_key=True),
    text("region", primary_key=True),
    text("id", primary_key=True),
    text("vulnerability"),
    text("product"),
    text("package"),
    text("status"),
    text("justification"),
    text("impact"),
    text("action"),
    text("author"),
    number("stated"),
    sa.Index("vex_statements_by_vulnerability", "account", "region", "vulnerability"),
)
