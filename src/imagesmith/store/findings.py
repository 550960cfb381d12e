"""Findings of image scans: written once per scan, listed newest first, counted by severity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import Cursor, from_microseconds, microseconds
from imagesmith.store.tables import findings
from imagesmith.values.chunks import in_chunks

Column = Literal["account", "image_arn", "pipeline_arn", "vulnerability_id", "severity"]
"""Columns that findings can be selected and counted by."""


@dataclass(frozen=True)
class StoredFinding:
    """One finding of one image; `document` is the scanner's result as plain data."""

    image_arn: str
    pipeline_arn: str
    account: str
    region: str
    vulnerability_id: str
    severity: str
    observed: datetime
    position: str
    """Orders the findings of one scan, worst first."""
    document: Mapping[str, Any]

    @property
    def cursor(self) -> Cursor:
        return Cursor(microseconds(self.observed), self.position)


def put_findings(
    tx: Connection,
    image_arn: str,
    pipeline_arn: str,
    *,
    account: str,
    region: str,
    observed: datetime,
    documents: Sequence[Mapping[str, Any]],
) -> None:
    """Store the findings of an image over those of an earlier scan; `documents` worst first, each with
    `vulnerability_id` and `severity`."""
    forget_findings(tx, image_arn)
    rows = [
        {
            "image_arn": image_arn, "pipeline_arn": pipeline_arn, "account": account, "region": region,
            "vulnerability_id": document["vulnerability_id"], "severity": document["severity"],
            "observed": microseconds(observed), "position": f"{image_arn}#{rank:06}", "document": dict(document),
        }
        for rank, document in enumerate(documents)
    ]  # fmt: skip
    if rows:
        tx.execute(sa.insert(findings), rows)


def forget_findings(tx: Connection, image_arn: str) -> None:
    tx.execute(sa.delete(findings).where(findings.c.image_arn == image_arn))


def known_findings(tx: Connection, arns: Iterable[str]) -> set[tuple[str, str]]:
    """(image, vulnerability) of what scans of these images found."""
    query = sa.select(findings.c.image_arn, findings.c.vulnerability_id)
    found: set[tuple[str, str]] = set()
    for chunk in in_chunks(arns, 500):
        rows = tx.execute(query.where(findings.c.image_arn.in_(chunk)))
        found.update((row.image_arn, row.vulnerability_id) for row in rows)
    return found


def images_with_finding(tx: Connection, names: Sequence[str]) -> list[str]:
    """The images in which a scan found a vulnerability of one of these names."""
    return list(
        tx.scalars(sa.select(findings.c.image_arn).where(findings.c.vulnerability_id.in_(names)).distinct())
    )


def findings_named(tx: Connection, names: Sequence[str], arns: Iterable[str]) -> Iterator[StoredFinding]:
    """What the scans of these images found under any of these names, worst first within an image."""
    query = sa.select(findings).where(findings.c.vulnerability_id.in_(names)).order_by(findings.c.position)
    for chunk in in_chunks(sorted(set(arns)), 500):
        yield from map(_stored, tx.execute(query.where(findings.c.image_arn.in_(chunk))))


def findings_page(
    tx: Connection, account: str, region: str, *, where: Mapping[Column, str], after: Cursor | None, limit: int
) -> list[StoredFinding]:
    """The next findings of an account and region: newest scan first, worst first within it."""
    table = findings
    query = sa.select(table).where(table.c.account == account, table.c.region == region)
    for column, value in where.items():
        query = query.where(table.c[column] == value)
    if after is not None:
        later = sa.and_(table.c.observed == after.created, table.c.position > after.arn)
        query = query.where(sa.or_(table.c.observed < after.created, later))
    rows = tx.execute(query.order_by(table.c.observed.desc(), table.c.position).limit(limit))
    return [_stored(row) for row in rows]


def _stored(row: Any) -> StoredFinding:
    return StoredFinding(
        image_arn=row.image_arn,
        pipeline_arn=row.pipeline_arn,
        account=row.account,
        region=row.region,
        vulnerability_id=row.vulnerability_id,
        severity=row.severity,
        observed=from_microseconds(row.observed),
        position=row.position,
        document=row.document,
    )


def finding_keys(tx: Connection, account: str, region: str, *, column: Column, after: str, limit: int) -> list[str]:
    """The next distinct values of a column, in order; findings without a pipeline have no key in its column."""
    table = findings
    query = sa.select(table.c[column]).distinct().where(table.c.account == account, table.c.region == region)
    query = query.where(table.c[column] > after, table.c[column] != "").order_by(table.c[column]).limit(limit)
    return [str(row[0]) for row in tx.execute(query)]


def severity_counts(
    tx: Connection, account: str, region: str, *, column: Column, keys: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Key -> severity -> number of findings, for each of `keys`."""
    table = findings
    query = (
        sa.select(table.c[column], table.c.severity, sa.func.count())
        .where(table.c.account == account, table.c.region == region, table.c[column].in_(list(keys)))
        .group_by(table.c[column], table.c.severity)
    )
    counts: dict[str, dict[str, int]] = {key: {} for key in keys}
    for key, severity, count in tx.execute(query):
        counts[str(key)][str(severity)] = int(count)
    return counts
