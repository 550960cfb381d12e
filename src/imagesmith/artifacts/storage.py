"""The private container storage of one data directory: images and working containers on the layer store.

    root/
      layers/ blobs/ images/ roots/ leases/ tmp/    see layers/store.py
      home/                                         HOME of skopeo, which moves images from and to registries
      inventories/                                  packages of images by their layers (inspection/)

Nothing of the user's own storage, credentials or configuration is read or written. Working containers are named
`<build id>-<role>`, so a clean-up knows the containers of live builds from those of dead builds. Mounts end with
`unmount`, with `close`, or with the mount namespace of the server (instances/isolation.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from imagesmith import processes
from imagesmith.artifacts.intact import IntactFiles
from imagesmith.artifacts.oci import Configuration
from imagesmith.artifacts.plain_images import (
    MOST_BYTES,
    SCRATCH_CONFIG,
    OddConfiguration,
    PlainImage,
    committed_config,
    layer_moment,
    layers_of,
    triggers_of,
    without_triggers,
)
from imagesmith.files import READABLE, write_atomically
from imagesmith.layers.compression import PackedLayer
from imagesmith.layers.entries import LayerError
from imagesmith.layers.layer_cache import LayerCache
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.layers.overlay_mounts import mounted_below, overlay_options, unmount
from imagesmith.layers.records import LayerBlob
from imagesmith.layers.store import LayerStore, NameInUse
from imagesmith.locks import file_lock
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.namespaces.maker import NamespaceMaker
from imagesmith.processes import Cancellation, Completed, OnOutput
from imagesmith.trees import remove_tree

SCRATCH = "scratch"
ImageLayers = str | tuple[LayerBlob, ...]
"""The id of an image of the storage, SCRATCH, or layers that the caller holds, lowest first."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_OLD: Final = "storage.conf"
"""A file in the folder of a storage of older versions, which buildah kept."""
_QUICK = 120.0
"""Seconds for calls that only read a few files."""


class StorageError(RuntimeError):
    """The container storage could not perform the operation."""


class ContainerExists(StorageError):
    """There is a working container of this name."""


@dataclass(frozen=True)
class Leftovers:
    """The containers and mounts that a clean-up removed."""

    containers: tuple[str, ...]
    mounts: tuple[str, ...]


