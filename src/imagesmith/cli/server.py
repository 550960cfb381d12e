"""The composition root: every part of a server, made in order and closed in reverse.

working (database -> workshop -> engine) -> service -> app -> scheduler
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from imagesmith.artifacts.tags import RegistryTags
from imagesmith.cli.working import make_working, new_id, wall_clock
from imagesmith.engine.durable import DurableEngine
from imagesmith.engine.queues import CAPABILITIES
from imagesmith.processes import Cancellation
from imagesmith.resources.managed import managed_content
from imagesmith.resources.service import Service
from imagesmith.schedule.clock import Scheduler
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.wire.app import App, create_app
from imagesmith.wire.keys import KeyRing
from imagesmith.workflows.workshop import Workshop


@dataclass(frozen=True)
class Server:
    """The parts that outlive a request."""

    app: App
    service: Service
    engine: DurableEngine
    workshop: Workshop


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
def make_server(
    settings: Settings, *, queues: Sequence[str] = CAPABILITIES, clock: Callable[[], datetime] = wall_clock
) -> Iterator[Server]:
    """Everything that `imagesmith serve` runs; closing interrupts builds, which go on at the next start.

    `queues`: what the worker inside builds, where others may do it instead; nothing: it builds nothing.
    Raises LockHeld while another server uses the data directory, and OSError when its disk is full.
    """
    with ExitStack() as stack:
        working = stack.enter_context(make_working(settings, queues, clock=clock))
        keys = KeyRing.open(settings.data_dir, settings.account, partition=settings.partition)
        database, engine = working.database, working.engine
        service = Service(database, settings, clock=clock, managed=managed_content(), builds=engine)
        app = create_app(service, keys=keys, settings=settings, clock=clock, ids=new_id)
        stack.callback(app.close)
        engine.launch()
        stack.callback(engine.close)
        for key in working.records.pending():
            engine.start(key)
            engine.wake(key)
        questions = Cancellation()
        scheduler = make_scheduler(service, database, settings, clock=clock, cancellation=questions)
        service.with_clock(scheduler.wake)
        scheduler.start()
        stack.callback(scheduler.close)
        stack.callback(questions.cancel)
        yield Server(app, service, engine, working.workshop)
