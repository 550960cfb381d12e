"""`imagesmith doctor`: checks the installed tools and whether they really work here."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from imagesmith.accounts.secret_box import SecretBox, SecretsError, secrets_file
from imagesmith.cli.context import ServerAddress, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.host_checks import HealthCheck, host_checks, machine_tools
from imagesmith.cli.screen import make_console
from imagesmith.cli.store import opened_store
from imagesmith.cli.tls_setup import certificate_files
from imagesmith.settings import Settings
from imagesmith.store.workers import list_workers
from imagesmith.values.zone_data import zone_data
from imagesmith.wire.tls import TlsError


@click.command()
@data_dir_option
@json_option
def doctor(data_dir: Path, as_json: bool) -> None:
    """Try every tool and kernel feature that builds need; exit 1 when a needed one fails.

    \b
    Example:  imagesmith doctor --data-dir ./data --json
    """
    settings = settings_of(data_dir)
    findings = list(examine(settings))
    healthy = all(finding.works for finding in findings if finding.needed)
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        make_console().print(_table(findings))
    if not healthy:
        raise SystemExit(1)


def examine(settings: Settings) -> Iterator[HealthCheck]:
    """All checks of doctor, one after another."""
    yield from host_checks(settings.data_dir)
    yield from machine_tools()
    yield _machines(settings)
    yield _disk(settings)
    yield from time_zones(settings)
    yield from _registries(settings)
    yield from _certificate(settings)
    yield from _secrets(settings)
    yield _server(settings)


def _machines(settings: Settings) -> HealthCheck:
    """The accelerator of virtual machines here; tested once per boot of the host, and stored."""
    from imagesmith.instances.machine.machine_factory import MachineFactory

    verdict = MachineFactory.of(settings).accelerator.verdict()
    detail = f"{verdict.acceleration}: {verdict.reason}"
    return HealthCheck("machines", verdict.acceleration == "kvm", detail, needed=False, hint="they run, but slowly")


def _disk(settings: Settings) -> HealthCheck:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    enough = free > 2 * 1024**3
    return HealthCheck(
        "disk", enough, f"{free / 1024**3:.1f} GiB free for {settings.data_dir}", hint="2 GiB are needed"
    )


def time_zones(settings: Settings) -> Iterator[HealthCheck]:
    """The time zone database of schedules, here and in the processes that share a database."""
    data = zone_data()
    newest = not data.used.older_than(data.other)
    yield HealthCheck(
        "time zones", bool(data.used.version) and newest, str(data), needed=False,
        hint="unset PYTHONTZPATH, or install a newer version there",
    )  # fmt: skip
    if not settings.database_url:
        return
    try:
        with opened_store(settings) as tx:
            others = [seen.worker for seen in list_workers(tx) if seen.worker.state != "gone"]
    except click.ClickException as error:
        yield HealthCheck("time zones of all hosts", False, error.message, needed=False)
        return
    versions = {item.zone_data: item.host for item in others if item.zone_data}
    shown = ", ".join(f"{version} on {host}" for version, host in sorted(versions.items()))
    yield HealthCheck(
        "time zones of all hosts", set(versions) <= {data.used.version}, shown or "no process is running",
        needed=False,
        hint="schedules differ between hosts: install the same version everywhere and restart",
    )  # fmt: skip


def _registries(settings: Settings) -> Iterator[HealthCheck]:
    if not settings.registries:
        yield HealthCheck("registry", True, "none configured: images stay in the embedded OCI layout", needed=False)
    for region, registry in settings.registries.items():
        host, _, port = registry.url.split("/")[0].partition(":")
        try:
            with socket.create_connection((host, int(port or 443)), timeout=5):
                yield HealthCheck(f"registry {region}", True, f"{registry.url} is reachable", needed=False)
        except (OSError, ValueError) as error:
            yield HealthCheck(f"registry {region}", False, f"{registry.url}: {error}", needed=False)


def _certificate(settings: Settings) -> Iterator[HealthCheck]:
    """The certificate of the API: usable with its key, and valid for a while."""
    hint = "replace the files, or restart with --tls-self-signed; the server reads them again by itself"
    try:
        files = certificate_files(settings)
        if files is None:
            return
        files.load()
        warning = files.warning(datetime.now(UTC))
    except (TlsError, OSError) as error:
        yield HealthCheck("certificate", False, str(error), hint=hint)
        return
    yield HealthCheck("certificate", not warning, warning or str(files.certificate), needed=False, hint=hint)


def _secrets(settings: Settings) -> Iterator[HealthCheck]:
    """The key file of the secrets in the database."""
    key_file = secrets_file(settings)
    if not key_file.exists():
        return
    try:
        SecretBox.open(key_file, may_create=False)
        yield HealthCheck("key file", True, str(key_file))
    except (SecretsError, OSError) as error:
        yield HealthCheck("key file", False, str(error))


def _server(settings: Settings) -> HealthCheck:
    address = ServerAddress.read(settings.data_dir)
    if address is None:
        return HealthCheck(
            "server", False, f"not running for {settings.data_dir}", needed=False, hint="imagesmith serve"
        )
    alive = False
    with suppress(ProcessLookupError, PermissionError):
        os.kill(address.pid, 0)
        alive = True
    return HealthCheck("server", alive, f"{address.url} (process {address.pid})", needed=False)


def _table(findings: list[HealthCheck]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in findings:
        mark = (
            "[green]works[/green]"
            if finding.works
            else ("[red]FAILS[/red]" if finding.needed else "[yellow]no[/yellow]")
        )
        hint = "" if finding.works or not finding.hint else f" ({finding.hint})"
        table.add_row(mark, finding.name, escape(finding.detail + hint))
    return table