class ContainerStorage:
    """One storage; safe for several threads and processes. Its methods raise StorageError."""

    def __init__(self, root: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = root
        self.key = storage_key(root)
        self._now = now
        self._store = LayerStore(root)
        self.sealed = self._store.calls.program
        """What reads untrusted bytes; a build uses it from its beginning, so it has started when it is needed."""
        self.maker = NamespaceMaker()
        self._intact = IntactFiles()

    @classmethod
    def open(cls, root: Path) -> ContainerStorage:
        """Make or open the storage. What an older version kept there is removed: images that builds need are in the
        layout, and are taken from it again. Raises OSError."""
        root = root.absolute()
        (root / "home").mkdir(parents=True, exist_ok=True, mode=0o700)
        with file_lock(root / "open.lock"):
            if (root / _OLD).exists():
                _remove_old(root)
        # Pulls that need credentials name their own file; the tools require that this one exists.
        credentials = root / "home" / "no-credentials.json"
        if not credentials.exists():
            write_atomically(credentials, "{}", mode=READABLE)
        return cls(root)

    @classmethod
    def for_data_dir(cls, data_dir: Path) -> ContainerStorage:
        return cls.open(data_dir / "containers")

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the tools here."""
        return processes.host_environment(
            {
                "HOME": str(self.root / "home"),
                "TMPDIR": str(self.root / "tmp"),
                "REGISTRY_AUTH_FILE": str(self.root / "home" / "no-credentials.json"),
            }
        )

    def tool(
        self, argv: Sequence[str], *, what: str, timeout: float | None = _QUICK,
        cancellation: Cancellation | None = None, on_output: OnOutput | None = None,
        limit: int = processes.DEFAULT_LIMIT,
    ) -> Completed:  # fmt: skip
        """Run skopeo with files of this storage only. Raises ProcessFailed, Cancelled."""
        with self.scratch() as folder:
            return processes.check(
                argv, what=what, env={**self.environment, "TMPDIR": str(folder)}, timeout=timeout,
                cancellation=cancellation, on_output=on_output, limit=limit,
            )  # fmt: skip

    def scratch(self) -> AbstractContextManager[Path]:
        """A temporary folder, removed at its end; that of a killed process by the next clean-up."""
        return self._store.draft()

    # Working containers

    def create(self, name: str, image: ImageLayers) -> None:
        """Make a working container from an image of this storage, from `scratch`, or from layers; triggers of the
        image do not run, and are no part of it. Raises ContainerExists."""
        _check_name(name)
        layers = self.layer_blobs(image)
        plain = image == SCRATCH or not isinstance(image, str)
        config = SCRATCH_CONFIG if plain else self._without_triggers(str(image))
        with reported(f"making container {name} from {_shown(image)}"):
            self._store.create(name, config, layers)

    def new_namespace(self) -> BuildNamespace:
        """A user namespace for containers of a build, with ids that no other has; the caller closes it."""
        with reported("making the user namespace of a build"):
            return BuildNamespace.of_free_ids(self.maker, others=(self.sealed,))

    def mount(self, name: str, namespace: BuildNamespace | None = None) -> Path:
        """The root of a container. With a namespace, its files have the ids that they have there, and nothing may
        use it yet; without, those that they have on disk, unless it is mounted already."""
        with reported(f"mounting container {_check_name(name)}"):
            return self._store.mount(name, namespace)

    def unmount(self, name: str) -> None:
        with reported(f"unmounting container {_check_name(name)}"):
            self._store.unmount(name)

    def remove(self, name: str) -> None:
        """Unmount and remove a working container; does nothing if there is none of this name."""
        with reported(f"removing container {_check_name(name)}"):
            self._store.remove(name)

    def containers(self) -> tuple[str, ...]:
        """Names of the working containers."""
        with reported("listing containers"):
            return self._store.containers()

    def container_variables(self, name: str) -> list[str]:
        """The environment variables of the image that a working container was made from."""
        with reported(f"reading container {_check_name(name)}"):
            return _variables(json.loads(self._store.container_config(name)))

    def upper(self, name: str) -> Path:
        """The folder that holds what was written to a container since its last commit."""
        return self._store.upper(_check_name(name))

    def commit(
        self, name: str, *, created: datetime | None = None, labels: Mapping[str, str] | None = None,
        created_by: str = "", rules: LayerRules | None = None, cancellation: Cancellation | None = None,
        namespace: BuildNamespace | None = None, last: bool = False,
    ) -> str:  # fmt: skip
        """Write the container's changes as one layer of a new image; returns its id. Raises Cancelled.

        `created`, by default of the rules, is the time of the image, and no file of the layer is later. The
        container goes on above it, and is mounted in the namespace again if it was, unless this is its `last` use.
        """
        with reported(f"committing container {_check_name(name)}"):
            base = self._store.container_config(name)
            store, rules = self._store, rules or LayerRules.until(created)
            made = store.commit(name, rules=rules, cancellation=cancellation, namespace=namespace, last=last)
            with self._store.lease(made.layers):
                config = committed_config(
                    base, [layer.diff_id for layer in made.layers], created=rules.moment or self._now(),
                    created_by=created_by, labels=labels,
                )  # fmt: skip
                return self._store.put_image(config, made.layers)

    def commit_layers(
        self, name: str, *, rules: LayerRules | None = None, cancellation: Cancellation | None = None,
        namespace: BuildNamespace | None = None,
    ) -> tuple[LayerBlob, ...]:  # fmt: skip
        """Make one layer of the changes while nothing runs inside; returns all its layers. Raises Cancelled."""
        with reported(f"committing container {_check_name(name)}"):
            return self._store.commit(name, rules=rules, cancellation=cancellation, namespace=namespace).layers

    def container_layers(self, name: str) -> tuple[LayerBlob, ...]:
        """The layers below a container's changes, lowest first."""
        with reported(f"reading container {_check_name(name)}"):
            return self._store.container(name).layers

    def replace_layers(self, name: str, layers: Sequence[LayerBlob]) -> None:
        """Put other layers, which the caller holds, in place of a container's; its configuration stays."""
        with reported(f"replacing the layers of container {_check_name(name)}"):
            config = self._store.container_config(name)
            self._store.remove(name)
            self._store.create(name, config, layers)

    def lease(self, layers: Sequence[LayerBlob]) -> AbstractContextManager[None]:
        """Keep layers that nothing names yet."""
        return self._store.lease(layers)

    def layer_cache(self, *, bytes_limit: int, seconds_limit: float, now: Callable[[], float]) -> LayerCache:
        """The results of instructions and components on this storage; without a limit of bytes it is off."""

        def fault(layers: Sequence[LayerBlob]) -> str:
            blobs = ((self._store.blob(layer.digest), layer.digest) for layer in layers)
            return next(filter(None, (self._intact.fault(blob, digest) for blob, digest in blobs)), "")

        return LayerCache(
            self._store.cache, bytes_limit=bytes_limit, seconds_limit=seconds_limit, now=now, fault=fault,
            size=self._store.layer_size, collect=self._store.collect,
        )  # fmt: skip

    def how_to_enter(self, name: str) -> tuple[str, str]:
        """Commands for a shell: one that runs a shell of the image in a container, and one that removes it."""
        folder = shlex.quote(str(self._store.upper(_check_name(name)).parent))
        options = overlay_options(len(self._store.container(name).layers) or 1)
        mount = f"rm -rf work/work && mount -t overlay -o nodev,{options} overlay merged && exec chroot merged sh"
        return f"cd {folder} && unshare --mount sh -c '{mount}'", f"rm -r {folder}"

    # Images

    def make_image(self, config: bytes, base: ImageLayers) -> str:
        """Make an image of a configuration whose layers are the lowest of the image `base`; returns its id."""
        with reported("making an image"):
            wanted = layers_of(config)
            layers = self.layer_blobs(base)[: len(wanted)]
            if [layer.diff_id for layer in layers] != wanted:
                raise StorageError(f"the configuration of an image is refused: {_shown(base)} has not its layers")
            with self._store.lease(layers):
                return self._store.put_image(config, layers)

    def adopt(self, config: bytes, blobs: Sequence[tuple[LayerBlob, Path]]) -> str:
        """Keep an image of other files: its configuration, and its layers, lowest first, each with a file that has
        its digest and shares its bytes from now on; returns its id. They are unpacked when they are needed."""
        with reported("keeping an image"):
            layers = [layer for layer, _ in blobs]
            if [layer.diff_id for layer in layers] != layers_of(config):
                raise StorageError("the configuration of an image is refused: it names other layers")
            with self._store.lease(layers):
                for layer, source in blobs:
                    self._store.link_blob(source, layer.digest)
                return self._store.put_image(config, layers)

    def unpack(self, image_id: str, *, cancellation: Cancellation | None = None) -> None:
        """Unpack the layers of an image, so that its first container need not wait. Raises Cancelled."""
        layers = self.layer_blobs(image_id)
        with reported(f"unpacking image {image_id}"), self._store.lease(layers):
            self._store.require_layers(layers, cancellation=cancellation)

    def layer_blobs(self, image_id: ImageLayers) -> tuple[LayerBlob, ...]:
        """The layers of an image, lowest first; none for SCRATCH."""
        if not isinstance(image_id, str):
            return tuple(image_id)
        if image_id == SCRATCH:
            return ()
        with reported(f"reading image {_check_image(image_id)}"):
            return self._store.image(image_id).layers

    def layer_blob(self, image_id: str, layer: LayerBlob, *, cancellation: Cancellation | None = None) -> Path:
        """The intact blob of an image's layer; a damaged one is written again if that makes the same bytes.

        Raises Cancelled.
        """
        blob = self._store.blob(layer.digest)
        fault = self._intact.fault(blob, layer.digest, cancellation=cancellation)
        if fault:
            layers = self.layer_blobs(image_id)
            with reported(f"reading the layer {layer.digest}"), self._store.lease(layers):
                number = layers.index(layer)
                made = (
                    self._store.restore_blob(layers[: number + 1], latest=latest, cancellation=cancellation)
                    for latest in dict.fromkeys((None, layer_moment(self._store.config(image_id), number)))
                )
                if not any(made):
                    raise StorageError(f"the layer {layer.digest} of image {image_id} {fault}: {blob}")
        return blob

    def compress(self, archive: BinaryIO, blob: BinaryIO, cancellation: Cancellation | None = None) -> PackedLayer:
        """Write the archive of a layer as a gzip blob. Raises Cancelled."""
        with reported("compressing a layer"):
            return self._store.calls.compress(archive, blob, cancellation=cancellation)

    def has_image(self, image_id: str) -> bool:
        _check_image(image_id)
        with contextlib.suppress(LayerError, OSError):
            return bool(self._store.config(image_id))
        return False

    def plain_image(self, image_id: str) -> PlainImage:
        """The image to build on instead of this one, and the triggers that it lacks."""
        with reported(f"reading image {_check_image(image_id)}"):
            triggers = triggers_of(self._store.config(image_id))
            if not triggers:
                return PlainImage(image_id)
            return PlainImage(self.make_image(self._without_triggers(image_id), image_id), triggers)

    def _without_triggers(self, image_id: str) -> bytes:
        with reported(f"reading image {image_id}"):
            config = self._store.config(image_id)
            triggers_of(config)  # refuses what is not a list of instructions
            return without_triggers(config)

    def config_bytes(self, image_id: str) -> bytes:
        """The configuration of an image, whose digest is the image's id."""
        with reported(f"reading image {_check_image(image_id)}"):
            return self._store.config(image_id)

    def source_config(self, source: str) -> bytes:
        """The unchanged configuration of an image of any source that skopeo reads. Raises ProcessFailed."""
        argv = ["skopeo", "inspect", "--config", "--raw", source]
        done = self.tool(argv, what=f"reading image {source}", limit=MOST_BYTES)
        if done.dropped:
            raise StorageError(f"the configuration of image {source} is refused: it is too long")
        return done.stdout

    def image_config(self, image_id: str) -> Configuration:
        """The configuration of an image of this storage."""
        with reported(f"reading image {image_id}"):
            config: Configuration = json.loads(self.config_bytes(image_id))
            return config

    def image_variables(self, image: ImageLayers) -> list[str]:
        """The environment variables of an image, as `NAME=value`."""
        return [] if image == SCRATCH or not isinstance(image, str) else _variables(self.image_config(image))

    def remove_image(self, image_id: str) -> None:
        """Remove an image; layers that others use are kept. Does nothing if it does not exist."""
        with reported(f"removing image {_check_image(image_id)}"):
            self._store.remove_image(image_id)

    def forget_images(self, *, before: float) -> None:
        """Remove images that nothing has used since a time, in seconds of the epoch.

        What is built again or kept in the layout comes back when it is needed.
        """
        with reported("removing images that nothing uses"):
            self._store.forget_images(before=before)

    def images(self) -> tuple[str, ...]:
        return self._store.images()

    # Leftovers

    def remove_leftovers(
        self, alive: Callable[[str], bool] | Iterable[str] = (), *, forget_before: float = 0.0
    ) -> Leftovers:
        """Remove working containers that no live build owns, mounts of dead ones, temporary files, images as
        forget_images() does, and layers that nothing names.

        `alive` holds the names to keep, or decides by name. No build may start meanwhile.
        """
        keep = alive if callable(alive) else frozenset(alive).__contains__
        gone = tuple(name for name in self.containers() if not keep(name) and self._try_remove(name))
        held = {str(self.upper(name).with_name("merged")) for name in self.containers()}
        mounts = tuple(mount for mount in self.mounted() if mount not in held)
        for mount in mounts:
            _detach(mount)
        with reported("removing what nothing names"):
            self._store.forget_images(before=forget_before)
        return Leftovers(gone, mounts)

    def remove_dead(self, alive: Callable[[str], bool]) -> None:
        """Remove working containers without an owner, while others are being made and used."""
        for name in self.containers():
            if not alive(name):
                self._try_remove(name)

    def _try_remove(self, name: str) -> bool:
        """Remove a container; returns False on failure, which must not prevent a server from starting."""
        try:
            self.remove(name)
        except StorageError:
            return False
        return True

    def mounted(self) -> tuple[str, ...]:
        """Mount points of this storage in this mount namespace, deepest first."""
        return mounted_below(self.root)

    def close(self) -> None:
        """Unmount all mounts of this storage, and end what makes its namespaces."""
        for mount in self.mounted():
            _detach(mount)
        self.maker.close()


def storage_key(root: Path) -> str:
    """A short name of a storage, different for every folder: sandboxes and control groups are named after it."""
    return hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:12]


