"""The composition root: makes all parts of a server in order and closes them in reverse.

build runtime (database -> worker_context -> engine) -> service -> app -> scheduler
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from imagesmith.accounts.audit_outbox import AuditOutbox
from imagesmith.accounts.key_follower import KeyFollower
from imagesmith.artifacts.tags import RegistryTags
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.cli.build_runtime import make_build_runtime, new_id, wall_clock
from imagesmith.engine.process import EngineProcess
from imagesmith.engine.queues import CAPABILITIES
from imagesmith.processes import Cancellation
from imagesmith.resources.managed import managed_content
from imagesmith.resources.service import Service
from imagesmith.schedule.clock import Scheduler
from imagesmith.schedule.lifecycle_clock import LifecycleClock
from imagesmith.settings import Settings
from imagesmith.store import lifecycle
from imagesmith.store.database import Database
from imagesmith.wire.app import App
from imagesmith.wire.create import create_app


@dataclass(frozen=True)
class Server:
    """The parts that outlive a request."""

    app: App
    service: Service
    engine: EngineProcess
    worker_context: WorkerContext


def make_scheduler(
    service: Service,
    database: Database,
    settings: Settings,
    *,
    clock: Callable[[], datetime],
    cancellation: Cancellation | None = None,
) -> Scheduler:
    """The clock with the features of its settings; `cancellation` ends queries to registries."""
    policy = settings.schedules
    tags = RegistryTags(
        settings.locate, scratch=settings.data_dir / "containers" / "tmp", cancellation=cancellation
    )
    return Scheduler(
        service, database, clock=clock, cascade=policy.cascade,
        look_up_tags=tags.look_up if policy.container_tag_updates else None,
    )  # fmt: skip


@contextmanager
def make_server(
    settings: Settings,
    *,
    queues: Sequence[str] = CAPABILITIES,
    clock: Callable[[], datetime] = wall_clock,
    new: bool = False,
) -> Iterator[Server]:
    """All parts of `imagesmith serve`; closing interrupts builds, which continue at the next start.

    `queues`: the queues of the worker inside, where other workers may exist; empty: it builds nothing.
    Raises LockHeld while another server uses the data directory, and OSError when its disk is full.
    """
    with ExitStack() as stack:
        runtime = stack.enter_context(make_build_runtime(settings, queues, clock=clock, new=new))
        database, engine = runtime.database, runtime.engine
        keys = KeyFollower(settings, database, clock=clock)
        service = Service(
            database, settings, clock=clock, managed=managed_content(settings.managed_images), builds=engine.queue
        )
        audit = AuditOutbox(settings.data_dir, database, clock)
        app = create_app(service, keys=keys.ring, settings=settings, clock=clock, ids=new_id, audit=audit)
        stack.callback(app.close)
        keys.start()
        stack.callback(keys.close)
        runtime.launch()
        stack.callback(engine.close)
        for key in (*runtime.records.pending(), *_unfinished_lifecycle(database)):
            engine.queue.start(key)
            engine.queue.wake(key)
        questions = Cancellation()
        scheduler = make_scheduler(service, database, settings, clock=clock, cancellation=questions)
        service.with_clock(scheduler.wake)
        scheduler.start()
        stack.callback(scheduler.close)
        lifecycle_clock = LifecycleClock(service, database, clock=clock)
        lifecycle_clock.start()
        stack.callback(lifecycle_clock.close)
        stack.callback(questions.cancel)
        yield Server(app, service, engine, runtime.worker_context)


def _unfinished_lifecycle(database: Database) -> list[str]:
    """The keys of lifecycle executions whose start may have been lost."""
    with database.read() as tx:
        return [execution.id for execution in lifecycle.unfinished(tx)]
