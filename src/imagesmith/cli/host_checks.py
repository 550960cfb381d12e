"""Checks of `imagesmith doctor` that ask nothing of the settings: tools, and what the kernel allows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import processes

if TYPE_CHECKING:
    from imagesmith.artifacts.storage import ContainerStorage

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


def host_checks(data_dir: Path) -> Iterator[HealthCheck]:
    """What every build needs of the machine; first the rights of this process, see own_namespace.py."""
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
    yield _attempt("user namespaces", lambda: _user_namespace(data_dir))
    yield _attempt("storage", _storage)
    yield _limits()
    yield _network()


def machine_tools() -> Iterator[HealthCheck]:
    """Tools that only machine images need."""
    for name, argv, hint in MACHINE_TOOLS:
        yield replace(_tool(name, argv, hint), needed=False)


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


@contextmanager
def _own_storage(parent: Path | None = None) -> Iterator[ContainerStorage]:
    """A container storage of doctor alone, in a folder of `parent`."""
    from imagesmith.artifacts.storage import ContainerStorage

    with tempfile.TemporaryDirectory(prefix="imagesmith-doctor-", dir=parent) as folder:
        storage = ContainerStorage.open(Path(folder) / "containers")
        try:
            yield storage
        finally:
            storage.close()


def _storage() -> str:
    from imagesmith.artifacts.storage import SCRATCH

    with _own_storage() as storage:
        storage.create("doctor", SCRATCH)
        (storage.mount("doctor") / "file").write_bytes(b"")
        storage.commit("doctor")
        storage.remove("doctor")
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
    from imagesmith.artifacts.storage import SCRATCH
    from imagesmith.namespaces.id_maps import SIZE

    parent = data_dir if data_dir.is_dir() else None
    with _own_storage(parent) as storage, storage.new_namespace() as namespace:
        storage.create("doctor", SCRATCH)
        storage.mount("doctor", namespace)
        storage.remove("doctor")
        first = namespace.host_ids.first
    return f"root inside is user {first} of the machine, the first of {SIZE}" if first else "with the ids of root"
