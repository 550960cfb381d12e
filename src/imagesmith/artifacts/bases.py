"""Parents of builds: managed bases, own images, registry references, local layouts -> an image in the storage.

A managed base is bootstrapped once by mmdebstrap and kept in the layout under `base/<name>:<key>`; the key is a
digest over the base's document, the mirror and the tool, so a change of any of them makes a new base. A base is
also made again when it is older than the age limit, because a golden image needs fresh packages.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.base_cache import BaseCache, OnLine, base_key
from imagesmith.artifacts.bootstrap import bootstrap, keep_base, line_reader
from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.artifacts.mirrors import Mirrors, choose_mirrors
from imagesmith.artifacts.pulled_images import pull_image
from imagesmith.artifacts.refusals import has_answered, is_away
from imagesmith.artifacts.retry_policy import RetryPolicy, asked_pause
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.managed.bases import ManagedBase
from imagesmith.processes import Cancellation, OnOutput
from imagesmith.retries import Failure
from imagesmith.settings import Registry
from imagesmith.values.names import sha256_hex

_ATTEMPTS_ELSEWHERE = 4
"""Attempts to pull from an unreachable host that is not in the settings: its name may be misspelt."""
_ONCE = RetryPolicy()
_NAME_END = re.compile(r"(:[^/:@]+)?(@.*)?$")
"""Tag and digest of a reference."""
_SOURCES = Path("/etc/apt")


class ParentError(RuntimeError):
    """A parent image is unavailable; the text says which, why, and what to try."""


class _PullFailed(RuntimeError):
    """An attempt to pull failed; the text is the end of the tool's output."""


@dataclass(frozen=True)
class Parent:
    """A parent that is in the storage."""

    image_id: str
    reference: str
    """The reference that was requested."""
    digest: str
    """Digest of its manifest, or of its config if there is no manifest."""


