"""`imagesmith doctor`: what is installed and what really works here."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from imagesmith import processes
from imagesmith.cli.context import (
    ServerAddress,
    data_dir_option,
    json_option,
    make_console,
    print_json,
    settings_of,
)
from imagesmith.settings import Settings

_SECONDS = 30


@dataclass(frozen=True)
class Finding:
    """One thing that was tried."""

    name: str
    works: bool
    detail: str
    needed: bool = True
    hint: str = ""


TOOLS = (
    ("buildah", ["buildah", "--version"], "apt-get install buildah"),
    ("skopeo", ["skopeo", "--version"], "apt-get install skopeo"),
    ("bubblewrap", ["bwrap", "--version"], "apt-get install bubblewrap"),
    ("slirp4netns", ["slirp4netns", "--version"], "apt-get install slirp4netns"),
    ("mmdebstrap", ["mmdebstrap", "--version"], "apt-get install mmdebstrap"),
    ("runc", ["runc", "--version"], "apt-get install runc"),
)
MACHINE_TOOLS = (
    ("qemu", ["qemu-system-x86_64", "--version"], "apt-get install qemu-system-x86"),
    ("qemu-img", ["qemu-img", "--version"], "apt-get install qemu-utils"),
    ("mke2fs", ["mke2fs", "-V"], "apt-get install e2fsprogs"),
    ("mtools", ["mtools", "--version"], "apt-get install mtools"),
    ("sfdisk", ["sfdisk", "--version"], "apt-get install fdisk"),
)
"""What only machine images need."""


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


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything doctor looks at, one after another."""
    for name, argv, hint in TOOLS:
        yield _tool(name, argv, hint)
    yield Finding("root", os.geteuid() == 0, f"user id {os.geteuid()}", hint="builds need root: use sudo")
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
    yield _attempt("storage", _storage)
    for name, argv, hint in MACHINE_TOOLS:
        yield replace(_tool(name, argv, hint), needed=False)
    yield _machines(settings)
    yield _disk(settings)
    yield from _registries(settings)
    yield _server(settings)


def _tool(name: str, argv: list[str], hint: str) -> Finding:
    if shutil.which(argv[0]) is None:
        return Finding(name, False, "not installed", hint=hint)
    done = processes.run(argv, timeout=_SECONDS)
    first = (done.stdout or done.stderr).decode(errors="replace").splitlines()
    return Finding(name, done.returncode == 0, first[0].strip() if first else "", hint=hint)


def _tried(name: str, argv: list[str]) -> Finding:
    try:
        done = processes.run(argv, timeout=_SECONDS)
    except OSError as error:
        return Finding(name, False, str(error))
    detail = f"{done.seconds * 1000:.0f} ms" if done.returncode == 0 else done.tail(3)
    return Finding(name, done.returncode == 0, detail, hint=f"try by hand: {done.command}")


def _attempt(name: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, attempt())
    except (OSError, RuntimeError) as error:
        return Finding(name, False, str(error))


def _storage() -> str:
    from imagesmith.artifacts.storage import ContainerStorage

    with tempfile.TemporaryDirectory(prefix="imagesmith-doctor-") as folder:
        storage = ContainerStorage.open(Path(folder) / "containers", Path(folder) / "run")
        try:
            return f"{storage.probe.driver}: {storage.probe.reason}"
        finally:
            storage.close()


def _machines(settings: Settings) -> Finding:
    """What virtual machines run under here; tried once per boot of the host, and remembered."""
    from imagesmith.instances.machine.place import MachinePlace

    verdict = MachinePlace.of(settings).accelerator.verdict()
    detail = f"{verdict.acceleration}: {verdict.reason}"
    return Finding("machines", verdict.acceleration == "kvm", detail, needed=False, hint="they run, but slowly")


def _disk(settings: Settings) -> Finding:
    place = settings.data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    enough = free > 2 * 1024**3
    return Finding(
        "disk", enough, f"{free / 1024**3:.1f} GiB free for {settings.data_dir}", hint="2 GiB are needed"
    )


def _registries(settings: Settings) -> Iterator[Finding]:
    if not settings.registries:
        yield Finding("registry", True, "none configured: images stay in the embedded OCI layout", needed=False)
    for region, registry in settings.registries.items():
        host, _, port = registry.url.split("/")[0].partition(":")
        try:
            with socket.create_connection((host, int(port or 443)), timeout=5):
                yield Finding(f"registry {region}", True, f"{registry.url} is reachable", needed=False)
        except (OSError, ValueError) as error:
            yield Finding(f"registry {region}", False, f"{registry.url}: {error}", needed=False)


def _server(settings: Settings) -> Finding:
    address = ServerAddress.read(settings.data_dir)
    if address is None:
        return Finding(
            "server", False, f"not running for {settings.data_dir}", needed=False, hint="imagesmith serve"
        )
    alive = False
    with suppress(ProcessLookupError, PermissionError):
        os.kill(address.pid, 0)
        alive = True
    return Finding("server", alive, f"{address.url} (process {address.pid})", needed=False)


def _table(findings: list[Finding]) -> Table:
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
