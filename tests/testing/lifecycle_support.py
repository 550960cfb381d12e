"""Lifecycle executions without an engine: a journal in memory, images to act on, and a database that dies."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.builds.journal import Json, Poll, Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.lifecycle.execution import LifecycleRuns
from imagesmith.processes import Cancellation
from imagesmith.recipes.kinds import KindName
from imagesmith.store import amis, queries, stored_builds
from imagesmith.store.amis import Ami, ami_id_for
from imagesmith.store.database import Database
from imagesmith.store.records import Build, Record
from imagesmith.store.runs import Fence
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus
from imagesmith.values.version import Version
from testing.plans import ACCOUNT, PLAN, REGION


class Killed(BaseException):
    """The process ends here."""


class Parked(BaseException):
    """The run waits, and would leave the engine."""


@dataclass
class MemoryJournal:
    """The journal of one run: what ended is kept, so a run that starts again continues behind it."""

    ended: dict[str, Json] = field(default_factory=dict)
    fence: Fence | None = None
    waits: list[float] = field(default_factory=list)

    def pause(self) -> None:
        raise AssertionError("the database is there")

    def step(self, name: str, work: Work) -> Json:
        if name not in self.ended:
            self.ended[name] = work(Cancellation())
        return self.ended[name]

    finalize = step

    def wait(self, name: str, poll: Poll, *, seconds: float) -> Json:
        if name not in self.ended:
            self.waits.append(seconds)
            found = poll(Cancellation())
            if found is None:
                raise Parked
            self.ended[name] = found
        return self.ended[name]

    def start(self, key: str) -> None:
        raise AssertionError(key)

    cancel = wake = start


class DyingDatabase(Database):
    """A database whose process is killed at its next write number `left`: before the commit, or behind it."""

    left = 1_000_000
    before_commit = False

    @classmethod
    def of(cls, database: Database, *, left: int, before_commit: bool) -> DyingDatabase:
        other = copy.copy(database)
        other.__class__ = cls
        assert isinstance(other, DyingDatabase)
        other.left, other.before_commit = left, before_commit
        return other

    @contextmanager
    def _write(self, scope: str, patience: float) -> Iterator[Connection]:
        # the views of one database count together
        DyingDatabase.writes += 1
        dies = DyingDatabase.writes == self.left
        with super()._write(scope, patience) as connection:
            yield connection
            if dies and self.before_commit:
                raise Killed
        if dies:
            raise Killed

    writes = 0


def run_execution(worker_context: WorkerContext, id: str, journal: MemoryJournal | None = None) -> MemoryJournal:
    journal = journal or MemoryJournal()
    LifecycleRuns(worker_context).run(id, journal)
    return journal


def with_database(worker_context: WorkerContext, database: Database) -> WorkerContext:
    return replace(worker_context, records=worker_context.records.with_database(database))


def image_arn(slug: str = "web", version: str = "1.0.0", build: int = 1, *, account: str = ACCOUNT) -> str:
    return f"arn:aws:imagebuilder:{REGION}:{account}:image/{slug}/{version}/{build}"


def add_image(
    tx: Connection,
    arn: str,
    *,
    created: datetime,
    status: str = ImageStatus.AVAILABLE,
    type: str = "AMI",
    tags: dict[str, str] | None = None,
    outputs: dict[str, Any] | None = None,
    parent: str = "ami-0123456789abcdef0",
) -> Record:
    """An image that a build left, with its plan."""
    slug, version, build = arn.split("/")[1:]
    kind: KindName = "machine" if type == "AMI" else "container"
    empty: dict[str, Any] = {"amis" if type == "AMI" else "containers": []}
    record = Record(
        arn=arn, account=arn.split(":")[4], region=arn.split(":")[3], kind="image", slug=slug, name=slug,
        created=created, version=Version.parse(version), build=int(build), status=status, tags=tags or {},
        document={
            "arn": arn, "type": type, "name": slug, "version": f"{version}/{build}", "platform": "Linux",
            "state": {"status": status}, "dateCreated": iso_instant(created),
            "outputResources": {**empty, **(outputs or {})},
        },
    )  # fmt: skip
    queries.insert(tx, record)
    planned = replace(PLAN.parent, reference=parent)
    plan = replace(
        PLAN, image_arn=arn, account=record.account, region=record.region, name=slug, version=version,
        build=int(build), kind=kind, parent=planned,
        machine=PLAN.machine if type == "AMI" else None,
    )  # fmt: skip
    stored_builds.put_build(tx, Build(arn, plan.to_json()))
    return record


def add_ami(tx: Connection, image: Record, digest: str, *, region: str = REGION, **document: Any) -> Ami:
    """An AMI of an image, which its outputs name."""
    ami = Ami(
        ami_id=ami_id_for(image.account, region, "", source=image.arn), account=image.account, region=region,
        name=f"{image.slug} {image.version} {image.build}", digest=digest, created=image.created,
        image_arn=image.arn, document={"tags": {}, **document},
    )  # fmt: skip
    amis.put_ami(tx, ami)
    stored = queries.get(tx, image.arn)
    assert stored is not None
    outputs = stored.document["outputResources"]
    shown = [*outputs.get("amis", []), {"region": region, "image": ami.ami_id, "state": {"status": "AVAILABLE"}}]
    document_with = {**stored.document, "outputResources": {**outputs, "amis": shown}}
    queries.replace(tx, replace(stored, document=document_with))
    return ami
