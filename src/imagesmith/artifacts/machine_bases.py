"""Base disks of machines: the managed base, made here, and cloud images by path or URL with a checksum."""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from imagesmith import processes
from imagesmith.artifacts.base_cache import BaseCache, OnLine, base_key
from imagesmith.artifacts.bases import ParentError, mirrors_of
from imagesmith.artifacts.bootstrap import bootstrap, free_memory, line_reader
from imagesmith.artifacts.disks import Disk, DiskError, DiskStore
from imagesmith.artifacts.machine_disk import DiskAssemblyFailed, RootFileSystem, assemble
from imagesmith.managed.bases import ManagedBase
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.namespaces.maker import NamespaceMaker
from imagesmith.processes import Cancellation
from imagesmith.values.names import human_size, sha256_hex

_RECIPE = "disk-4"
_UNPACK_BYTES = 3 * 1024**3
_CHUNK = 1024 * 1024
_LARGEST_DOWNLOAD = 64 * 1024**3
_READ_SECONDS = 60.0
_CHECKSUM = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


class MachineBases:
    """Finds and makes the disks of parents for one data directory."""

    def __init__(
        self,
        disks: DiskStore,
        *,
        folder: Path,
        debian_mirror: str = "",
        max_age_seconds: float = 7 * 86400,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._disks = disks
        self._folder = folder
        self._mirror = debian_mirror
        self._maker = NamespaceMaker()
        folder.mkdir(parents=True, exist_ok=True)
        self._cache = BaseCache(folder, max_age_seconds, now)

    def managed(self, base: ManagedBase, *, on_line: OnLine, cancellation: Cancellation | None = None) -> Disk:
        """The disk of a managed base, made if there is no fresh one. Raises ParentError, Cancelled."""
        key = base_key(base, mirrors_of(base, self._mirror), _RECIPE)
        recall = self._recall(cancellation)

        def make() -> tuple[Disk, str]:
            made = self._make(base, key, on_line=on_line, cancellation=cancellation)
            return made, made.digest

        return self._cache.obtain(
            base.name, key, recall=recall, make=make, on_line=on_line, cancellation=cancellation
        )

    def fixed(
        self, name: str, source: str, checksum: str, *, on_line: OnLine, cancellation: Cancellation | None = None
    ) -> Disk:
        """A disk by path or URL as add() imports it, read once for each checksum. Raises ParentError, Cancelled."""

        def make() -> tuple[Disk, str]:
            made = self.add(source, checksum, on_line=on_line, cancellation=cancellation)
            return made, made.digest

        forever = BaseCache(self._folder, math.inf, self._cache.now)
        key = sha256_hex(checksum)[:24]
        return forever.obtain(
            name, key, recall=self._recall(cancellation), make=make, on_line=on_line, cancellation=cancellation
        )

    def _recall(self, cancellation: Cancellation | None) -> Callable[[str], Disk | None]:
        def recall(digest: str) -> Disk | None:
            try:
                return self._disks.whole(digest, cancellation=cancellation)
            except DiskError:
                return None

        return recall

    def add(self, source: str, checksum: str, *, on_line: OnLine, cancellation: Cancellation | None = None) -> Disk:
        """Import a raw or qcow2 disk from a path or URL whose bytes have `checksum` (`sha256:...` or `sha512:...`).

        Raises ParentError, Cancelled.
        """
        found = _CHECKSUM.fullmatch(checksum)
        if found is None:
            raise ParentError(f"'{checksum}' is not a checksum: write sha256: or sha512: and lower-case digits")
        with tempfile.TemporaryDirectory(prefix="download-", dir=self._folder) as folder:
            local = Path(folder) / "disk"
            digest = hashlib.new(found[1] or found[3])
            on_line(f"reading {source}")
            try:
                with _opened(source) as remote, local.open("wb") as file:
                    _copy(remote, file, digest.update, cancellation)
            except (OSError, ValueError) as error:
                raise ParentError(f"{source} cannot be read: {error}") from error
            if digest.hexdigest() != (found[2] or found[4]):
                raise ParentError(
                    f"{source} does not match its checksum: its {digest.name} is {digest.hexdigest()}, "
                    f"expected {checksum}"
                )
            try:
                disk = self._disks.take(local, cancellation=cancellation)
            except DiskError as error:
                raise ParentError(str(error).replace(str(local), source)) from error
        on_line(f"stored as {disk.digest}: {human_size(disk.size)}, {human_size(disk.virtual_size)} for a guest")
        return disk

    def _make(self, base: ManagedBase, key: str, *, on_line: OnLine, cancellation: Cancellation | None) -> Disk:
        mirrors = mirrors_of(base, self._mirror)
        on_line(f"bootstrapping the machine {base.name} from {mirrors.main} (once; later builds reuse it)")
        root = RootFileSystem.of_key(key)
        environment = processes.host_environment()
        with (
            tempfile.TemporaryDirectory(prefix="bootstrap-", dir=self._folder) as folder,
            self._namespace() as namespace,
        ):
            work = Path(folder)
            done = bootstrap(
                base, mirrors, work, environment=environment, on_output=line_reader(on_line),
                cancellation=cancellation, finish=root.finish_script, namespace=namespace,
            )  # fmt: skip
            if done.returncode != 0 or done.timed_out:
                raise ParentError(
                    f"the base {base.name} cannot be bootstrapped from {mirrors.main}: {done.tail(6)}\n"
                    "is the mirror reachable? see debian_mirror in the settings"
                )
            on_line("assembling the disk")
            memory = _UNPACK_BYTES if free_memory() > _UNPACK_BYTES * 4 // 3 else 0
            try:
                raw = assemble(
                    work, root, environment=environment, memory_bytes=memory,
                    cancellation=cancellation, namespace=namespace,
                )  # fmt: skip
                return self._disks.take(raw, cancellation=cancellation)
            except (DiskAssemblyFailed, DiskError, OSError) as error:
                raise ParentError(f"the base {base.name} cannot be made: {error}") from error

    def _namespace(self) -> BuildNamespace:
        """Raises ParentError."""
        try:
            return BuildNamespace.of_free_ids(self._maker)
        except OSError as error:
            raise ParentError(f"a machine's base cannot be made in a user namespace: {error}") from error


def _opened(source: str) -> IO[bytes]:
    if source.startswith(("http://", "https://")):
        opened: IO[bytes] = urllib.request.urlopen(source, timeout=_READ_SECONDS)  # noqa: S310 - the scheme is checked
        return opened
    return Path(source.removeprefix("file://").removeprefix("file:")).open("rb")


def _copy(
    source: IO[bytes], target: IO[bytes], seen: Callable[[bytes], None], cancellation: Cancellation | None
) -> None:
    total = 0
    while chunk := source.read(_CHUNK):
        if cancellation is not None:
            cancellation.check()
        total += len(chunk)
        if total > _LARGEST_DOWNLOAD:
            raise ValueError(f"it is longer than {human_size(_LARGEST_DOWNLOAD)}")
        target.write(chunk)
        seen(chunk)
