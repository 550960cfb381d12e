"""`imagesmith doctor`: checks the installed tools and whether they really work here."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from imagesmith import processes
from imagesmith.accounts.secret_box import SecretBox, SecretsError, secrets_file
from imagesmith.cli.context import ServerAddress, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.screen import make_console
from imagesmith.cli.store import opened_store
from imagesmith.cli.tls_setup import certificate_files
from imagesmith.settings import Settings
from imagesmith.store.workers import list_workers
from imagesmith.values.zone_data import zone_data
from imagesmith.wire.tls import TlsError

_SECONDS = 30


@dataclass(frozen=True)
class HealthCheck:
    """The result of one check."""

    name: str
    works: bool
    detail: str
    needed: bool = True
    hint: str = ""


TOOLS = (
    ("skopeo", ["skopeo", "--version"], "apt-get install skopeo"),
    ("bubblewrap", ["bwrap", "--version"], "apt-get install bubblewrap"),
    ("slirp4netns", ["slirp4netns", "--version"], "apt-get install slirp4netns"),
    ("mmdebstrap", ["mmdebstrap", "--version"], "apt-get install mmdebstrap"),
)
MACHINE_TOOLS = (
    ("qemu", ["qemu-system-x86_64", "--version"], "apt-get install qemu-system-x86"),
    ("qemu-img", ["qemu-img", "--version"], "apt-get install qemu-utils"),
    ("mke2fs", ["mke2fs", "-V"], "apt-get install e2fsprogs"),
    ("mtools", ["mtools", "--version"], "apt-get install mtools"),
    ("sfdisk", ["sfdisk", "--version"], "apt-get install fdisk"),
)
"""Tools that only machine images need."""


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
    # first: it needs a process without threads, and what follows is tried with these rights
    rights = _rights()
    for name, argv, hint in TOOLS:
        yield _tool(name, argv, hint)
    yield rights
    yield _tried("namespaces", ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "true"])
    yield _tried(
        "sandbox",
        [
            "bwrap",
            "--ro-bind",
            "/",
            "/",
            "--unshare-pid",
            "--unshare-net",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "true",
        ],
    )
    yield _attempt("user namespaces", lambda: _user_namespace(settings.data_dir))
    yield _attempt("storage", _storage)
    yield _limits()
    yield _network()
    for name, argv, hint in MACHINE_TOOLS:
        yield replace(_tool(name, argv, hint), needed=False)
    yield _machines(settings)
    yield _disk(settings)
    yield from time_zones(settings)
    yield from _registries(settings)
    yield from _certificate(settings)
    yield from _secrets(settings)
    yield _server(settings)


def _tool(name: str, argv: list[str], hint: str) -> HealthCheck:
    if shutil.which(argv[0]) is None:
        return HealthCheck(name, False, "not installed", hint=hint)
    done = processes.run(argv, timeout=_SECONDS)
    first = (done.stdout or done.stderr).decode(errors="replace").splitlines()
    return HealthCheck(name, done.returncode == 0, first[0].strip() if first else "", hint=hint)


def _tried(name: str, argv: list[str]) -> HealthCheck:
    try:
        done = processes.run(argv, timeout=_SECONDS)
    except OSError as error:
        return HealthCheck(name, False, str(error))
    detail = f"{done.seconds * 1000:.0f} ms" if done.returncode == 0 else done.tail(3)
    return HealthCheck(name, done.returncode == 0, detail, hint=f"try by hand: {done.command}")


def _attempt(name: str, attempt: Callable[[], str]) -> HealthCheck:
    try:
        return HealthCheck(name, True, attempt())
    except (OSError, RuntimeError) as error:
        return HealthCheck(name, False, str(error))


def _storage() -> str:
    from imagesmith.artifacts.storage import SCRATCH, ContainerStorage

    with tempfile.TemporaryDirectory(prefix="imagesmith-doctor-") as folder:
        storage = ContainerStorage.open(Path(folder) / "containers")
        try:
            storage.create("doctor", SCRATCH)
            (storage.mount("doctor") / "file").write_bytes(b"")
            storage.commit("doctor")
            storage.remove("doctor")
        finally:
            storage.close()
        return "a container was made, mounted and committed"


def _rights() -> HealthCheck:
    """Root of the machine, or of a user namespace that this process enters."""
    from imagesmith.namespaces.own_namespace import enter_own_namespace

    user = os.geteuid()
    if user == 0:
        return HealthCheck("root", True, "user id 0")
    try:
        ids = enter_own_namespace()
    except OSError as error:
        return HealthCheck("root", False, f"user id {user}: {error.strerror or error}", hint="or use sudo")
    further = ids.users[-1]
    return HealthCheck(
        "root", True,
        f"user id {user}, which is root of a namespace with {further.count} further ids from {further.outside} on",
    )  # fmt: skip


def _limits() -> HealthCheck:
    """Whether processes and memory of builds are limited here."""
    from imagesmith.instances.limits import ResourceLimits, make_groups

    groups = make_groups(f"doctor-{os.getpid()}", ResourceLimits())
    groups.remove()
    hint = "builds run without it; start imagesmith as root to limit them" if groups.missing else ""
    return HealthCheck("limits", not groups.missing, "; ".join(groups.missing), needed=False, hint=hint)


def _network() -> HealthCheck:
    """Whether the network of builds can be made."""
    from imagesmith.instances.network import tunnel_fault

    fault = tunnel_fault()
    return HealthCheck("network", not fault, fault, hint="builds whose network is none do not need it")


def _user_namespace(data_dir: Path) -> str:
    """Mount a container in a user namespace, on the file system of the data directory."""
    from imagesmith.artifacts.storage import SCRATCH, ContainerStorage
    from imagesmith.namespaces.id_maps import SIZE

    place = data_dir if data_dir.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="imagesmith-doctor-", dir=place) as folder:
        storage = ContainerStorage.open(Path(folder) / "containers")
        try:
            with storage.new_namespace() as namespace:
                storage.create("doctor", SCRATCH)
                storage.mount("doctor", namespace)
                storage.remove("doctor")
                first = namespace.host_ids.first
        finally:
            storage.close()
        return (
            f"root inside is user {first} of the machine, the first of {SIZE}" if first else "with the ids of root"
        )


def _machines(settings: Settings) -> HealthCheck:
    """The accelerator of virtual machines here; tested once per boot of the host, and stored."""
    from imagesmith.instances.machine.machine_factory import MachineFactory

    verdict = MachineFactory.of(settings).accelerator.verdict()
    detail = f"{verdict.acceleration}: {verdict.reason}"
    return HealthCheck("machines", verdict.acceleration == "kvm", detail, needed=False, hint="they run, but slowly")


def _disk(settings: Settings) -> HealthCheck:
    place = settings.data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
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
    place = secrets_file(settings)
    if not place.exists():
        return
    try:
        SecretBox.open(place, may_create=False)
        yield HealthCheck("key file", True, str(place))
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
