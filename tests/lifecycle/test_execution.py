"""Lifecycle executions on real stores: what they do to images, AMIs and disks, also when they are killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from imagesmith.artifacts.disks import DiskStore
from imagesmith.build_logs.logs import log_path
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.lifecycle.order import Order, StateUpdate
from imagesmith.store import amis, lifecycle, queries
from imagesmith.store.amis import may_launch
from imagesmith.store.database import Database
from imagesmith.store.lifecycle import LifecycleExecution, LifecycleResource
from imagesmith.store.policies import StoredPolicy, put_policy
from imagesmith.store.records import Record
from imagesmith.values.states import LifecycleAction, LifecycleStatus
from testing.clocks import MovingClock
from testing.disks import raw_disk
from testing.lifecycle_support import (
    DyingDatabase,
    Killed,
    MemoryJournal,
    Parked,
    add_ami,
    add_image,
    image_arn,
    run_execution,
    with_database,
)
from testing.plans import ACCOUNT, OTHER, REGION

pytestmark = pytest.mark.tool

ID = "lce-00000000-0000-0000-0000-000000000001"
ALL = {"amis": True, "snapshots": True}


@pytest.fixture
def disk(worker_context: WorkerContext, tmp_path: Path) -> str:
    """The digest of a disk of the worker."""
    raw_disk(tmp_path / "made.raw")
    return worker_context.disks.take(tmp_path / "made.raw").digest


@pytest.fixture
def start(database: Database, clock: MovingClock) -> Callable[..., str]:
    """Store an execution; returns its id."""

    def begin(order: Order, subject: str = image_arn()) -> str:
        execution = LifecycleExecution(
            id=ID, account=ACCOUNT, region=REGION, subject=subject, status=LifecycleStatus.IN_PROGRESS,
            started=clock(), document=order.to_json(),
        )  # fmt: skip
        database.change("test", lambda tx: lifecycle.put_execution(tx, execution))
        return ID

    return begin


def update(action: LifecycleAction, arn: str | None = None, **members: Any) -> Order:
    return Order(update=StateUpdate(image_arn=arn or image_arn(), action=action, **members))


def made(database: Database, action: Callable[[Connection], Any]) -> Any:
    return database.change("test", action)


def ended(database: Database) -> tuple[LifecycleStatus, list[LifecycleResource]]:
    """The status of the execution and its images."""
    execution = database.query(lambda tx: lifecycle.get_execution(tx, ID))
    assert execution is not None
    return execution.status, database.query(lambda tx: lifecycle.list_resources(tx, ID))


def outputs(database: Database, arn: str | None = None) -> dict[str, tuple[str, str]]:
    rows = database.query(lambda tx: lifecycle.list_resources(tx, ID, parent_id=arn or image_arn()))
    return {row.resource_id: (str(row.status), str(row.document["reason"])) for row in rows}


def stored(database: Database, arn: str | None = None) -> Record | None:
    return database.query(lambda tx: queries.get(tx, arn or image_arn()))


def test_a_deletion_removes_everything(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str]
) -> None:
    """The record, the AMI, the disk, the log and the plan are gone; the answer names them."""

    def prepare(tx: Connection) -> str:
        return add_ami(tx, add_image(tx, image_arn(), created=clock()), disk).ami_id

    ami = made(database, prepare)
    with worker_context.log(image_arn()) as log:
        log.line("build", "hello")
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include=ALL)))
    status, (row,) = ended(database)
    assert (status, row.status, row.document["reason"]) == ("SUCCESS", "SUCCESS", "")
    assert outputs(database) == {ami: ("SUCCESS", "")}
    assert stored(database) is None and worker_context.disks.digests() == []
    assert database.query(lambda tx: amis.list_amis(tx)) == []
    assert worker_context.records.plan(image_arn()) is None
    assert not log_path(worker_context.settings.data_dir / "logs", image_arn()).exists()


@pytest.mark.parametrize("before_commit", [True, False])
def test_a_deletion_that_is_killed_goes_on(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str],
    before_commit: bool,
) -> None:  # fmt: skip
    """Killed at every one of its writes in turn: the same execution ends it, and nothing is left half done."""

    def prepare(tx: Connection) -> None:
        for build in (1, 2):
            image = add_image(tx, image_arn(build=build), created=clock(), tags={"old": "yes"})
            add_ami(tx, image, disk)

    made(database, prepare)
    rule = {
        "action": {"type": "DELETE", "includeResources": ALL}, "filter": {"type": "AGE", "value": 1, "unit": "DAYS"}
    }  # fmt: skip
    document = {
        "resourceType": "AMI_IMAGE", "resourceSelection": {"tagMap": {"old": "yes"}}, "policyDetails": [rule]
    }  # fmt: skip
    clock.advance(days=2)
    start(Order(policy_arn="policy", policy=document), "policy")
    journal, kills = MemoryJournal(), 0
    while ended(database)[0] is LifecycleStatus.IN_PROGRESS:
        DyingDatabase.writes = 0
        # a new attempt looks at the image first, which is a write: only some of the kills are further than the last
        dying = DyingDatabase.of(database, left=1 + kills % 4, before_commit=before_commit)
        try:
            run_execution(with_database(worker_context, dying), ID, journal)
        except Killed:
            kills += 1
            _is_whole(database, worker_context.disks, disk)
        assert kills < 60
    status, rows = ended(database)
    assert status == "SUCCESS" and [row.status for row in rows] == ["SUCCESS", "SUCCESS"]
    assert kills >= 7 and worker_context.disks.digests() == []
    assert [stored(database, image_arn(build=build)) for build in (1, 2)] == [None, None]


def _is_whole(database: Database, disks: DiskStore, disk: str) -> None:
    """An AMI has its disk, and an image that is not being deleted has its AMI."""
    found = database.query(lambda tx: amis.list_amis(tx))
    assert not found or disks.digests() == [disk]
    for build in (1, 2):
        image = stored(database, image_arn(build=build))
        if image is not None and image.status == "AVAILABLE":
            assert any(ami.image_arn == image.arn for ami in found)


def test_a_disk_of_another_ami_stays(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str]
) -> None:
    """Two images with one disk: the deletion of the first keeps it."""

    def prepare(tx: Connection) -> None:
        for build in (1, 2):
            add_ami(tx, add_image(tx, image_arn(build=build), created=clock()), disk)

    made(database, prepare)
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include=ALL)))
    assert ended(database)[0] == "SUCCESS" and stored(database) is None
    assert worker_context.disks.digests() == [disk]


@pytest.mark.parametrize("include", [{}, {"amis": True}])
def test_what_is_not_included_stays(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str],
    include: dict[str, bool],
) -> None:  # fmt: skip
    """Without amis the AMI stays, without snapshots its disk."""
    made(database, lambda tx: add_ami(tx, add_image(tx, image_arn(), created=clock()), disk))
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include=include)))
    assert stored(database) is None and worker_context.disks.digests() == [disk]
    assert bool(database.query(lambda tx: amis.list_amis(tx))) is not bool(include)


def test_an_excluded_ami_keeps_its_image(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str]
) -> None:
    """One of two AMIs is excluded: the other one goes, and the image keeps its state and names what is left."""

    def prepare(tx: Connection) -> tuple[str, str]:
        image = add_image(tx, image_arn(), created=clock(), status="DEPRECATED")
        return (
            add_ami(tx, image, disk).ami_id,
            add_ami(tx, image, disk, region="us-east-1", tags={"keep": "1"}).ami_id,
        )

    gone, kept = made(database, prepare)
    order = update(LifecycleAction.DELETE, include=ALL, exclusions={"tagMap": {"keep": "1"}})
    run_execution(worker_context, start(order))
    status, (row,) = ended(database)
    assert (status, row.status) == ("SUCCESS", "SKIPPED")
    assert row.document["reason"] == f"{kept} is kept: A tag of the AMI is excluded."
    assert outputs(database) == {gone: ("SUCCESS", ""), kept: ("SKIPPED", "A tag of the AMI is excluded.")}
    image = stored(database)
    assert image is not None and image.status == "DEPRECATED"
    assert [item["image"] for item in image.document["outputResources"]["amis"]] == [kept]
    assert worker_context.disks.digests() == [disk]


@pytest.mark.parametrize("user", ["image", "ami"])
def test_what_a_running_build_uses_is_skipped(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str],
    user: str,
) -> None:  # fmt: skip
    """A build that is based on the image, or on its AMI; when it has ended the image can go."""
    other = image_arn("other")

    def prepare(tx: Connection) -> None:
        image = add_image(tx, image_arn(), created=clock())
        ami = add_ami(tx, image, disk)
        parent = image.arn if user == "image" else ami.ami_id
        add_image(tx, other, created=clock(), status="BUILDING", parent=parent)

    made(database, prepare)
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include=ALL)))
    status, (row,) = ended(database)
    assert (status, row.status) == ("SUCCESS", "SKIPPED")
    assert row.document["reason"] == f"The running build {other} is based on it."
    image = stored(database)
    assert image is not None and image.status == "AVAILABLE" and worker_context.disks.digests() == [disk]


def test_the_parent_of_a_recipe_is_skipped(
    worker_context: WorkerContext, database: Database, clock: MovingClock, start: Callable[..., str]
) -> None:
    """As DeleteImage refuses it."""

    def prepare(tx: Connection) -> None:
        add_image(tx, image_arn(), created=clock())
        recipe = add_image(tx, image_arn("recipe"), created=clock())
        queries.set_links(tx, recipe.arn, [image_arn()])

    made(database, prepare)
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include={})))
    _, (row,) = ended(database)
    assert row.document["reason"] == "A recipe names this build of the image as its parent."


def test_a_shared_image_is_skipped(
    worker_context: WorkerContext, database: Database, clock: MovingClock, start: Callable[..., str]
) -> None:
    """As DeleteImage refuses it, until its policy is empty."""
    statement = {
        "Effect": "Allow", "Principal": {"AWS": OTHER}, "Action": "imagebuilder:GetImage", "Resource": image_arn()
    }  # fmt: skip
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})

    def prepare(tx: Connection) -> None:
        add_image(tx, image_arn(), created=clock())
        put_policy(tx, StoredPolicy(arn=image_arn(), text=policy))

    made(database, prepare)
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include={})))
    _, (row,) = ended(database)
    assert row.document["reason"] == "A policy shares the image with other accounts."


def test_states_change_with_their_amis(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str]
) -> None:
    """DEPRECATE, DISABLE and AVAILABLE: tag, time, permission to launch, and the states of the outputs."""

    def prepare(tx: Connection) -> str:
        image = add_image(tx, image_arn(), created=clock())
        return add_ami(tx, image, disk, launchPermission={"userIds": [OTHER]}).ami_id

    ami_id = made(database, prepare)

    def do(action: LifecycleAction) -> tuple[Record, amis.Ami]:
        order = update(action, include={"amis": True})
        made(database, lambda tx: _forget_execution(tx))
        run_execution(worker_context, start(order))
        assert ended(database)[0] == "SUCCESS"
        image, ami = stored(database), database.query(lambda tx: amis.get_ami(tx, ami_id))
        assert image is not None and ami is not None
        assert image.document["lifecycleExecutionId"] == ID
        return image, ami

    image, ami = do(LifecycleAction.DEPRECATE)
    assert image.status == image.document["outputResources"]["amis"][0]["state"]["status"] == "DEPRECATED"
    assert "deprecationTime" in image.document and "deprecationTime" in ami.document
    assert ami.document["tags"] == {"DeprecatedBy": "EC2 Image Builder"} and may_launch(ami, OTHER)
    image, ami = do(LifecycleAction.DISABLE)
    assert image.status == "DISABLED" and ami.document["tags"] == {}
    assert not may_launch(ami, OTHER) and not may_launch(ami, ACCOUNT)
    image, ami = do(LifecycleAction.AVAILABLE)
    assert image.status == "AVAILABLE" and "deprecationTime" not in image.document
    assert may_launch(ami, ACCOUNT) and not may_launch(ami, OTHER)


def _forget_execution(tx: Connection) -> None:
    from imagesmith.store.tables import lifecycle_executions, lifecycle_resources

    for table in (lifecycle_executions, lifecycle_resources):
        tx.execute(table.delete())


def test_a_later_deprecation_waits(
    worker_context: WorkerContext, database: Database, clock: MovingClock, disk: str, start: Callable[..., str]
) -> None:
    """The time is on the image and on its AMIs at once; the status changes when the time has come."""
    ami_id = made(database, lambda tx: add_ami(tx, add_image(tx, image_arn(), created=clock()), disk)).ami_id
    moment = datetime.fromisoformat("2026-12-01T00:00:00+00:00")
    order = update(LifecycleAction.DEPRECATE, include={"amis": True}, update_at="2026-12-01T00:00:00.000Z")
    journal = MemoryJournal()
    with pytest.raises(Parked):
        run_execution(worker_context, start(order), journal)
    assert journal.waits and 0 <= journal.waits[0] - (moment - clock.now).total_seconds() < 2
    image, ami = stored(database), database.query(lambda tx: amis.get_ami(tx, ami_id))
    assert image is not None and ami is not None and ended(database)[0] == "PENDING"
    assert (image.status, image.document["deprecationTime"]) == ("AVAILABLE", "2026-12-01T00:00:00.000Z")
    assert ami.document["deprecationTime"] == "2026-12-01T00:00:00.000Z"
    clock.now = moment + timedelta(seconds=1)
    run_execution(worker_context, ID, journal)
    image = stored(database)
    assert image is not None and image.status == "DEPRECATED" and ended(database)[0] == "SUCCESS"


def test_a_cancelled_execution_skips_the_rest(
    worker_context: WorkerContext, database: Database, clock: MovingClock, start: Callable[..., str]
) -> None:
    """Nothing more is touched, and what was done stays."""
    made(database, lambda tx: add_image(tx, image_arn(), created=clock()))
    start(update(LifecycleAction.DELETE, include={}))
    made(database, lambda tx: lifecycle.set_status(tx, ID, LifecycleStatus.CANCELLING))
    run_execution(worker_context, ID)
    status, (row,) = ended(database)
    assert (status, row.status, row.document["reason"]) == ("CANCELLED", "SKIPPED", "The execution was cancelled.")
    assert stored(database) is not None


def test_a_missing_image_counts_as_done(
    worker_context: WorkerContext, database: Database, start: Callable[..., str]
) -> None:
    """Somebody else deleted it."""
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include=ALL)))
    status, (row,) = ended(database)
    assert (status, row.status) == ("SUCCESS", "SUCCESS")


def test_a_failed_output_keeps_the_image(
    worker_context: WorkerContext, database: Database, clock: MovingClock, start: Callable[..., str]
) -> None:
    """No registry is configured for the Region: the execution FAILED, and the image has its state again."""
    containers = {"containers": [{"region": REGION, "imageUris": ["registry.example/web:1.0.0-1"]}]}
    made(
        database,
        lambda tx: add_image(tx, image_arn(), created=clock(), type="DOCKER", outputs=containers),
    )
    run_execution(worker_context, start(update(LifecycleAction.DELETE, include={"containers": True})))
    status, (row,) = ended(database)
    assert (status, row.status) == ("FAILED", "FAILED")
    assert f"No registry is configured for the Region {REGION}." in row.document["reason"]
    image = stored(database)
    assert image is not None and image.status == "AVAILABLE"
