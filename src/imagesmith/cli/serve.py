"""`imagesmith serve`: the API and the builds in one process."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from imagesmith.cli.context import CommandFailed, ServerAddress, data_dir_option, settings_of


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one.  [default: 8474]")
@data_dir_option
@click.option("--database-url", help="PostgreSQL instead of SQLite: postgresql+psycopg://USER:PASSWORD@HOST/NAME")
@click.option("--artifacts", help="Where several hosts share artifacts: s3://BUCKET[/PREFIX], or a mounted folder.")
@click.option("--queues", help="What the worker inside builds, where there are others.  [default: everything]")
@click.option("--no-worker", is_flag=True, help="Leave all builds to the workers on other hosts.")
@click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="A TOML settings file.")
@click.option("--log-level", default="warning", show_default=True, help="debug, info, warning or error.")
def serve(
    host: str | None,
    port: int | None,
    data_dir: Path,
    database_url: str | None,
    artifacts: str | None,
    queues: str | None,
    no_worker: bool,
    file: Path | None,
    log_level: str,
) -> None:
    """Serve the API and run builds until SIGTERM or Ctrl-C.

    \b
    Examples:
      imagesmith serve --data-dir ./data --port 8474
      imagesmith serve --no-worker --database-url postgresql+psycopg://imagesmith@db/imagesmith --artifacts s3://golden
    Prints `listening on http://HOST:PORT` when it is ready.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = settings_of(
        data_dir, file=file, host=host, port=port, database_url=database_url, artifacts=artifacts
    )
    if (no_worker or queues is not None) and not settings.database_url:
        raise CommandFailed(
            "without a worker inside nobody would build: this server's database is SQLite",
            "give --database-url postgresql+psycopg://...; see docs/operations.md, Several hosts",
        )
    # imported late: `imagesmith --help` should not load an engine
    from imagesmith.artifacts.locks import LockHeld
    from imagesmith.artifacts.shared import SharedStoreError
    from imagesmith.artifacts.storage import StorageError
    from imagesmith.cli.server import make_server
    from imagesmith.cli.working import parse_queues
    from imagesmith.engine.queues import CAPABILITIES
    from imagesmith.instances.isolation import IsolationError, private_mounts
    from imagesmith.settings import SettingsError
    from imagesmith.store.database import StoreUnavailable
    from imagesmith.store.workers import WorkerNameTaken
    from imagesmith.wire.keys import KeysError
    from imagesmith.wire.server import serve as listen

    if os.geteuid() != 0:
        raise CommandFailed("builds need root (mounts, namespaces)", "run it with sudo, or as a system service")
    # before any thread exists: what is mounted from here on goes away with this process, even on kill -9
    try:
        private_mounts()
    except IsolationError as error:
        click.echo(f"warning: no mounts of our own ({error}): after a kill -9 the next start unmounts", err=True)
    try:
        wanted = CAPABILITIES if queues is None else parse_queues(queues)
        with make_server(settings, queues=() if no_worker else wanted) as server:

            def ready(address: str, number: int) -> None:
                url = f"http://{address}:{number}"
                ServerAddress(url, os.getpid()).write(settings.data_dir)
                click.echo(f"listening on {url}")

            try:
                listen(server.app, settings.host, settings.port, on_ready=ready)
            except OSError as error:
                raise CommandFailed(f"cannot listen on {settings.host}:{settings.port}: {error}") from error
            finally:
                ServerAddress.path(settings.data_dir).unlink(missing_ok=True)
    except LockHeld as error:
        raise CommandFailed(
            f"another server (process {error.holder}) uses the data directory {settings.data_dir}",
            "stop that one, or give this one a --data-dir of its own",
        ) from error
    except (SettingsError, WorkerNameTaken) as error:
        raise CommandFailed(str(error)) from error
    except (StoreUnavailable, KeysError, StorageError, SharedStoreError, OSError) as error:
        raise CommandFailed(f"cannot serve from {settings.data_dir}: {error}") from error
