"""The private container storage of one data directory, driven through buildah and skopeo.

    root/                 layers, images, working containers
      storage.conf        makes it private: no tool here reads the machine's own configuration
      driver              the driver that worked when the storage was made
      home/  tmp/         HOME and TMPDIR of the tools
    runroot/              locks and mount records; below /run, so a reboot empties it

Nothing of the user's own storage, credentials or configuration is read or written. Working containers are named
`<build id>-<role>`, so a sweep can distinguish containers of live builds from those of dead builds. Mounts end with
`unmount`, with `close`, or with the mount namespace of the server (instances/isolation.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith import processes
from imagesmith.artifacts.oci import Configuration
from imagesmith.artifacts.plain_images import (
    MOST_BYTES,
    OddConfiguration,
    PlainImage,
    docker_members,
    plain_image,
    with_docker_members,
    without_empty_layer,
    write_view,
)  # fmt: skip
from imagesmith.files import READABLE, write_atomically
from imagesmith.locks import file_lock
from imagesmith.processes import Cancellation, Completed, OnOutput, ProcessFailed
from imagesmith.retries import Failure, retrying
from imagesmith.trees import remove_tree

DRIVERS = ("overlay", "vfs")
SCRATCH = "scratch"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_REASON = 300
_LIST_ATTEMPTS = 5
_NO_RECORDS = len(b"[]")
"""Bytes of a file of the storage that lists no container."""
_COMMIT_ATTEMPTS = 3
_COMMIT_SECONDS = 3600.0
_QUICK = 120.0
"""Seconds for calls that only touch records; a storage that takes longer is broken."""


class StorageError(RuntimeError):
    """The container storage could not perform the operation."""


@dataclass(frozen=True)
class StorageProbe:
    """The driver in use and the reason, for `imagesmith doctor`."""

    driver: str
    reason: str
    seconds: float

    @property
    def copies_everything(self) -> bool:
        """vfs keeps a full copy of every layer: slow, and many times the disk space."""
        return self.driver == "vfs"


@dataclass(frozen=True)
class SweepReport:
    """The containers and mounts that a sweep removed."""

    containers: tuple[str, ...]
    mounts: tuple[str, ...]


def _recorded(record: Path) -> StorageProbe | None:
    """The driver that worked earlier; None if the record is missing or damaged: drivers are then tried again."""
    try:
        known = StorageProbe(**json.loads(record.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.driver in DRIVERS else None


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
        """The records of the containers at the time of the last listing, and their names."""

    @classmethod
    def open(cls, root: Path, runroot: Path) -> ContainerStorage:
        """Make or open the storage; the first opening tries the drivers. Raises StorageError if none works."""
        # the tools require absolute paths
        root, runroot = root.absolute(), runroot.absolute()
        for folder in (root, runroot, root / "home", root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file_lock(root / "driver.lock"):
            return cls._opened(root, runroot)

    @classmethod
    def _opened(cls, root: Path, runroot: Path) -> ContainerStorage:
        record = root / "driver"
        known = _recorded(record)
        if known is not None:
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
            write_atomically(record, json.dumps(storage.probe.__dict__), mode=READABLE)
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
        limit: int = processes.DEFAULT_LIMIT,
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
                limit=limit,
            )

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A temporary folder for one tool, which would leave its files behind when it is killed.

        Emptied by sweep if this process is killed too.
        """
        with tempfile.TemporaryDirectory(prefix="tool-", dir=self.root / "tmp") as folder:
            yield Path(folder)

    # Working containers

    def create(self, name: str, image: str) -> None:
        """Make a working container from an image of this storage, or from `scratch`; triggers of the image do not
        run (plain_images.py). Raises ProcessFailed, StorageError."""
        _check_name(name)
        plain = image if image == SCRATCH else self.plain_image(image).id
        self.tool(
            ["buildah", "from", "--pull-never", "--quiet", "--name", name, plain],
            what=f"making a container from image {image}",
        )

    def mount(self, name: str) -> Path:
        done = self.tool(["buildah", "mount", _check_name(name)], what=f"mounting container {name}")
        return Path(done.stdout.decode().strip())

    def unmount(self, name: str) -> None:
        self.tool(["buildah", "umount", _check_name(name)], what=f"unmounting container {name}")

    def remove(self, name: str) -> None:
        """Unmount and remove a working container; does nothing if there is none of this name."""
        try:
            self.tool(["buildah", "rm", _check_name(name)], what=f"removing container {name}")
        except ProcessFailed as error:
            if b"not known" not in error.completed.stderr:
                raise

    def containers(self) -> tuple[str, ...]:
        """Names of the working containers. The tools are only called if there are records, and they have changed
        since last time: a build without containers needs no call, and most starts need none."""
        # read before the listing: a change meanwhile makes the list outdated
        records = self._container_records()
        if all(record is None or record[-1] <= _NO_RECORDS for record in records):
            return ()
        listed = self._listed
        if listed is None or listed[0] != records:
            listed = self._listed = (records, self._list_containers())
        return listed[1]

    def _container_records(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Metadata that changes with every new or removed container: the files are replaced each time."""
        places = (folder / f"{self.probe.driver}-containers" for folder in (self.root, self.runroot))
        return tuple(
            _identity(place / name) for place in places for name in ("containers.json", "volatile-containers.json")
        )

    def _list_containers(self) -> tuple[str, ...]:
        # --all: without it, half-removed containers (a full disk leaves them) are not listed
        argv = ["buildah", "containers", "--all", "--json"]
        done = retrying(
            lambda: self.tool(argv, what="listing containers"), retry=_container_vanished, attempts=_LIST_ATTEMPTS
        )
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
        timeout: float | None = _COMMIT_SECONDS,
    ) -> str:
        """Write the container's changes as one layer; returns the image id. `created` also sets the times of files.

        Docker's members that buildah leaves out of an OCI configuration (health check, shell) are kept.
        """
        changes = [f"--label={key}={value}" for key, value in sorted((labels or {}).items())]
        if created_by:
            changes.append(f"--created-by={created_by}")
        if changes:
            self.configure(name, changes)
        stamp = [f"--timestamp={int(created.timestamp())}"] if created else []
        image = self._committed(name, stamp, cancellation=cancellation, timeout=timeout)
        inspected = self.tool(["buildah", "inspect", "--type=container", name], what=f"reading {name}").stdout
        return self._rewritten(
            image,
            lambda config: with_docker_members(config, json.dumps({"config": docker_members(inspected)}).encode()),
        )

    def commit_layers(self, name: str, *, cancellation: Cancellation | None = None) -> str:
        """Write the container's changes as one layer of a new image, whose configuration means nothing; returns its
        id."""
        return self._committed(name, [], cancellation=cancellation, timeout=_COMMIT_SECONDS)

    def _committed(
        self, name: str, options: Sequence[str], *, cancellation: Cancellation | None, timeout: float | None
    ) -> str:
        argv = ["buildah", "commit", "--quiet", "--identity-label=false", "--format=oci", *options, name]
        done = retrying(
            lambda: self.tool(
                argv, what=f"committing container {name}", timeout=timeout, cancellation=cancellation
            ),
            retry=_made_twice, attempts=_COMMIT_ATTEMPTS,
        )  # fmt: skip
        return _image_id(done.stdout)

    # Images

    def make_image(self, config: bytes) -> str:
        """Make an image of a configuration whose layers are in the storage; returns its id. Raises ProcessFailed,
        StorageError."""
        with self.scratch() as folder:
            try:
                made = write_view(folder / "view", config)
            except OddConfiguration as error:
                raise StorageError(f"the configuration of a new image is refused: {error}") from error
            self._adopt(folder / "view", made)
        return made

    def layers_of(self, image_id: str) -> list[str]:
        """The diff ids of an image's layers, lowest first; none for SCRATCH."""
        return [] if image_id == SCRATCH else list(self.image_config(image_id)["rootfs"]["diff_ids"])

    def has_image(self, image_id: str) -> bool:
        _check_image(image_id)
        done = processes.run(
            ["buildah", "inspect", "--type=image", "--format={{.FromImageID}}", image_id],
            env=self.environment, timeout=_QUICK,
        )  # fmt: skip
        return done.returncode == 0

    def plain_image(self, image_id: str) -> PlainImage:
        """The image to make containers from instead of this one, and the triggers that it lacks.

        Raises ProcessFailed, and StorageError for an image whose configuration cannot be read.
        """

        with self.scratch() as folder:
            try:
                return plain_image(
                    image_id,
                    inspect=self._inspect,
                    read_config=self._read_config,
                    copy=self._adopt,
                    folder=folder / "view",
                )  # fmt: skip
            except OddConfiguration as error:
                raise StorageError(f"the configuration of image {image_id} is refused: {error}") from error

    def _rewritten(self, image_id: str, change: Callable[[bytes], bytes]) -> str:
        """Replace an image by one with another configuration, unless it is equal; an empty top layer is dropped."""
        with self.scratch() as folder:
            try:
                before = self._read_config(image_id)
                config = without_empty_layer(change(before))
                if config == before:
                    return image_id
                made = write_view(folder / "view", config)
            except OddConfiguration as error:
                raise StorageError(f"the configuration of image {image_id} is refused: {error}") from error
            self._adopt(folder / "view", made)
        self.remove_image(image_id)
        return made

    def _adopt(self, layout: Path, image_id: str) -> None:
        """Copy an image whose layers are already here into the storage."""
        self.tool(
            ["skopeo", "copy", "--quiet", f"oci:{layout}", f"containers-storage:@{image_id}"],
            what=f"making image {image_id}",
        )

    def docker_members(self, image: str) -> Mapping[str, Any]:
        """Members of an image, by its id or name, of docker's format only: `OnBuild`, `Healthcheck` and so on.

        Raises ProcessFailed, StorageError.
        """
        try:
            return docker_members(self._inspect(image))
        except OddConfiguration as error:
            raise StorageError(f"the configuration of image {image} is refused: {error}") from error

    def _inspect(self, image: str) -> bytes:
        """An image's configuration as buildah reads it."""
        return self._read(["buildah", "inspect", "--type=image", "--", image], image)

    def _read_config(self, image_id: str) -> bytes:
        return self.source_config(f"containers-storage:@{_check_image(image_id)}")

    def source_config(self, source: str) -> bytes:
        """The unchanged configuration of an image, from any source that skopeo reads."""
        return self._read(["skopeo", "inspect", "--config", "--raw", source], source)

    def _read(self, argv: Sequence[str], image: str) -> bytes:
        done = self.tool(argv, what=f"reading image {image}", limit=MOST_BYTES)
        if done.dropped:
            raise StorageError(f"the configuration of image {image} is refused: it is too long")
        return done.stdout

    def image_config(self, image_id: str) -> Configuration:
        """The OCI configuration of an image of this storage."""
        config: Configuration = json.loads(self._read_config(image_id))
        return config

    def image_variables(self, image_id: str) -> list[str]:
        """The environment variables of an image, as `NAME=value`."""
        return list(self.image_config(image_id).get("config", {}).get("Env") or [])

    def container_variables(self, name: str) -> list[str]:
        """The environment variables of the image that a working container was made from."""
        done = self.tool(["buildah", "inspect", "--type=container", _check_name(name)], what=f"reading {name}")
        return list(json.loads(done.stdout).get("OCIv1", {}).get("config", {}).get("Env") or [])

    def remove_image(self, image_id: str) -> None:
        """Remove an image; layers that others use are kept. Does nothing if it does not exist or is still in use.

        Not with `buildah rmi`, which also removes the unnamed images that this one was built from.
        """
        with contextlib.suppress(ProcessFailed):
            self.tool(
                ["skopeo", "delete", f"containers-storage:@{_check_image(image_id)}"],
                what=f"removing image {image_id}",
            )

    def images(self) -> tuple[str, ...]:
        done = self.tool(["buildah", "images", "--all", "--json", "--no-trunc"], what="listing images")
        found = {entry["id"].removeprefix("sha256:") for entry in json.loads(done.stdout or b"[]") or []}
        return tuple(sorted(found))

    # Leftovers

    def sweep(self, alive: Callable[[str], bool] | Iterable[str] = ()) -> SweepReport:
        """Remove working containers that no live build owns, mounts of dead ones and temporary files.

        `alive` holds the names to keep, or decides by name. No build may start meanwhile.
        """
        keep = alive if callable(alive) else frozenset(alive).__contains__
        gone = tuple(name for name in self.containers() if not keep(name) and self._try_remove(name))
        held = {str(self.mount(name)) for name in self.containers() if keep(name)}
        mounts = tuple(place for place in self.mounted() if place.endswith("/merged") and place not in held)
        for place in mounts:
            _detach(place)
        if not held:
            remove_tree(self.root / "tmp")
            (self.root / "tmp").mkdir(mode=0o700, exist_ok=True)
        return SweepReport(gone, mounts)

    def remove_dead(self, alive: Callable[[str], bool]) -> None:
        """Remove working containers without an owner, while others are being made and used."""
        for name in self.containers():
            if not alive(name):
                self._try_remove(name)

    def _try_remove(self, name: str) -> bool:
        """Remove a container; returns False on failure, which must not prevent a server from starting."""
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
        """Unmount all mounts of this storage."""
        for place in self.mounted():
            _detach(place)

    def _write_configuration(self) -> None:
        text = (
            f"[storage]\ndriver = {json.dumps(self.probe.driver)}\n"
            f"graphroot = {json.dumps(str(self.root))}\nrunroot = {json.dumps(str(self.runroot))}\n"
            # Otherwise every tool mounts the driver's folder over itself at its start and unmounts it at its end:
            # with two at once, the mounted containers of one vanish below the other's mount.
            '[storage.options.overlay]\nskip_mount_home = "true"\n'
        )
        # Pulls that need credentials name their own file; the tools require that this one exists.
        credentials = self.root / "home" / "no-credentials.json"
        if not credentials.exists():
            write_atomically(credentials, "{}", mode=READABLE)
        target = self.root / "storage.conf"
        if not target.exists() or target.read_text() != text:
            write_atomically(target, text, mode=READABLE)  # another process may be reading it

    def _try_driver(self) -> float:
        """Make, mount, write and remove a container; an overlay on an overlay fails only here."""
        name = "probe-driver"
        started = self.tool(["buildah", "info"], what="opening the storage").seconds
        # left by a first start that was killed here; its name in use would count against the driver
        self.remove(name)
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
    """Decode a path of mountinfo, which writes blanks and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StorageError(f"{name!r} is not a name of a container: letters, digits, `_`, `.` and `-` only")
    return name


def _check_image(image_id: str) -> str:
    if not _IMAGE_ID.fullmatch(image_id):
        raise StorageError(f"{image_id!r} is not an image id: expected 64 hexadecimal digits")
    return image_id


def _image_id(output: bytes) -> str:
    return _check_image(output.decode().strip().splitlines()[-1].removeprefix("sha256:"))


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _made_twice(failure: Failure) -> bool:
    """Whether a commit failed because another build was making an image with the same layer meanwhile."""
    return isinstance(failure.error, ProcessFailed) and any(
        words in failure.error.completed.stderr for words in (b"already in use", b"already exists", b"not known")
    )


def _container_vanished(failure: Failure) -> bool:
    """Whether another build removed a container between the listing and the inspection of its members."""
    return isinstance(failure.error, ProcessFailed) and b"not known" in failure.error.completed.stderr
