"""Typed rows: arguments and results of queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from imagesmith.store.build_outcome import BuildOutcome
from imagesmith.store.internal_members import NO_INTERNAL_MEMBERS, InternalMembers
from imagesmith.values.api import ApiDocument
from imagesmith.values.arn import Arn
from imagesmith.values.version import Version


@dataclass(frozen=True)
class Record:
    """One resource. `document` is the answer of its Get operation, without tags."""

    arn: str
    account: str
    region: str
    kind: str
    slug: str
    name: str
    created: datetime
    document: ApiDocument
    tags: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    version: Version = Version(0, 0, 0)
    build: int = 0
    status: str = ""
    source: str = ""
    """For an image: the ARN of the pipeline that made it."""
    internal: InternalMembers = NO_INTERNAL_MEMBERS

    @property
    def parsed(self) -> Arn:
        return Arn.parse(self.arn)

    @property
    def stored(self) -> ApiDocument:
        """The value of the column `document`."""
        return {**self.document, **self.internal.to_json()}

    def to_api(self) -> ApiDocument:
        """The document with its tags, as Get operations answer it (`tags` is always there, spec/api.md 2.2)."""
        return {**self.document, "tags": dict(self.tags)}

    @property
    def order(self) -> tuple[int, int, int, int]:
        return (*self.version.nodes, self.build)


@dataclass(frozen=True)
class Cursor:
    """The end of a page: newest first, ARN as tie-break (spec/api.md 4.6)."""

    created: int
    arn: str


@dataclass(frozen=True)
class Build:
    """The plan of a build and its outcome."""

    image_arn: str
    plan: Mapping[str, Any]
    outcome: BuildOutcome = field(default_factory=BuildOutcome)
    cancel_requested: bool = False


def microseconds(moment: datetime) -> int:
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_microseconds(count: int) -> datetime:
    seconds, rest = divmod(count, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).replace(microsecond=rest)
