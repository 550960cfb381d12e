"""`imagesmith worker`: builds for servers of other hosts; `imagesmith worker list`: the workers."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from imagesmith.cli import startup
from imagesmith.cli.context import (
    CommandFailed,
    data_dir_option,
    json_option,
    log_level_option,
    settings_of,
    warn_of_variables,
)
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.rights import become_root
from imagesmith.cli.screen import echo, start_logging
from imagesmith.cli.store import opened_store
from imagesmith.settings import Settings
from imagesmith.store.workers import SeenWorker, list_workers

_CLOSE_SECONDS = 60
_SHOWN_SECONDS = 86400
_QUEUES = "container.x86_64,machine.x86_64"


@click.group(cls=PlainGroup, invoke_without_command=True)
@click.option("--database-url", help="The database of the servers: postgresql+psycopg://USER:PASSWORD@HOST/NAME")
@click.option("--artifacts", help="Where the hosts share artifacts: s3://BUCKET[/PREFIX], or a mounted folder.")
@click.option(
    "--queues", default=_QUEUES, show_default=True, help="Queues that this host builds, separated by commas."
)
@click.option("--name", help="Name of this worker.  [default: from the host and the data directory]")
@data_dir_option
@click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="A TOML settings file.")
@log_level_option
@click.pass_context
def worker(context: click.Context, /, **given: Any) -> None:
    """Run builds that servers on the same PostgreSQL accept, until SIGTERM or Ctrl-C.

    \b
    Examples:
      imagesmith worker --database-url postgresql+psycopg://imagesmith@db/imagesmith --artifacts s3://golden
      imagesmith worker --queues container.x86_64 --name rack-2 --data-dir /var/lib/imagesmith
      imagesmith worker list --json

    Prints `worker NAME builds QUEUES` when it is ready. SIGTERM drains it: it claims no new builds, waits
    for its builds (at most workers.drain_seconds of the settings) and hands over the rest. A second SIGTERM or
    Ctrl-C ends it at once. Its settings must equal those of the servers: registries, roles, secrets and the
    signing key.
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
    start_logging(log_level)
    given = {"database_url": database_url, "artifacts": artifacts, "workers.name": name}
    settings = settings_of(data_dir, file=file, **given)
    warn_of_variables()
    if not settings.database_url:
        raise CommandFailed(
            "a worker needs the database of its servers", "use --database-url, as for imagesmith serve"
        )
    if not settings.artifacts:
        raise CommandFailed(
            "a worker needs a store that all hosts share",
            "use --artifacts s3://BUCKET or a folder that all hosts mount",
        )
    _run(settings, queues)


def _run(settings: Settings, queues: str) -> None:
    startup.begin()
    # imported late: `imagesmith --help` should not load an engine
    from imagesmith.cli.build_process import failures_as_sentences, isolate_process
    from imagesmith.cli.build_runtime import make_build_runtime, parse_queues

    become_root()
    isolate_process()
    stop = Stop()
    with failures_as_sentences(settings, holder="server or worker", work="work"):
        wanted = parse_queues(queues)
        if not wanted:
            raise CommandFailed("--queues is empty", f"name one or more of {_QUEUES}")
        with make_build_runtime(settings, wanted) as runtime:
            runtime.launch()
            try:
                assert runtime.worker is not None
                echo(f"worker {runtime.worker.name} builds {', '.join(wanted)}")
                startup.finish(startup.load_builds)
                stop.asked.wait()
                if not stop.at_once:
                    until = time.monotonic() + settings.workers.drain_seconds
                    runtime.engine.drain(lambda: stop.at_once or time.monotonic() > until)
            finally:
                runtime.engine.close(patience_seconds=_CLOSE_SECONDS)


class Stop:
    """Stop requests by signals: SIGTERM once to drain, twice or SIGINT to end at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.at_once = False
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        self.at_once = number == signal.SIGINT or self.asked.is_set()
        self.asked.set()


@worker.command("list")
@click.option("--database-url", help="URL of the database.  [default: from the settings]")
@data_dir_option
@json_option
def list_all(database_url: str | None, data_dir: Path, as_json: bool) -> None:
    """List the workers of a database: state, queues, running builds and last heartbeat.

    \b
    Examples:
      imagesmith worker list --data-dir /var/lib/imagesmith
      imagesmith worker list --database-url postgresql+psycopg://imagesmith@db/imagesmith --json

    A worker whose heartbeat is older than workers.lease_seconds is silent: other workers take over its builds.
    A worker that is gone is shown for a day.
    """
    settings = settings_of(data_dir, database_url=database_url)
    if not settings.database_url:
        raise CommandFailed(
            f"the server of {data_dir} has no other workers: its database is SQLite",
            "several hosts need PostgreSQL: see docs/operations.md, Several hosts",
        )
    with opened_store(settings) as tx:
        found = [
            seen for seen in list_workers(tx) if seen.worker.state != "gone" or seen.silent_seconds < _SHOWN_SECONDS
        ]
    documents = [_to_json(seen, settings) for seen in found]
    Listing(
        columns=("worker", "host", "process", "state", "queues", "running", "zones", "heartbeat"),
        rows=(
            (
                item["name"], item["host"], str(item["pid"]), item["state"], ", ".join(item["queues"]) or "-",
                f"{item['running']} of {item['concurrency']}", item["zoneData"] or "-",
                f"{item['silentSeconds']:.0f} s ago",
            )
            for item in documents
        ),
        documents=documents,
    ).show(as_json=as_json)  # fmt: skip
    if as_json:
        return
    _warn_of_zone_data(found)


def _warn_of_zone_data(found: Sequence[SeenWorker]) -> None:
    versions = {seen.worker.zone_data for seen in found if seen.worker.state != "gone" and seen.worker.zone_data}
    if len(versions) > 1:
        echo(
            f"warning: hosts have different time zone data ({', '.join(sorted(versions))}): install the same "
            "version everywhere and restart",
            err=True,
        )


def _to_json(seen: SeenWorker, settings: Settings) -> Mapping[str, Any]:
    worker = seen.worker
    silent = worker.state != "gone" and seen.silent_seconds > settings.workers.lease_seconds
    return {
        "name": worker.name, "host": worker.host, "pid": worker.pid, "dataDir": worker.data_dir,
        "state": "silent" if silent else worker.state, "queues": list(worker.queues),
        "running": seen.running, "concurrency": worker.concurrency, "zoneData": worker.zone_data,
        "silentSeconds": round(seen.silent_seconds, 3),
    }  # fmt: skip
