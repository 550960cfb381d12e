"""Builds an image again from its plan alone, in a data directory of its own that is removed afterwards.

    provenance --plan, digest of the parent--> new data directory --the run of the image--> digest
                                                 ^ parent: by digest from the layout, the disks or its registry

Neither a cache, a record nor a key of the first build is used. The run is that of every build; nothing continues it
after a crash, since it is started again by whoever wants to know.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from imagesmith.artifacts.disks import DiskError, DiskStore
from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.build_logs.logs import log_path
from imagesmith.builds.image_run import ImageRuns
from imagesmith.builds.journal import Json, Poll
from imagesmith.builds.journal import Work as JournalWork
from imagesmith.builds.records import ImageRecords
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.draft_folders import fresh_draft_folder
from imagesmith.files import share_file
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Settings
from imagesmith.store import queries, stored_builds
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.store.records import Build, Record
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus
from imagesmith.values.version import Version

_POLL_SECONDS: Final = 0.2


class RebuildFailed(RuntimeError):
    """An image could not be built again: one sentence with the reason, and the log of the build if it began."""

    def __init__(self, reason: str, log: str = "") -> None:
        self.log = log
        super().__init__(reason)


@dataclass(frozen=True)
class Origin:
    """Where the parents of images are: the stores of this data directory."""

    layout: OciLayout
    disks: DiskStore


@dataclass(frozen=True)
class RebuiltImage:
    """The second image, in stores that are removed behind it."""

    digest: str
    layout: OciLayout
    disks: DiskStore
    log: str


@contextmanager
def rebuilt(
    settings: Settings, plan: BuildPlan, parent_digest: str, origin: Origin, *, cancellation: Cancellation
) -> Iterator[RebuiltImage]:
    """Build the image of a plan again. Raises RebuildFailed, and what opening a data directory raises."""
    if plan.reproducible is None:
        raise RebuildFailed("its build was not reproducible")
    plan = replace(plan, reproducible=replace(plan.reproducible, parent=parent_digest))
    workspace = fresh_draft_folder(settings.data_dir / "rebuilds", lock=settings.data_dir / "rebuilds.lock")
    with ExitStack() as stack:
        own = _own_settings(settings, stack.enter_context(workspace))
        database = Database(own.store_url)
        stack.callback(database.close)
        upgrade(database)
        context = WorkerContext.open(own, ImageRecords(database, _now), _now)
        stack.callback(context.close)
        _bring_parent(origin, context, plan, parent_digest)
        _store(database, plan)
        ImageRuns(context).run(plan.image_arn, DirectJournal(cancellation))
        cancellation.check()
        text = log_path(own.data_dir / "logs", plan.image_arn).read_text(errors="replace")
        image = database.query(lambda tx: queries.get(tx, plan.image_arn))
        state = image.document["state"] if image is not None else {}
        if state.get("status") != ImageStatus.AVAILABLE:
            raise RebuildFailed(f"it could not be built again: {state.get('reason', state.get('status'))}", text)
        digest = context.outcomes.get(plan.image_arn).digest
        yield RebuiltImage(digest, context.layout, context.disks, text)


class DirectJournal:
    """The journal of a run that this process executes once, from its beginning to its end."""

    fence = None

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation

    def pause(self) -> None:
        time.sleep(_POLL_SECONDS)

    def step(self, name: str, work: JournalWork) -> Json:
        del name
        self._cancellation.check()
        return work(self._cancellation)

    def finalize(self, name: str, work: JournalWork) -> Json:
        del name
        return work(Cancellation())

    def wait(self, name: str, poll: Poll, *, seconds: float) -> Json:
        """Workflows of a rebuild have no tests and no partner: what waits for an answer cannot get one."""
        del seconds
        found = poll(self._cancellation)
        if found is None:
            raise RebuildFailed(f"'{name}' waits for an answer, and a rebuild gets none")
        return found

    def start(self, key: str) -> None:
        raise RebuildFailed(f"the run {key} belongs to no rebuild")

    def cancel(self, key: str) -> None:
        del key

    def wake(self, key: str) -> None:
        del key


def _now() -> datetime:
    return datetime.now(UTC)


def _own_settings(settings: Settings, folder: Path) -> Settings:
    """The settings of this machine, with nothing of the stores that others see."""
    builds = replace(settings.builds, cache_mb=0)
    return replace(settings, data_dir=folder, database_url="", artifacts="", log_groups="", builds=builds)


def _bring_parent(origin: Origin, context: WorkerContext, plan: BuildPlan, digest: str) -> None:
    """Share the parent with the new data directory; one of a registry that is not here is pulled by its digest.
    Raises RebuildFailed."""
    try:
        if plan.image_kind.is_disk:
            disk = origin.disks.whole(digest)
            share_file(disk.path, context.disks.folder / "sha256" / disk.path.name)
            return
        origin.layout.make_whole(digest)
        manifest = origin.layout.manifest(digest)
        parts = (digest, *(str(item["digest"]) for item in (manifest["config"], *manifest["layers"])))
        for part in dict.fromkeys(parts):  # a layer may stand twice
            share_file(origin.layout.files.path_of(part), context.layout.files.path_of(part))
        context.layout.tag(digest, "parents/of-the-rebuild")
    except (DiskError, LayoutError) as error:
        if plan.parent.kind != "registry":
            raise RebuildFailed(f"its parent {plan.parent.reference} {digest} is not here: {error}") from error


def _store(database: Database, plan: BuildPlan) -> None:
    """Write the image as PENDING with its plan, as the start of a run does."""
    arn, now = Arn.parse(plan.image_arn), _now()
    kind = plan.image_kind
    document = {
        "arn": plan.image_arn, "type": kind.image_type, "name": plan.name,
        "version": f"{plan.version}/{plan.build}", "state": {"status": ImageStatus.PENDING},
        "dateCreated": iso_instant(now), "outputResources": {kind.outputs_member: []},
    }  # fmt: skip
    record = Record(
        arn=plan.image_arn, account=plan.account, region=plan.region, kind="image", slug=arn.slug, name=plan.name,
        created=now, document=document, version=Version.parse(plan.version), build=plan.build,
        status=ImageStatus.PENDING,
    )  # fmt: skip
    with database.write(arn.scope) as tx:
        queries.insert_many(tx, [record])
        stored_builds.put_builds(tx, [Build(plan.image_arn, plan.to_json())])
