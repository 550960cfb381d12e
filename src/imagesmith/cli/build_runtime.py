"""The building part of a process: database, worker context, engine. Servers contain one, a worker is one.

On SQLite one process does everything. On PostgreSQL processes are members of a group (engine/membership.py).
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from imagesmith.build_logs.log_shipping import LogShipper
from imagesmith.build_logs.pipeline_log import append_lines
from imagesmith.builds.disk_space import EmergencyDiskSpace
from imagesmith.builds.journal import LIFECYCLE_KEY, Journal
from imagesmith.builds.records import ImageRecords
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.cli import data_directory
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.screen import echo
from imagesmith.engine.membership import Membership
from imagesmith.engine.process import EngineProcess
from imagesmith.engine.queues import CAPABILITIES, Queues
from imagesmith.engine.run_execution import Program
from imagesmith.locks import exclusive_lock
from imagesmith.settings import Settings, SettingsError
from imagesmith.store.database import Database
from imagesmith.store.migrate import outdated, upgrade
from imagesmith.store.workers import StoredWorker
from imagesmith.values.names import sha256_hex
from imagesmith.values.zone_data import zone_data


@dataclass(frozen=True)
class BuildRuntime:
    """The parts for builds. The engine is not launched yet."""

    database: Database
    records: ImageRecords
    worker_context: WorkerContext
    engine: EngineProcess
    worker: StoredWorker | None
    """The membership of this process; None where it is the only one."""
    cleanup: Future[None]
    """The removal of what a dead process left, which mostly waits for a tool: a server makes its other parts."""

    def launch(self) -> None:
        """Launch the engine; no build starts before the clean-up has ended. Raises what either raises."""
        self.cleanup.result()
        self.engine.launch()


def wall_clock() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """A random UUID (version 4); every request needs one, and a UUID object would take five times as long."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def journal_url(settings: Settings) -> str:
    """The URL of the engine's journal: a separate file beside the database, or a schema of the same PostgreSQL."""
    return settings.database_url or f"sqlite:///{settings.data_dir / 'engine.sqlite'}"


def parse_queues(text: str) -> tuple[str, ...]:
    """The queues of a worker, from `container.x86_64,machine.x86_64`. Raises SettingsError."""
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = sorted(set(wanted) - set(CAPABILITIES))
    if unknown:
        raise SettingsError(f"{unknown[0]!r} is not a queue; known queues: {', '.join(CAPABILITIES)}")
    return wanted


@contextmanager
def make_build_runtime(
    settings: Settings, queues: Sequence[str], *, clock: Callable[[], datetime] = wall_clock, new: bool = False
) -> Iterator[BuildRuntime]:
    """Open the parts for builds; closing removes the mounts. The caller launches it, and closes the engine.

    `new`: the databases may be empty although the data directory holds images. Raises CommandFailed, DamagedFile,
    LockHeld while another process uses the data directory, OSError when its disk is full, SettingsError,
    StoreUnavailable, StorageError, SharedStoreError.
    """
    worker = _stored_worker(settings, tuple(queues)) if settings.database_url else None
    data_directory.prepare(settings.data_dir)
    with ExitStack() as stack:
        # two engines on one journal would run the same builds, and each would remove the mounts of the other
        stack.enter_context(exclusive_lock(settings.data_dir / "server.lock"))
        EmergencyDiskSpace(settings.data_dir).require()
        data_directory.require_databases(settings, new=new)
        database = Database(settings.store_url)
        stack.callback(database.close)
        data_directory.require_schema(settings, database, new=new)
        _upgrade(settings, database, clock)
        records = ImageRecords(
            database, clock, log_run=lambda arn, line: append_lines(settings, arn, ("run", line), now=clock())
        )
        worker_context = WorkerContext.open(settings, records, clock, worker=worker.name if worker else "")
        stack.callback(worker_context.close)
        engine = _engine(settings, database, worker_context, worker)
        if settings.log_groups:
            shipper = LogShipper(settings.data_dir, settings.log_groups, worker_context.s3.client, time.time)
            shipper.start()
            stack.callback(shipper.close)
        cleaner = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="clean-up"))
        yield BuildRuntime(
            database=database, records=records, worker_context=worker_context, engine=engine, worker=worker,
            cleanup=cleaner.submit(worker_context.remove_leftovers),
        )  # fmt: skip


def _upgrade(settings: Settings, database: Database, clock: Callable[[], datetime]) -> None:
    """Migrate the database, after a copy of it. Raises CommandFailed, StoreNewer, StoreUnavailable."""
    if schema := outdated(database):
        # imported late: most starts have nothing to migrate
        from imagesmith.backups.before_upgrade import copy_before_upgrade
        from imagesmith.backups.manifest import BackupError

        try:
            copy = copy_before_upgrade(settings.data_dir, settings.database_url, schema, now=clock())
        except BackupError as error:
            raise CommandFailed(
                f"the database is not migrated: {error}", "a copy is made before each migration"
            ) from error
        echo(f"the database of schema {schema} is migrated; its copy from before is {copy}", err=True)
    upgrade(database)


def _engine(
    settings: Settings, database: Database, worker_context: WorkerContext, worker: StoredWorker | None
) -> EngineProcess:
    membership = queues = None
    if worker is not None:
        membership = Membership(database, worker, limit_seconds=settings.workers.lease_seconds, new_id=new_id)
        queues = Queues.shared(
            worker.name, worker.queues, concurrency=worker.concurrency,
            overall=settings.workers.overall_concurrency,
        )  # fmt: skip
    return EngineProcess(
        journal_url(settings),
        _program(worker_context),
        concurrency=settings.builds.concurrency,
        wait_for_disk_space=worker_context.reserve.wait_for_disk_space,
        membership=membership,
        queues=queues,
    )


def _program(worker_context: WorkerContext) -> Program:
    """The program of the engine; the first run, or cli/startup.py, loads its modules."""

    def run(key: str, journal: Journal) -> None:
        from imagesmith.builds.image_run import ImageRuns
        from imagesmith.lifecycle.execution import LifecycleRuns

        runs = LifecycleRuns(worker_context) if key.startswith(LIFECYCLE_KEY) else ImageRuns(worker_context)
        runs.run(key, journal)

    return run


def _stored_worker(settings: Settings, queues: tuple[str, ...]) -> StoredWorker:
    host = socket.gethostname()
    name = settings.workers.name or _default_name(host, str(settings.data_dir))
    return StoredWorker(
        id="", name=name, host=host, pid=os.getpid(), data_dir=str(settings.data_dir), queues=queues,
        concurrency=settings.builds.concurrency if queues else 0, zone_data=zone_data().used.version,
    )  # fmt: skip


def _default_name(host: str, data_dir: str) -> str:
    """The same at every start, and different for two data directories of one host."""
    short = re.sub(r"[^A-Za-z0-9._-]", "-", host.split(".")[0]).strip("-._")[:40] or "worker"
    return f"{short}-{sha256_hex(data_dir)[:6]}"