@contextlib.contextmanager
def reported(what: str) -> Iterator[None]:
    """Report failures of the layer store and of this machine as StorageErrors that name the work."""
    try:
        yield
    except NameInUse as error:
        raise ContainerExists(f"{what} failed: {error}") from error
    except OddConfiguration as error:
        raise StorageError(f"{what} failed: the configuration of the image is refused: {error}") from error
    except (LayerError, OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{what} failed: {error}") from error


def _variables(document: Mapping[str, object]) -> list[str]:
    inner = document.get("config")
    found = inner.get("Env") if isinstance(inner, dict) else None
    return [str(item) for item in found] if isinstance(found, list) else []


def _remove_old(root: Path) -> None:
    """Remove all files of an older storage; its mark goes last, so that a kill only postpones it."""
    for mount in mounted_below(root):
        _detach(mount)
    for entry in root.iterdir():
        if entry.name not in (_OLD, "open.lock"):
            remove_tree(entry)
    (root / "home").mkdir(mode=0o700, exist_ok=True)
    (root / _OLD).unlink()


def _detach(mount_point: str) -> None:
    with contextlib.suppress(OSError):
        unmount(Path(mount_point))


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StorageError(f"{name!r} is not a name of a container: letters, digits, `_`, `.` and `-` only")
    return name


def _shown(image: ImageLayers) -> str:
    return f"image {image}" if isinstance(image, str) else f"{len(image)} layers"


def _check_image(image_id: str) -> str:
    if not _IMAGE_ID.fullmatch(image_id):
        raise StorageError(f"{image_id!r} is not an image id: expected 64 hexadecimal digits")
    return image_id
