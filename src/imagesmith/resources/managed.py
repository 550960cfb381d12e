"""Managed content as resources: components and base images of owner `aws` (spec/api.md 4.12).

They are documents in the package, not rows: every account and region sees the same ones, under ARNs of its own
partition and region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from imagesmith.store.records import Record
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.version import Version

PUBLISHED = datetime(2026, 11, 1, tzinfo=UTC)
"""Managed content carries one date: that of the release it ships with."""


@dataclass(frozen=True)
class ManagedItem:
    """One managed component or base image, independent of partition and region."""

    kind: str
    slug: str
    version: str
    document: dict[str, Any]
    """Members that Get answers besides arn, name, version, owner and dates."""


@dataclass(frozen=True)
class ManagedContent:
    """Everything of owner `aws`."""

    items: Sequence[ManagedItem] = ()

    def records(self, kind: str, partition: str, region: str) -> list[Record]:
        """All managed resources of a kind, highest version first within a slug."""
        made = [_record(item, partition, region) for item in self.items if item.kind == kind]
        return sorted(made, key=lambda record: (record.slug, record.order), reverse=True)

    def versions(self, arn: Arn) -> list[Record]:
        """The builds of one managed slug, highest first."""
        return [record for record in self.records(arn.kind, arn.partition, arn.region) if record.slug == arn.slug]


def _record(item: ManagedItem, partition: str, region: str) -> Record:
    arn = Arn(partition, region, "aws", item.kind, item.slug, item.version, "1")
    shown_version = f"{item.version}/1" if item.kind == "image" else item.version
    document = {
        "arn": str(arn),
        "name": item.slug,
        "version": shown_version,
        "owner": "Amazon",
        "dateCreated": iso_instant(PUBLISHED),
        **item.document,
    }
    status = document.get("state", {}).get("status", "")
    return Record(
        arn=str(arn), account="aws", region=region, kind=item.kind, slug=item.slug, name=item.slug,
        created=PUBLISHED, document=document, version=Version.parse(item.version), build=1, status=status,
    )  # fmt: skip
