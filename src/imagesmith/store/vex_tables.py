"""The table of verdicts about vulnerabilities (VEX): one row for each statement about a product and a package."""

from __future__ import annotations

import sqlalchemy as sa

from imagesmith.store.account_tables import metadata
from imagesmith.store.columns import number, text

vex_statements = sa.Table(
    "vex_statements",
    metadata,
    text("id", primary_key=True),
    text("account"),
    text("region"),
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
