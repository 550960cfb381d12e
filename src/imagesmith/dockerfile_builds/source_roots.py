"""The roots that COPY and mounts take files from: stages, images, and the build context, which is empty."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from imagesmith.artifacts.storage import StorageError
from imagesmith.dockerfile_builds.build_context import BuildContext
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.stage_build import StageBuild
from imagesmith.dockerfile_builds.stage_images import StageImages
from imagesmith.dockerfiles.placeholders import is_parent
from imagesmith.dockerfiles.stages import Taken
from imagesmith.layers.records import LayerBlob


class SourceRoots:
    """Of one build; close() removes the containers of the images."""

    def __init__(self, context: BuildContext, images: StageImages, stage: Callable[[int], StageBuild]) -> None:
        """`stage` returns a stage that is complete, in which nothing runs."""
        self._context = context
        self._images = images
        self._stage = stage
        self._views: dict[tuple[LayerBlob, ...], tuple[str, Path]] = {}
        """Layers -> container, root."""
        self._lock = threading.Lock()

    def of(self, taken: Taken | None) -> Path:
        """The root that an instruction takes files from; None: the build context. Raises DockerfileFailed."""
        if taken is None:
            context = self._context.work / "context"
            with self._lock:
                if not context.exists():
                    first = self._context.namespace.host_ids.first
                    context.mkdir()
                    os.chown(context, first, first)
            return context
        root = self._stage(taken.stage).source_root() if taken.stage >= 0 else None
        return root or self._view(self.layers(taken))

    def layers(self, taken: Taken) -> tuple[LayerBlob, ...]:
        """The layers of the stage or image that files are taken from. Raises DockerfileFailed."""
        if taken.stage >= 0:
            return self._stage(taken.stage).image().layers
        return (self._images.parent() if is_parent(taken.name) else self._images.named(taken.name)).layers

    def close(self) -> None:
        while self._views:
            name, _ = self._views.popitem()[1]
            self._context.storage.remove(name)

    def _view(self, layers: tuple[LayerBlob, ...]) -> Path:
        """The root of layers, in a container in which nothing ever runs."""
        with self._lock:
            return self._locked_view(layers)

    def _locked_view(self, layers: tuple[LayerBlob, ...]) -> Path:
        known = self._views.get(layers)
        if known is not None:
            return known[1]
        name = f"{self._context.name}-image{len(self._views)}"
        storage = self._context.storage
        try:
            storage.remove(name)
            storage.create(name, layers)
            self._views[layers] = (name, Path())
            self._views[layers] = (name, storage.mount(name, self._context.namespace))
        except StorageError as error:
            raise DockerfileFailed(f"an image of the Dockerfile cannot be opened: {error}") from error
        return self._views[layers][1]
