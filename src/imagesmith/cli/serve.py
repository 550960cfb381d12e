"""`imagesmith serve`: the API and the builds in one process."""

from __future__ import annotations

import os
from pathlib import Path

import click

from imagesmith.cli import startup
from imagesmith.cli.context import (
    CommandFailed,
    ServerAddress,
    data_dir_option,
    log_level_option,
    settings_of,
    url_of,
    warn_of_variables,
)
from imagesmith.cli.rights import become_root
from imagesmith.cli.screen import echo, start_logging
from imagesmith.cli.tls_setup import address_of, open_certificate, require_private_bind
from imagesmith.settings import Settings
from imagesmith.wire.tls import ServerCertificate


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one.  [default: 8474]")
@data_dir_option
@click.option("--database-url", help="PostgreSQL instead of SQLite: postgresql+psycopg://USER:PASSWORD@HOST/NAME")
@click.option("--artifacts", help="Where several hosts share artifacts: s3://BUCKET[/PREFIX], or a mounted folder.")
@click.option("--queues", help="Queues of this server's worker, if there are other workers.  [default: all]")
@click.option(
    "--new", is_flag=True, help="Start with an empty database although the data directory contains images."
)
@click.option("--tls-certificate", help="Certificate with its chain, in PEM; with --tls-key.")
@click.option("--tls-key", help="Private key of the certificate, in PEM.")
@click.option(
    "--tls-self-signed", is_flag=True, default=None, help="Make an authority and a certificate, and use them."
)
@click.option(
    "--insecure-bind", is_flag=True, default=None, help="Allow an address beyond this machine without TLS."
)
@click.option("--no-worker", is_flag=True, help="Leave all builds to the workers on other hosts.")
@click.option("--settings", "file", type=click.Path(path_type=Path, dir_okay=False), help="A TOML settings file.")
@log_level_option
def serve(
    host: str | None,
    port: int | None,
    data_dir: Path,
    database_url: str | None,
    artifacts: str | None,
    queues: str | None,
    tls_certificate: str | None,
    tls_key: str | None,
    tls_self_signed: bool | None,
    insecure_bind: bool | None,
    new: bool,
    no_worker: bool,
    file: Path | None,
    log_level: str,
) -> None:
    """Serve the API and run builds until SIGTERM or Ctrl-C.

    \b
    Examples:
      imagesmith serve --data-dir ./data --port 8474
      imagesmith serve --host 0.0.0.0 --tls-self-signed
      imagesmith serve --no-worker --database-url postgresql+psycopg://imagesmith@db/imagesmith --artifacts s3://golden
    Prints `listening on http://HOST:PORT`, or https://, when it is ready.
    """
    start_logging(log_level)
    settings = settings_of(
        data_dir, file=file, host=host, port=port, database_url=database_url, artifacts=artifacts,
        insecure_bind=insecure_bind or None,
        **{"tls.certificate": tls_certificate, "tls.key": tls_key, "tls.self_signed": tls_self_signed or None},
    )  # fmt: skip
    warn_of_variables()
    if (no_worker or queues is not None) and not settings.database_url:
        raise CommandFailed(
            "--no-worker and --queues need PostgreSQL: with SQLite, no other worker can build for this server",
            "use --database-url postgresql+psycopg://...; see docs/operations.md, Several hosts",
        )
    require_private_bind(settings)
    _serve(settings, queues, new=new, builds=not no_worker)


def _serve(settings: Settings, queues: str | None, *, new: bool, builds: bool) -> None:
    startup.begin()
    # imported late: `imagesmith --help` should not load an engine
    from imagesmith.cli.build_process import failures_as_sentences, isolate_process
    from imagesmith.cli.build_runtime import parse_queues
    from imagesmith.cli.server import make_server
    from imagesmith.engine.queues import CAPABILITIES
    from imagesmith.wire.server import serve as listen

    certificate: ServerCertificate | None = None

    def ready(address: str, number: int) -> None:
        address_of(settings, number, os.getpid(), certificate).write(settings.data_dir)
        echo(f"listening on {url_of('https' if certificate else 'http', address, number)}")
        startup.finish(startup.load_documents, *((startup.load_builds,) if builds else ()))

    become_root()
    isolate_process()
    with failures_as_sentences(settings, holder="server", work="serve"):
        wanted = CAPABILITIES if queues is None else parse_queues(queues)
        with make_server(settings, queues=wanted if builds else (), new=new) as server:
            certificate = open_certificate(settings)
            try:
                listen(server.app, settings.host, settings.port, on_ready=ready, tls=certificate)
            except OSError as error:
                raise CommandFailed(
                    f"cannot listen on {settings.host}:{settings.port}: {error}",
                    "use another --port or --host, or stop the program that listens there",
                ) from error
            finally:
                ServerAddress.path(settings.data_dir).unlink(missing_ok=True)
