"""The private container storage of one data directory, driven through buildah and skopeo.

    root/                 layers, images, working containers
      storage.conf        what makes it private: no tool here reads the machine's own
      driver              the driver that was found to work when the storage was made
      home/  tmp/         HOME and TMPDIR of the tools
    runroot/              locks and mount records; below /run, so a reboot empties it

Nothing of the user's own storage, credentials or configuration is read or written. Working containers are named
`<build id>-<role>`, so a sweep can tell those of live builds from those of builds that died. Mounts end with
`unmount`, with `close`, or with the mount namespace of the server (instances/isolation.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith import processes
from imagesmith.processes import Cancellation, Completed, OnOutput, ProcessFailed

DRIVERS = ("overlay", "vfs")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_REASON = 300
_LIST_ATTEMPTS = 5
_QUICK = 120.0
"""Seconds for calls that only touch records; a storage that takes longer is broken."""


class StorageError(RuntimeError):
    """The container storage cannot do what it was asked for."""


@dataclass(frozen=True)
class StorageProbe:
    """What `imagesmith doctor` shows: the driver in use and why."""

    driver: str
    reason: str
    seconds: float

    @property
    def copies_everything(self) -> bool:
        """vfs keeps a full copy of every layer: slow, and many times the disk space."""
        return self.driver == "vfs"


@dataclass(frozen=True)
class SweepReport:
    """What a sweep found and removed."""

    containers: tuple[str, ...]
    mounts: tuple[str, ...]


def runroot_for(data_dir: Path) -> Path:
    """The run-time folder of a data directory: stable, short, and different for every data directory."""
    return Path("/run/imagesmith") / hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:12]


class ContainerStorage:
    """One storage; safe for several threads and processes, because buildah locks its records."""

    def __init__(self, root: Path, runroot: Path, probe: StorageProbe) -> None:
        self.root = root
        self.runroot = runroot
        self.probe = probe
        self._listed: tuple[tuple[tuple[int, int, int] | None, ...], tuple[str, ...]] | None = None
        """The records of the containers when they were listed, and their names."""

    @classmethod
    def open(cls, root: Path, runroot: Path) -> ContainerStorage:
        """Make or open the storage; the first opening tries the drivers. Raises StorageError when none works."""
        # the tools insist on absolute paths
        root, runroot = root.absolute(), runroot.absolute()
        for folder in (root, runroot, root / "home", root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        record = root / "driver"
        if record.exists():
            known = StorageProbe(**json.loads(record.read_text()))
            storage = cls(root, runroot, known)
            storage._write_configuration()
            return storage
        failures: list[str] = []
        for driver in DRIVERS:
            storage = cls(root, runroot, StorageProbe(driver, "; ".join(failures) or f"{driver} works", 0.0))
            storage._write_configuration()
            try:
                seconds = storage._try_driver()
            except ProcessFailed as error:
                failures.append(f"{driver} does not work here: {error.completed.tail(1)[-_REASON:]}")
                continue
            storage.probe = StorageProbe(driver, storage.probe.reason, round(seconds, 3))
            record.write_text(json.dumps(storage.probe.__dict__))
            return storage
        raise StorageError(f"no storage driver works at {root}: {'; '.join(failures)}")

    @classmethod
    def for_data_dir(cls, data_dir: Path) -> ContainerStorage:
        return cls.open(data_dir / "containers", runroot_for(data_dir))

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of buildah and skopeo here."""
        return processes.host_environment(
            {
                "HOME": str(self.root / "home"),
                "TMPDIR": str(self.root / "tmp"),
                "CONTAINERS_STORAGE_CONF": str(self.root / "storage.conf"),
                "REGISTRY_AUTH_FILE": str(self.root / "home" / "no-credentials.json"),
                "BUILDAH_FORMAT": "oci",
            }
        )

    def tool(
        self,
        argv: Sequence[str],
        *,
        what: str,
        timeout: float | None = _QUICK,
        cancellation: Cancellation | None = None,
        on_output: OnOutput | None = None,
        env: Mapping[str, str] | None = None,
        tree: bool = False,
    ) -> Completed:
        """Run buildah or skopeo on this storage. Raises ProcessFailed, Cancelled."""
        with self.scratch() as folder:
            return processes.check(
                argv,
                what=what,
                env={**self.environment, "TMPDIR": str(folder), **(env or {})},
                timeout=timeout,
                cancellation=cancellation,
                on_output=on_output,
                tree=tree,
            )

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder for one tool, which would leave its files behind when it is killed; emptied by sweep
        should this process be killed too."""
        with tempfile.TemporaryDirectory(prefix="tool-", dir=self.root / "tmp") as folder:
            yield Path(folder)

    # Working containers

    def create(self, name: str, image: str) -> None:
        """Make a working container from an image of this storage, or from `scratch`."""
        _check_name(name)
        self.tool(
            ["buildah", "from", "--pull-never", "--quiet", "--name", name, image],
            what=f"making a container from image {image}",
        )

    def mount(self, name: str) -> Path:
        done = self.tool(["buildah", "mount", _check_name(name)], what=f"mounting container {name}")
        return Path(done.stdout.decode().strip())

    def unmount(self, name: str) -> None:
        self.tool(["buildah", "umount", _check_name(name)], what=f"unmounting container {name}")

    def remove(self, name: str) -> None:
        """Unmount and remove a working container; nothing happens when there is none of this name."""
        try:
            self.tool(["buildah", "rm", _check_name(name)], what=f"removing container {name}")
        except ProcessFailed as error:
            if b"not known" not in error.completed.stderr:
                raise

    def containers(self) -> tuple[str, ...]:
        """Names of the working containers. The tools are asked only when their records are not those of last time:
        a build that made no container has nothing to ask for."""
        # looked at before the list is made: a change meanwhile makes the list an old one
        records = self._container_records()
        listed = self._listed
        if listed is None or listed[0] != records:
            listed = self._listed = (records, self._list_containers())
        return listed[1]

    def _container_records(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when a container comes or goes: the files are replaced as a whole, each time."""
        places = (folder / f"{self.probe.driver}-containers" for folder in (self.root, self.runroot))
        return tuple(
            _identity(place / name) for place in places for name in ("containers.json", "volatile-containers.json")
        )

    def _list_containers(self) -> tuple[str, ...]:
        for attempt in range(_LIST_ATTEMPTS):
            try:
                # --all: buildah no longer counts what it removed by half, as it does when the disk is full
                done = self.tool(["buildah", "containers", "--all", "--json"], what="listing containers")
                break
            except ProcessFailed as error:
                # Another build removed a container between the list and a look at its members.
                if b"not known" not in error.completed.stderr or attempt == _LIST_ATTEMPTS - 1:
                    raise
        return tuple(entry["containername"] for entry in json.loads(done.stdout or b"[]") or [])

    def configure(self, name: str, changes: Sequence[str]) -> None:
        """Change the image configuration of a container; `changes` are options of `buildah config`."""
        self.tool(["buildah", "config", *changes, _check_name(name)], what=f"configuring container {name}")

    def commit(
        self,
        name: str,
        *,
        created: datetime | None = None,
        labels: Mapping[str, str] | None = None,
        created_by: str = "",
        cancellation: Cancellation | None = None,
        timeout: float | None = 3600,
    ) -> str:
        """Write the container's changes as one layer; give the image id. `created` also stamps the files."""
        changes = [f"--label={key}={value}" for key, value in sorted((labels or {}).items())]
        if created_by:
            changes.append(f"--created-by={created_by}")
        if changes:
            self.configure(name, changes)
        stamp = [f"--timestamp={int(created.timestamp())}"] if created else []
        done = self.tool(
            ["buildah", "commit", "--quiet", "--identity-label=false", "--format=oci", *stamp, name],
            what=f"committing container {name}",
            timeout=timeout,
            cancellation=cancellation,
        )
        return _image_id(done.stdout)

    # Images

    def has_image(self, image_id: str) -> bool:
        _check_image(image_id)
        done = processes.run(
            ["buildah", "inspect", "--type=image", "--format={{.FromImageID}}", image_id],
            env=self.environment, timeout=_QUICK,
        )  # fmt: skip
        return done.returncode == 0

    def image_config(self, image_id: str) -> dict[str, Any]:
        """The OCI configuration of an image of this storage."""
        done = self.tool(
            ["skopeo", "inspect", "--config", "--raw", f"containers-storage:@{_check_image(image_id)}"],
            what=f"reading image {image_id}",
        )
        config: dict[str, Any] = json.loads(done.stdout)
        return config

    def image_variables(self, image_id: str) -> list[str]:
        """The environment variables of an image, as `NAME=value`."""
        return list(self.image_config(image_id).get("config", {}).get("Env") or [])

    def container_variables(self, name: str) -> list[str]:
        """The environment variables of the image that a working container was made from."""
        done = self.tool(["buildah", "inspect", "--type=container", _check_name(name)], what=f"reading {name}")
        return list(json.loads(done.stdout).get("OCIv1", {}).get("config", {}).get("Env") or [])

    def remove_image(self, image_id: str) -> None:
        """Forget an image; layers that others use stay. Nothing happens when it is gone or still in use.

        Not with `buildah rmi`, which also removes the unnamed images that this one was built from.
        """
        with contextlib.suppress(ProcessFailed):
            self.tool(
                ["skopeo", "delete", f"containers-storage:@{_check_image(image_id)}"],
                what=f"removing image {image_id}",
            )

    def images(self) -> tuple[str, ...]:
        done = self.tool(["buildah", "images", "--json", "--no-trunc"], what="listing images")
        found = {entry["id"].removeprefix("sha256:") for entry in json.loads(done.stdout or b"[]") or []}
        return tuple(sorted(found))

    # Leftovers

    def sweep(self, alive: Callable[[str], bool] | Iterable[str] = ()) -> SweepReport:
        """Remove working containers that no live build owns, mounts of dead ones and temporary files.

        `alive` holds the names to keep, or decides by name. Call it when no build starts meanwhile.
        """
        keep = alive if callable(alive) else frozenset(alive).__contains__
        gone = tuple(name for name in self.containers() if not keep(name) and self._try_remove(name))
        held = {str(self.mount(name)) for name in self.containers() if keep(name)}
        mounts = tuple(place for place in self.mounted() if place.endswith("/merged") and place not in held)
        for place in mounts:
            _detach(place)
        if not held:
            shutil.rmtree(self.root / "tmp", ignore_errors=True)
            (self.root / "tmp").mkdir(mode=0o700, exist_ok=True)
        return SweepReport(gone, mounts)

    def _try_remove(self, name: str) -> bool:
        """Remove a container; False when even that fails, which must not keep a server from starting."""
        try:
            self.remove(name)
        except ProcessFailed:
            return False
        return True

    def mounted(self) -> tuple[str, ...]:
        """Mount points of this storage in this mount namespace, deepest first."""
        prefix = str(self.root.resolve()) + "/"
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        places = [_unescape(line.split()[4]) for line in lines]
        return tuple(sorted((place for place in places if place.startswith(prefix)), reverse=True))

    def close(self) -> None:
        """Unmount everything that is mounted here."""
        for place in self.mounted():
            _detach(place)

    def _write_configuration(self) -> None:
        text = (
            f"[storage]\ndriver = {json.dumps(self.probe.driver)}\n"
            f"graphroot = {json.dumps(str(self.root))}\nrunroot = {json.dumps(str(self.runroot))}\n"
            # Otherwise every tool mounts the driver's folder over itself when it starts and unmounts it when it
            # ends: two at once, and the mounted containers of one vanish below the other's mount.
            '[storage.options.overlay]\nskip_mount_home = "true"\n'
        )
        # Pulls that need credentials name their own file; the tools insist that this one exists.
        (self.root / "home" / "no-credentials.json").write_text("{}")
        target = self.root / "storage.conf"
        if not target.exists() or target.read_text() != text:
            # Replaced in one step: another process may be reading it.
            draft = target.with_suffix(f".{os.getpid()}")
            draft.write_text(text)
            draft.replace(target)

    def _try_driver(self) -> float:
        """Make, mount, write and remove a container; an overlay on an overlay fails only here."""
        name = "probe-driver"
        started = self.tool(["buildah", "info"], what="opening the storage").seconds
        self.create(name, "scratch")
        try:
            place = self.mount(name)
            (place / "probe").write_bytes(b"probe")
            self.unmount(name)
        finally:
            self.remove(name)
        return started


def _detach(place: str) -> None:
    processes.run(["umount", "--lazy", "--", place], timeout=30)


def _unescape(field: str) -> str:
    """A path of mountinfo, where blanks and backslashes stand as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StorageError(f"{name!r} is no name of a container: letters, digits, `_`, `.` and `-` only")
    return name


def _check_image(image_id: str) -> str:
    if not _IMAGE_ID.fullmatch(image_id):
        raise StorageError(f"{image_id!r} is no image id: expected 64 hexadecimal digits")
    return image_id


def _image_id(output: bytes) -> str:
    return _check_image(output.decode().strip().splitlines()[-1].removeprefix("sha256:"))


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
