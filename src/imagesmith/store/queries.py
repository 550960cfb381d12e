"""Typed queries on resources and their links, within an open unit of work."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from imagesmith.store.internal_members import InternalMembers, without_internal_members
from imagesmith.store.inventories import forget_inventory
from imagesmith.store.prepared import Prepared
from imagesmith.store.records import Cursor, Record, from_microseconds, microseconds
from imagesmith.store.tables import builds, links, resource_policies, resources
from imagesmith.store.upsert import inserting
from imagesmith.values.api import ApiDocument
from imagesmith.values.chunks import in_chunks
from imagesmith.values.states import ImageStatus
from imagesmith.values.version import Version

# built once: see store.upsert
_GET = Prepared(sa.select(resources).where(resources.c.arn == sa.bindparam("wanted")))
_EXISTS = Prepared(sa.select(resources.c.arn).where(resources.c.arn == sa.bindparam("wanted")))
_MOST_VALUES = 500
"""Values of one query: databases have limits."""
_GET_MANY = sa.select(resources).where(resources.c.arn.in_(sa.bindparam("wanted", expanding=True)))
_INSERT = sa.insert(resources)
_REPLACED = sa.update(resources).where(resources.c.arn == sa.bindparam("replaced"))
_REPLACE = Prepared(
    _REPLACED.values({name: sa.bindparam(name) for name in ("status", "document", "tags")}),
)
_REPLACE_CONTENT = Prepared(
    _REPLACED.where(resources.c.status == sa.bindparam("same")).values(
        {name: sa.bindparam(name) for name in ("document", "tags")}
    )
)
"""SQLite rewrites an index when a statement names one of its columns, even if the value stays: most changes of a
resource do not change its status."""
_GET_DOCUMENTS = sa.select(resources.c.arn, resources.c.document).where(
    resources.c.arn.in_(sa.bindparam("wanted", expanding=True))
)
_REPLACE_DOCUMENTS = sa.text(
    "UPDATE resources SET document = changed.document FROM "
    "json_to_recordset(CAST(:rows AS json)) AS changed(replaced text, document json) "
    "WHERE resources.arn = changed.replaced"
)
"""PostgreSQL: one statement for a batch; a statement for each row would be a message for each row."""
_REPLACE_DOCUMENT = _REPLACED.values(document=sa.bindparam("document"))
_VERSIONS = (
    sa.select(resources)
    .where(*(resources.c[name] == sa.bindparam(name) for name in ("account", "region", "kind", "family", "slug")))
    .order_by(*(resources.c[name].desc() for name in ("major", "minor", "patch", "build")))
)
_NEWEST_OF_SOURCE = (
    sa.select(resources)
    .where(resources.c.source == sa.bindparam("wanted"))
    .order_by(resources.c.created.desc(), resources.c.arn.desc())
    .limit(1)
)
_INSERT_LINKS = sa.insert(links)
_INSERT_ROWS = inserting(resources)


class DuplicateRecord(ValueError):
    """A resource with this ARN, or with this version in another spelling, is stored already."""


_LINKS_OF = Prepared(sa.select(links.c.to_arn).where(links.c.from_arn == sa.bindparam("wanted")))
_DELETE_LINKS = sa.delete(links).where(links.c.from_arn == sa.bindparam("wanted"))


@dataclass(frozen=True)
class Selection:
    """The filters of a list. Empty members do not restrict."""

    account: str
    region: str
    kind: str
    name: str = ""
    status: str = ""
    source: str = ""
    slug: str = ""
    version: Version | None = None
    newest_build_only: bool = False
    newest_version_only: bool = False


def get(tx: Connection, arn: str) -> Record | None:
    row = _GET.first(tx, {"wanted": arn})
    return None if row is None else _record(row)


def exists(tx: Connection, arn: str) -> bool:
    return _EXISTS.first(tx, {"wanted": arn}) is not None


def get_many(tx: Connection, arns: Sequence[str]) -> dict[str, Record]:
    """The stored resources among `arns`, of which there may be any number."""
    found: dict[str, Record] = {}
    for chunk in in_chunks(arns, _MOST_VALUES):
        # all at once: fetching row by row releases and acquires the GIL for each row
        found.update((row.arn, _record(row)) for row in tx.execute(_GET_MANY, {"wanted": chunk}).all())
    return found


def insert(tx: Connection, record: Record, needs: Iterable[str] = ()) -> None:
    """Store a new resource and links to the ARNs that it needs. Raises DuplicateRecord."""
    try:
        tx.execute(_INSERT, _columns(record))
    except IntegrityError as error:
        raise DuplicateRecord(record.arn) from error
    _add_links(tx, record.arn, needs)


def insert_many(tx: Connection, records: Sequence[Record]) -> None:
    """Store new resources without links. Raises DuplicateRecord."""
    try:
        _INSERT_ROWS.write(tx, [_columns(record) for record in records])
    except IntegrityError as error:
        raise DuplicateRecord(", ".join(record.arn for record in records)) from error


def replace(tx: Connection, record: Record, needs: Iterable[str] | None = None) -> None:
    """Replace document, tags and status of a stored resource; the rest of a record never changes.

    With `needs` None its links stay.
    """
    content = {"document": record.stored, "tags": record.tags, "replaced": record.arn}
    if not _REPLACE_CONTENT.run(tx, {**content, "same": record.status}):
        _REPLACE.run(tx, {**content, "status": record.status})
    if needs is not None:
        set_links(tx, record.arn, needs)


def documents(tx: Connection, arns: Sequence[str]) -> Mapping[str, ApiDocument]:
    """The column `document` of the stored resources among `arns`."""
    return {row.arn: row.document for row in tx.execute(_GET_DOCUMENTS, {"wanted": arns})}


def replace_documents(tx: Connection, changed: Sequence[Record]) -> None:
    """Replace only the documents of resources; each resource may occur once."""
    if not changed:
        return
    rows = [{"replaced": record.arn, "document": record.stored} for record in changed]
    if tx.dialect.name == "postgresql":
        tx.execute(_REPLACE_DOCUMENTS, {"rows": json.dumps(rows)})
        return
    tx.execute(_REPLACE_DOCUMENT, rows)


def delete(tx: Connection, arn: str) -> None:
    """Remove a resource, its links, its plan, its inventory and its policy.

    The place of an image in the ancestry stays: a revocation holds for what was built on it, also without it.
    """
    tx.execute(sa.delete(resources).where(resources.c.arn == arn))
    tx.execute(sa.delete(links).where(links.c.from_arn == arn))
    tx.execute(sa.delete(builds).where(builds.c.image_arn == arn))
    forget_inventory(tx, arn)
    tx.execute(sa.delete(resource_policies).where(resource_policies.c.arn == arn))


def set_links(tx: Connection, from_arn: str, needs: Iterable[str]) -> None:
    """Replace the links of a resource. Reads first: updates seldom change links, and reading is cheaper."""
    wanted = set(needs)
    if {row.to_arn for row in _LINKS_OF.rows(tx, {"wanted": from_arn})} == wanted:
        return
    tx.execute(_DELETE_LINKS, {"wanted": from_arn})
    _add_links(tx, from_arn, wanted)


def _add_links(tx: Connection, from_arn: str, needs: Iterable[str]) -> None:
    rows = [{"from_arn": from_arn, "to_arn": arn} for arn in sorted(set(needs))]
    if rows:
        tx.execute(_INSERT_LINKS, rows)


def is_needed(tx: Connection, arn: str) -> bool:
    return tx.execute(sa.select(links.c.from_arn).where(links.c.to_arn == arn).limit(1)).first() is not None


def count(tx: Connection, selection: Selection) -> int:
    return int(tx.execute(sa.select(sa.func.count()).where(*_conditions(selection))).scalar_one())


def page(tx: Connection, selection: Selection, after: Cursor | None, limit: int) -> list[Record]:
    """The next `limit` resources, newest first."""
    table = resources
    query = sa.select(table).where(*_conditions(selection))
    if after is not None:
        query = query.where(
            sa.or_(
                table.c.created < after.created,
                sa.and_(table.c.created == after.created, table.c.arn < after.arn),
            )
        )
    query = query.order_by(table.c.created.desc(), table.c.arn.desc()).limit(limit)
    return [_record(row) for row in tx.execute(query)]


def versions(tx: Connection, account: str, region: str, kind: str, slug: str, *, family: str = "") -> list[Record]:
    """Every build of a slug, highest version and build first."""
    wanted = {"account": account, "region": region, "kind": kind, "family": family, "slug": slug}
    return [_record(row) for row in tx.execute(_VERSIONS, wanted)]


def by_status(tx: Connection, kind: str, statuses: Sequence[str]) -> list[Record]:
    query = sa.select(resources).where(resources.c.kind == kind, resources.c.status.in_(statuses))
    return [_record(row) for row in tx.execute(query.order_by(resources.c.created))]


def newest_available(tx: Connection, sources: Sequence[str]) -> dict[str, str]:
    """Pipeline -> the ARN of its newest AVAILABLE image, for those that have one."""
    table = resources
    query = (
        sa.select(table.c.source, table.c.arn)
        .where(table.c.source.in_(sources), table.c.status == ImageStatus.AVAILABLE, table.c.kind == "image")
        .order_by(table.c.created, table.c.arn)
    )
    return {row.source: row.arn for row in tx.execute(query)}


def newest_of_source(tx: Connection, source: str) -> Record | None:
    row = tx.execute(_NEWEST_OF_SOURCE, {"wanted": source}).first()
    return None if row is None else _record(row)


def _conditions(selection: Selection) -> list[sa.ColumnElement[bool]]:
    table = resources
    wanted: list[sa.ColumnElement[bool]] = [
        table.c.account == selection.account,
        table.c.region == selection.region,
        table.c.kind == selection.kind,
    ]
    for column, value in (
        (table.c.name, selection.name),
        (table.c.status, selection.status),
        (table.c.source, selection.source),
        (table.c.slug, selection.slug),
    ):
        if value:
            wanted.append(column == value)
    if selection.version is not None:
        major, minor, patch = selection.version.nodes
        wanted += [table.c.major == major, table.c.minor == minor, table.c.patch == patch]
    if selection.newest_build_only or selection.newest_version_only:
        wanted.append(_is_newest(of_version=not selection.newest_version_only))
    return wanted


def _is_newest(*, of_version: bool) -> sa.ColumnElement[bool]:
    """The condition that no later row of the same slug (and version) exists."""
    table, other = resources, resources.alias("other")
    same = [
        getattr(other.c, name) == getattr(table.c, name) for name in ("account", "region", "kind", "family", "slug")
    ]
    nodes = ("major", "minor", "patch", "build")
    if of_version:
        same += [getattr(other.c, name) == getattr(table.c, name) for name in nodes[:3]]
        later: sa.ColumnElement[bool] = other.c.build > table.c.build
    else:
        later = sa.tuple_(*(getattr(other.c, name) for name in nodes)) > sa.tuple_(
            *(getattr(table.c, name) for name in nodes)
        )
    return ~sa.exists(sa.select(sa.literal(1)).select_from(other).where(*same, later).correlate(table))


def _columns(record: Record) -> Mapping[str, object]:
    return {
        "arn": record.arn, "account": record.account, "region": record.region, "kind": record.kind,
        "family": record.family, "slug": record.slug, "name": record.name,
        "major": record.version.major, "minor": record.version.minor, "patch": record.version.patch,
        "build": record.build, "status": record.status, "source": record.source,
        "created": microseconds(record.created), "document": record.stored, "tags": dict(record.tags),
    }  # fmt: skip


def _record(row: Row[Any]) -> Record:
    return Record(
        arn=row.arn, account=row.account, region=row.region, kind=row.kind, family=row.family, slug=row.slug,
        name=row.name, version=Version(row.major, row.minor, row.patch), build=row.build, status=row.status,
        source=row.source, created=from_microseconds(row.created), document=without_internal_members(row.document),
        tags=row.tags, internal=InternalMembers.from_json(row.document),
    )  # fmt: skip
