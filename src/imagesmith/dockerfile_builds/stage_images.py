"""The images that stages start from, and that they become: layers in the storage with a configuration beside them.

    name --find--> image of the storage --its document--> StageImage --instructions--> StageImage --write--> image

A stage that only changes the configuration makes no layer: its image has the layers that it started from.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from imagesmith.artifacts.plain_images import EMPTY_LAYER, OddConfiguration, parent_history
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.image_config import ImageConfig, read_config
from imagesmith.instances.container import DEFAULT_PATH
from imagesmith.layers.records import LayerBlob

_MOST_HISTORY: Final = 10_000


@dataclass(frozen=True)
class StageImage:
    """An image between two instructions."""

    layers: tuple[LayerBlob, ...]
    """Lowest first; an image of the storage, a container of the build or a lease holds them."""
    config: ImageConfig
    history: tuple[dict[str, Any], ...] = ()

    def as_parent(self) -> StageImage:
        """The same at the beginning of a stage: its triggers are instructions of the stage, and it has a PATH."""
        env = {**self.config.env, "PATH": self.config.env.get("PATH", DEFAULT_PATH)}
        return replace(self, config=replace(self.config, env=env, triggers=(), has_own_cmd=False))


class StageImages:
    """The images of one build, each read once."""

    def __init__(
        self,
        storage: ContainerStorage,
        *,
        parent: str,
        find: Callable[[str], str],
        now: Callable[[], datetime],
        cached: dict[str, StageImage] | None = None,
    ) -> None:
        """`parent`: the image of the storage that the parent's variable stands for. `find` returns the id of the
        image of a registry, which it has pulled, several names at once; it raises what the caller of the build
        expects."""
        self._storage = storage
        self._parent = parent
        self._find = find
        self._now = now
        self._known: dict[str, StageImage] = cached or {}
        self._lock = threading.Lock()
        self._pulls: dict[str, threading.Lock] = {}

    def parent(self) -> StageImage:
        """Raises DockerfileFailed."""
        if not self._parent:
            raise DockerfileFailed("the Dockerfile uses the parent image; this build has none: try --parent IMAGE")
        return self.stored(self._parent)

    def named(self, name: str) -> StageImage:
        """The image of a registry. Raises DockerfileFailed, and what `find` raises."""
        with self._lock:
            own = self._pulls.setdefault(name, threading.Lock())
        # stages on different parents pull side by side, those on one parent wait for one pull
        with own:
            known = self._known.get(name)
            if known is None:
                known = self._known[name] = self.stored(self._find(name))
            return known

    def stored(self, image_id: str) -> StageImage:
        """An image of the storage. Raises DockerfileFailed."""
        known = self._known.get(image_id)
        if known is None:
            known = self._known[image_id] = self._read(image_id)
        return known

    def _read(self, image_id: str) -> StageImage:
        try:
            document: Any = self._storage.image_config(image_id)
            created = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
            history = parent_history(document, created)[:_MOST_HISTORY]
            layers = self._storage.layer_blobs(image_id)
            return StageImage(layers, read_config(document), tuple(history))
        except StorageError as error:
            raise DockerfileFailed(f"the image {image_id} of the Dockerfile cannot be read: {error}") from error
        except (OddConfiguration, ValueError, AttributeError, TypeError) as error:
            raise DockerfileFailed(f"the configuration of the image {image_id} is refused: {error}") from error

    def write(self, image: StageImage) -> str:
        """Make an image of the storage and return its id. Raises DockerfileFailed."""
        try:
            return self._storage.make_image(self._document(image), image.layers)
        except StorageError as error:
            raise DockerfileFailed(f"the image of the Dockerfile cannot be made: {error}") from error

    def _document(self, image: StageImage) -> bytes:
        layers = [layer.diff_id for layer in image.layers]
        history = list(image.history)
        if len(layers) > 1 and layers[-1] == EMPTY_LAYER:
            layers = layers[:-1]
            last = max(index for index, entry in enumerate(history) if not entry.get("empty_layer"))
            history[last] = {**history[last], "empty_layer": True}
        document: dict[str, Any] = {
            "created": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            **({"author": image.config.author} if image.config.author else {}),
            "architecture": "amd64", "os": "linux", **image.config.platform,
            "config": image.config.members(),
            "rootfs": {"type": "layers", "diff_ids": layers},
            "history": history,
        }  # fmt: skip
        return json.dumps(document, separators=(",", ":")).encode()


def scratch_image(platform: str) -> StageImage:
    """An image without anything, for a platform like `linux/arm64`."""
    system, architecture, *variant = platform.split("/")
    named: dict[str, Any] = {"os": system, "architecture": architecture}
    return StageImage((), ImageConfig(platform={**named, "variant": variant[0]} if variant else named))
