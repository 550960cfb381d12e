"""The part of a process that builds: database -> workshop -> engine. The server has one inside, a worker is it.

On SQLite one process does everything. On PostgreSQL every process is a member among others (engine/membership.py).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from imagesmith.artifacts.locks import sole_lock
from imagesmith.engine.durable import DurableEngine
from imagesmith.engine.membership import Membership
from imagesmith.engine.queues import CAPABILITIES, WORKER_NAME, Queues
from imagesmith.settings import Settings, SettingsError
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.store.workers import StoredWorker
from imagesmith.values.names import sha256_hex
from imagesmith.workflows.image_run import ImageRuns
from imagesmith.workflows.log_shipping import LogShipper
from imagesmith.workflows.pipeline_log import tell
from imagesmith.workflows.records import Records
from imagesmith.workflows.reserve import DiskReserve
from imagesmith.workflows.workshop import Workshop


@dataclass(frozen=True)
class Working:
    """What builds. The engine is not launched yet."""

    database: Database
    records: Records
    workshop: Workshop
    engine: DurableEngine
    worker: StoredWorker | None
    """How the others know this process; None where it is the only one."""


def wall_clock() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """A random UUID (version 4); every request gets one, and a UUID object would take five times as long."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def journal_url(settings: Settings) -> str:
    """Where the engine keeps its journal: a file of its own beside ours, or a schema of the same PostgreSQL."""
    return settings.database_url or f"sqlite:///{settings.data_dir / 'engine.sqlite'}"


def parse_queues(text: str) -> tuple[str, ...]:
    """What a worker can do, as `container.x86_64,machine.x86_64`. Raises SettingsError."""
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = sorted(set(wanted) - set(CAPABILITIES))
    if unknown:
        raise SettingsError(f"{unknown[0]!r} is no queue; known are {', '.join(CAPABILITIES)}")
    return wanted


@contextmanager
def make_working(
    settings: Settings, queues: Sequence[str], *, clock: Callable[[], datetime] = wall_clock
) -> Iterator[Working]:
    """Open what builds need; closing takes away the mounts, and the engine is the caller's to launch and close.

    Raises LockHeld while another process uses the data directory, OSError when its disk is full, SettingsError,
    StoreUnavailable, StorageError, SharedStoreError.
    """
    worker = _stored_worker(settings, tuple(queues)) if settings.database_url else None
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        # two engines on one journal would run the same builds, and each would sweep what the other has mounted
        stack.enter_context(sole_lock(settings.data_dir / "server.lock"))
        DiskReserve(settings.data_dir).require()
        database = Database(settings.store_url)
        stack.callback(database.close)
        upgrade(database)
        records = Records(
            database, clock, tell_pipeline=lambda arn, line: tell(settings, arn, ("run", line), now=clock())
        )
        workshop = Workshop.open(settings, records, clock, worker=worker.name if worker else "")
        stack.callback(workshop.close)
        engine = _engine(settings, database, workshop, worker)
        if settings.log_groups:
            shipper = LogShipper(settings.data_dir, settings.log_groups, workshop.s3.client, time.time)
            shipper.start()
            stack.callback(shipper.close)
        workshop.sweep()
        yield Working(database, records, workshop, engine, worker)


def _engine(
    settings: Settings, database: Database, workshop: Workshop, worker: StoredWorker | None
) -> DurableEngine:
    membership = queues = None
    if worker is not None:
        membership = Membership(database, worker, limit_seconds=settings.workers.lease_seconds, new_id=new_id)
        queues = Queues.shared(
            worker.name, worker.queues, concurrency=worker.concurrency,
            overall=settings.workers.overall_concurrency,
        )  # fmt: skip
    return DurableEngine(
        journal_url(settings),
        ImageRuns(workshop).run,
        concurrency=settings.builds.concurrency,
        make_room=workshop.reserve.make_room,
        membership=membership,
        queues=queues,
    )


def _stored_worker(settings: Settings, queues: tuple[str, ...]) -> StoredWorker:
    host = socket.gethostname()
    name = settings.workers.name or _default_name(host, str(settings.data_dir))
    if not WORKER_NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name of a worker: 1 to 63 letters, digits, `.`, `_` and `-`")
    return StoredWorker(
        "", name, host, os.getpid(), str(settings.data_dir), queues,
        settings.builds.concurrency if queues else 0,
    )  # fmt: skip


def _default_name(host: str, place: str) -> str:
    """The same at every start, and different for two data directories of one host."""
    short = re.sub(r"[^A-Za-z0-9._-]", "-", host.split(".")[0]).strip("-._")[:40] or "worker"
    return f"{short}-{sha256_hex(place)[:6]}"