class Bases:
    """Finds and makes parents for one data directory."""

    def __init__(
        self,
        storage: ContainerStorage,
        layout: OciLayout,
        *,
        folder: Path,
        debian_mirror: str = "",
        max_age_seconds: float = 7 * 86400,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._layout = layout
        self._folder = folder
        self._mirror = debian_mirror
        self._cache = BaseCache(folder, max_age_seconds, now)
        self._now = now
        folder.mkdir(parents=True, exist_ok=True)

    def managed(self, base: ManagedBase, *, on_line: OnLine, cancellation: Cancellation | None = None) -> Parent:
        """A managed base, bootstrapped if there is no fresh one. Raises ParentError, Cancelled."""
        mirrors = mirrors_of(base, self._mirror)
        key = base_key(base, mirrors, "mmdebstrap-minbase-2")
        reference = f"base/{base.name}:{key}"

        def make() -> tuple[Parent, str]:
            made = self._bootstrap(base, mirrors, reference, on_line=on_line, cancellation=cancellation)
            return made, made.digest

        return self._cache.obtain(
            base.name,
            key,
            recall=lambda _: self._kept(reference),
            make=make,
            on_line=on_line,
            cancellation=cancellation,
        )

    def image(self, digest: str, reference: str, *, cancellation: Cancellation | None = None) -> Parent:
        """An image that this server built. Raises ParentError."""
        try:
            image_id = self._layout.ensure_in_storage(self._storage, digest, cancellation=cancellation)
        except LayoutError as error:
            raise ParentError(f"the artifact of the parent image {reference} is not here: {error}") from error
        except StorageError as error:
            raise ParentError(f"the parent image {reference} cannot be read: {error}") from error
        return Parent(image_id, reference, digest)

    def registry(
        self,
        reference: str,
        *,
        registry: Registry | None,
        on_output: OnOutput | None = None,
        cancellation: Cancellation | None = None,
        retry_policy: RetryPolicy = _ONCE,
        on_line: OnLine | None = None,
    ) -> Parent:
        """An image of a registry; `registry` holds credentials for its host. Raises ParentError, Cancelled.

        `retry_policy` is for an unreachable registry; `on_line` gets a line per failed attempt.
        """
        reference = reference.removeprefix("docker://")
        host, _, path = without_tag(reference).partition("/")

        def attempts(failed: Failure) -> int:
            known = registry is not None or has_answered(str(failed.error))
            return retry_policy.attempts if known else min(retry_policy.attempts, _ATTEMPTS_ELSEWHERE)

        def log(failed: Failure, pause: float) -> None:
            if on_line is not None:
                number = f"attempt {failed.attempt} of {attempts(failed)}"
                on_line(f"pull of {reference}: {number} failed: {failed.error}; next in {pause:g} s")

        with self._storage.scratch() as folder, auth_options(registry, folder) as options:
            try:
                return retry_policy.retrying(
                    lambda: self._pull(reference, options, on_output=on_output, cancellation=cancellation),
                    retry=lambda failed: _is_passing(failed) and failed.attempt < attempts(failed),
                    asked=lambda _: asked_pause(host, path, registry),
                    before_retry=log,
                )
            except _PullFailed as error:
                raise ParentError(f"the parent image {reference} cannot be pulled: {error}") from error

    def local(self, reference: str, allowed: Iterable[Path], *, cancellation: Cancellation | None = None) -> Parent:
        """A layout or archive (`oci:PATH[:REF]`, `oci-archive:PATH`) in an allowed folder. Raises ParentError."""
        transport, _, rest = reference.partition(":")
        path = Path(rest.partition(":")[0])
        folders = [folder.resolve() for folder in allowed]
        if not any(path.resolve().is_relative_to(folder) for folder in folders):
            listed = ", ".join(map(str, folders)) or "none"
            raise ParentError(
                f"the parent image {reference} is outside the folders for local images (allowed: {listed})"
            )
        if not path.exists():
            raise ParentError(f"the parent image {reference} does not exist")
        name = f"parents/{sha256_hex(reference)[:24]}"
        try:
            artifact = self._layout.import_source(
                self._storage, f"{transport}:{rest}", name, cancellation=cancellation
            )
            image_id = self._layout.ensure_in_storage(self._storage, artifact.digest, cancellation=cancellation)
        except processes.ProcessFailed as error:
            raise ParentError(f"the parent image {reference} cannot be read: {error.completed.tail(4)}") from error
        except (LayoutError, StorageError) as error:
            raise ParentError(f"the parent image {reference} cannot be read: {error}") from error
        return Parent(image_id, reference, artifact.digest)

    def _pull(
        self,
        reference: str,
        options: Iterable[str],
        *,
        on_output: OnOutput | None,
        cancellation: Cancellation | None,
    ) -> Parent:
        """One attempt. Raises _PullFailed, Cancelled."""
        try:
            image_id, digest = pull_image(
                self._storage, reference, options, cancellation=cancellation, on_output=on_output
            )
        except processes.ProcessFailed as error:
            raise _PullFailed(error.completed.tail(4)) from error
        except StorageError as error:
            raise _PullFailed(str(error)) from error
        return Parent(image_id, reference, digest)

    def _kept(self, reference: str) -> Parent | None:
        digest = self._layout.resolve(reference)
        if digest is None:
            return None
        try:
            return Parent(self._layout.ensure_in_storage(self._storage, digest), reference, digest)
        except (LayoutError, StorageError):  # damaged: the base is made again
            return None

    def _bootstrap(
        self,
        base: ManagedBase,
        mirrors: Mirrors,
        reference: str,
        *,
        on_line: OnLine,
        cancellation: Cancellation | None,
    ) -> Parent:
        on_line(f"bootstrapping {base.name} from {mirrors.main} (once; later builds reuse it)")
        with tempfile.TemporaryDirectory(prefix="bootstrap-", dir=self._folder) as folder:
            work = Path(folder)
            with self._storage.new_namespace() as namespace:
                done = bootstrap(
                    base, mirrors, work, environment=self._storage.environment, on_output=line_reader(on_line),
                    cancellation=cancellation, namespace=namespace,
                )  # fmt: skip
            if done.returncode != 0 or done.timed_out:
                raise ParentError(
                    f"the base {base.name} cannot be bootstrapped from {mirrors.main}: {done.tail(6)}\n"
                    "is the mirror reachable? see debian_mirror in the settings"
                )
            on_line("keeping the base")
            moment = datetime.fromtimestamp(self._now() if mirrors.snapshot is None else mirrors.snapshot, UTC)
            image_id = keep_base(self._storage, base, work, created=moment, cancellation=cancellation)
        with ThreadPoolExecutor(1) as pool:
            unpacked = pool.submit(self._storage.unpack, image_id, cancellation=cancellation)
            artifact = self._layout.export_image(self._storage, image_id, reference, cancellation=cancellation)
            unpacked.result()
        return Parent(image_id, reference, artifact.digest)


def without_tag(reference: str) -> str:
    """A reference to a registry without its tag and digest."""
    return _NAME_END.sub("", reference)


def _is_passing(failed: Failure) -> bool:
    return isinstance(failed.error, _PullFailed) and is_away(str(failed.error))


def mirrors_of(base: ManagedBase, configured: str) -> Mirrors:
    """The package mirrors of a base. Raises ParentError."""
    mirrors = choose_mirrors(configured, _apt_sources())
    if not mirrors.main:
        raise ParentError(
            f"the base {base.name} needs a Debian mirror and this machine's apt names none; "
            "set debian_mirror in the settings"
        )
    return mirrors


def _apt_sources() -> list[str]:
    files = [_SOURCES / "sources.list", *sorted((_SOURCES / "sources.list.d").glob("*"))]
    return [
        file.read_text(errors="replace")
        for file in files
        if file.suffix in (".list", ".sources") and file.is_file()
    ]


@contextlib.contextmanager
def auth_options(registry: Registry | None, scratch: Path | None) -> Iterator[list[str]]:
    """Options of skopeo for a registry of the settings.

    The password is only written to a private file in `scratch` (None: the machine's temporary folder).
    """
    if registry is None:
        yield []
        return
    options = ["--tls-verify=false"] if registry.insecure else []
    if not registry.username:
        yield options
        return
    with tempfile.TemporaryDirectory(prefix="imagesmith-auth-", dir=scratch) as folder:
        file = Path(folder) / "auth.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(auth_entry(registry)))
        yield [*options, f"--authfile={file}"]


def auth_entry(registry: Registry) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """The auth file of skopeo for one registry."""
    password = Path(registry.password_file).read_text(encoding="utf-8").strip() if registry.password_file else ""
    token = base64.b64encode(f"{registry.username}:{password}".encode()).decode()
    return {"auths": {registry.url.split("/")[0]: {"auth": token}}}
