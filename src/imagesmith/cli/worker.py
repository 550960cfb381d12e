"""`imagesmith worker`: builds for servers of other hosts; `imagesmith worker list`: who builds."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from imagesmith.cli.context import (
    CommandFailed,
    data_dir_option,
    json_option,
    make_console,
    print_json,
    settings_of,
)
from imagesmith.cli.store import opened_store
from imagesmith.settings import Settings, SettingsError
from imagesmith.store.workers import SeenWorker, list_workers

_CLOSE_SECONDS = 60
_SHOWN_SECONDS = 86400
_QUEUES = "container.x86_64,machine.x86_64"


@click.group(invoke_without_command=True)
@click.option("--database-url", help="The database of the servers: postgresql+psycopg://USER:PASSWORD@HOST/NAME")
@click.option("--artifacts", help="Where the hosts share artifacts: s3://BUCKET[/PREFIX], or a mounted folder.")
@click.option("--queues", default=_QUEUES, show_default=True, help="What this host can build, separated by commas.")
@click.option("--name", help="Name among the workers.  [default: of the host and the data directory]")
@data_dir_option
@click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="A TOML settings file.")
@click.option("--log-level", default="warning", show_default=True, help="debug, info, warning or error.")
@click.pass_context
def worker(context: click.Context, /, **given: Any) -> None:
    """Run builds that servers on the same PostgreSQL accept, until SIGTERM or Ctrl-C.

    \b
    Examples:
      imagesmith worker --database-url postgresql+psycopg://imagesmith@db/imagesmith --artifacts s3://golden
      imagesmith worker --queues container.x86_64 --name rack-2 --data-dir /var/lib/imagesmith
      imagesmith worker list --json

    Prints `worker NAME builds QUEUES` when it is ready. SIGTERM: it takes nothing new, waits for its builds (at
    most workers.drain_seconds of the settings), and hands over the rest; a second one, or Ctrl-C: at once.
    The settings must be those of the servers: registries, roles, secrets and the signing key.
    """
    if context.invoked_subcommand is None:
        _work(**given)


def _work(
    *,
    database_url: str | None,
    artifacts: str | None,
    queues: str,
    name: str | None,
    data_dir: Path,
    file: Path | None,
    log_level: str,
) -> None:
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = settings_of(data_dir, file=file, database_url=database_url, artifacts=artifacts)
    if not settings.database_url:
        raise CommandFailed(
            "a worker needs the database of its servers", "give --database-url, as to imagesmith serve"
        )
    if not settings.artifacts:
        raise CommandFailed(
            "a worker needs a store that all hosts share", "give --artifacts s3://BUCKET or a folder that all mount"
        )
    if os.geteuid() != 0:
        raise CommandFailed("builds need root (mounts, namespaces)", "run it with sudo, or as a system service")
    from imagesmith.cli.working import parse_queues

    try:
        wanted = parse_queues(queues)
    except SettingsError as error:
        raise CommandFailed(str(error)) from error
    if not wanted:
        raise CommandFailed("--queues names nothing to do", f"give one or more of {_QUEUES}")
    _run(_named(settings, name), wanted)


def _named(settings: Settings, name: str | None) -> Settings:
    from dataclasses import replace

    return settings if name is None else replace(settings, workers=replace(settings.workers, name=name))


def _run(settings: Settings, queues: tuple[str, ...]) -> None:
    # imported late: `imagesmith --help` should not load an engine
    from imagesmith.artifacts.locks import LockHeld
    from imagesmith.artifacts.shared import SharedStoreError
    from imagesmith.artifacts.storage import StorageError
    from imagesmith.cli.working import make_working
    from imagesmith.instances.isolation import IsolationError, private_mounts
    from imagesmith.store.database import StoreUnavailable
    from imagesmith.store.workers import WorkerNameTaken

    # before any thread exists: what is mounted from here on goes away with this process, even on kill -9
    try:
        private_mounts()
    except IsolationError as error:
        click.echo(f"warning: no mounts of our own ({error}): after a kill -9 the next start unmounts", err=True)
    stop = Stop()
    try:
        with make_working(settings, queues) as working:
            working.engine.launch()
            try:
                assert working.worker is not None
                click.echo(f"worker {working.worker.name} builds {', '.join(queues)}")
                stop.asked.wait()
                if not stop.at_once:
                    until = time.monotonic() + settings.workers.drain_seconds
                    working.engine.drain(lambda: stop.at_once or time.monotonic() > until)
            finally:
                working.engine.close(patience_seconds=_CLOSE_SECONDS)
    except LockHeld as error:
        raise CommandFailed(
            f"another process ({error.holder}) uses the data directory {settings.data_dir}",
            "stop that one, or give this one a --data-dir of its own",
        ) from error
    except WorkerNameTaken as error:
        raise CommandFailed(str(error)) from error
    except (StoreUnavailable, StorageError, SharedStoreError, SettingsError, OSError) as error:
        raise CommandFailed(f"cannot work from {settings.data_dir}: {error}") from error


class Stop:
    """What signals asked for: SIGTERM once to drain, twice or SIGINT to end at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.at_once = False
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        self.at_once = number == signal.SIGINT or self.asked.is_set()
        self.asked.set()


@worker.command("list")
@click.option("--database-url", help="The database; by default that of the settings.")
@data_dir_option
@json_option
def list_all(database_url: str | None, data_dir: Path, as_json: bool) -> None:
    """List the workers of a database: state, queues, what runs, and when each was heard of last.

    \b
    Examples:
      imagesmith worker list --data-dir /var/lib/imagesmith
      imagesmith worker list --database-url postgresql+psycopg://imagesmith@db/imagesmith --json

    A worker is silent when it was not heard of for longer than workers.lease_seconds: others go on with its builds.
    One that is gone is shown for a day.
    """
    settings = settings_of(data_dir, database_url=database_url)
    if not settings.database_url:
        raise CommandFailed(
            f"the server of {data_dir} works alone: its database is SQLite",
            "several hosts need PostgreSQL: see docs/operations.md, Several hosts",
        )
    with opened_store(settings) as tx:
        found = [
            seen for seen in list_workers(tx) if seen.worker.state != "gone" or seen.silent_seconds < _SHOWN_SECONDS
        ]
    if as_json:
        print_json([_shown(seen, settings) for seen in found])
        return
    table = Table("worker", "host", "process", "state", "queues", "running", "heard of", box=None, pad_edge=False)
    for seen in found:
        row = _shown(seen, settings)
        table.add_row(
            row["name"], row["host"], str(row["pid"]), row["state"], ", ".join(row["queues"]) or "-",
            f"{row['running']} of {row['concurrency']}", f"{row['silentSeconds']:.0f} s ago",
        )  # fmt: skip
    make_console().print(table)


def _shown(seen: SeenWorker, settings: Settings) -> dict[str, Any]:
    worker = seen.worker
    silent = worker.state != "gone" and seen.silent_seconds > settings.workers.lease_seconds
    return {
        "name": worker.name, "host": worker.host, "pid": worker.pid, "dataDir": worker.place,
        "state": "silent" if silent else worker.state, "queues": list(worker.queues),
        "running": seen.running, "concurrency": worker.concurrency, "silentSeconds": round(seen.silent_seconds, 3),
    }  # fmt: skip
