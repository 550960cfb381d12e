"""The composition root: every part of a server, made in order and closed in reverse.

database -> workshop -> engine -> service -> app -> scheduler
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from imagesmith.artifacts.locks import sole_lock
from imagesmith.artifacts.tags import RegistryTags
from imagesmith.engine.durable import DurableEngine
from imagesmith.processes import Cancellation
from imagesmith.resources.managed import managed_content
from imagesmith.resources.service import Service
from imagesmith.schedule.clock import Scheduler
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.wire.app import App, create_app
from imagesmith.wire.keys import KeyRing
from imagesmith.workflows.image_run import ImageRuns
from imagesmith.workflows.log_shipping import LogShipper
from imagesmith.workflows.pipeline_log import tell
from imagesmith.workflows.records import Records
from imagesmith.workflows.reserve import DiskReserve
from imagesmith.workflows.workshop import Workshop


@dataclass(frozen=True)
class Server:
    """The parts that outlive a request."""

    app: App
    service: Service
    engine: DurableEngine
    workshop: Workshop


def wall_clock() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    return str(uuid.uuid4())


def journal_url(settings: Settings) -> str:
    """Where the engine keeps its journal: a file of its own beside ours, or a schema of the same PostgreSQL."""
    return settings.database_url or f"sqlite:///{settings.data_dir / 'engine.sqlite'}"


def make_scheduler(
    service: Service,
    database: Database,
    settings: Settings,
    *,
    clock: Callable[[], datetime],
    cancellation: Cancellation | None = None,
) -> Scheduler:
    """The clock with what its settings switch on; `cancellation` ends questions to registries."""
    policy = settings.schedules
    tags = RegistryTags(
        settings.registry_at, scratch=settings.data_dir / "containers" / "tmp", cancellation=cancellation
    )
    return Scheduler(
        service, database, clock=clock, cascade=policy.cascade,
        look_up_tags=tags.look_up if policy.container_tag_updates else None,
    )  # fmt: skip


@contextmanager
def make_server(settings: Settings, *, clock: Callable[[], datetime] = wall_clock) -> Iterator[Server]:
    """Everything that `imagesmith serve` runs; closing interrupts builds, which go on at the next start.

    Raises LockHeld while another server uses the data directory, and OSError when its disk is full.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        # two engines on one journal would run the same builds, and each would sweep what the other has mounted
        stack.enter_context(sole_lock(settings.data_dir / "server.lock"))
        DiskReserve(settings.data_dir).require()
        keys = KeyRing.open(settings.data_dir, settings.account, partition=settings.partition)
        database = Database(settings.store_url)
        stack.callback(database.close)
        upgrade(database)
        records = Records(
            database,
            clock,
            tell_pipeline=lambda pipeline, line: tell(settings, pipeline, ("run", line), now=clock()),
        )
        workshop = Workshop.open(settings, records, clock)
        stack.callback(workshop.close)
        engine = DurableEngine(
            journal_url(settings),
            ImageRuns(workshop).run,
            concurrency=settings.builds.concurrency,
            make_room=workshop.reserve.make_room,
        )
        service = Service(database, settings, clock=clock, managed=managed_content(), builds=engine)
        if settings.log_groups:
            shipper = LogShipper(settings.data_dir, settings.log_groups, workshop.s3.client, time.time)
            shipper.start()
            stack.callback(shipper.close)
        app = create_app(service, keys=keys, settings=settings, clock=clock, ids=new_id)
        stack.callback(app.close)
        workshop.sweep()
        engine.launch()
        stack.callback(engine.close)
        for image_arn in records.pending():
            engine.start(image_arn)
            engine.wake(image_arn)
        questions = Cancellation()
        scheduler = make_scheduler(service, database, settings, clock=clock, cancellation=questions)
        service.with_clock(scheduler.wake)
        scheduler.start()
        stack.callback(scheduler.close)
        stack.callback(questions.cancel)
        yield Server(app, service, engine, workshop)
