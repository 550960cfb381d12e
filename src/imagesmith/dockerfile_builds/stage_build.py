"""One stage while its instructions are carried out: its container, its configuration, its history."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import SCRATCH
from imagesmith.dockerfile_builds.build_context import BuildContext
from imagesmith.dockerfile_builds.config_instructions import apply
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.history import HistoryEntry, created_by, history_entries
from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfile_builds.stage_images import StageImage
from imagesmith.dockerfiles.stages import ResolvedInstruction
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.reserved_names import reserved_names
from imagesmith.instances.users import UnknownUser, User, find_user
from imagesmith.layers.records import LayerBlob

_MOST_TABLE_BYTES: Final = 1024 * 1024
"""Of /etc/passwd and /etc/group: they are the image's, and read outside of its limits for each RUN."""


class StageBuild:
    """Makes its container when an instruction needs one; close() removes it."""

    def __init__(self, context: BuildContext, start: StageImage, name: str) -> None:
        self.context = context
        self.config: ImageConfig = start.config
        self.layers: tuple[LayerBlob, ...] = start.layers
        """Its complete layers; what its container has above them is in none yet."""
        self._start = start
        self._name = name
        self._history: list[dict[str, Any]] = []
        self._entries: list[HistoryEntry] = []
        """Instructions since the last layer."""
        self._instance: ContainerInstance | None = None
        self._rights = ""
        self._image: StageImage | None = None
        self._leases = ExitStack()

    @property
    def instance(self) -> ContainerInstance:
        """Its container. Raises InstanceError, Cancelled."""
        if self._instance is None:
            self._instance = ContainerInstance.launch(
                self.context.storage, self.layers or SCRATCH, name=self._name, network=self.context.network,
                limits=self.context.limits, cancellation=self.context.cancellation, variables=(),
                namespace=self.context.namespace,
            )  # fmt: skip
            self._rights = _rights(self._instance)
        return self._instance

    def rest(self) -> None:
        """End what runs in it, and with it the memory and control groups that it holds."""
        if self._instance is not None:
            self._instance.rest()

    def root(self) -> Path:
        """Its root, in which nothing runs. Raises InstanceError, Cancelled."""
        return self.instance.rest()

    def source_root(self) -> Path | None:
        """Its root for others to copy from; None if it has no container. Raises DockerfileFailed for files that no
        layer can carry."""
        if self._instance is None:
            return None
        root = self.root()
        self._refuse_reserved()
        return root

    def find_user(self, text: str) -> User:
        """The user that a text names in its root. Raises DockerfileFailed."""
        with Root(self.instance.root) as root:
            try:
                return find_user(text, passwd=_table(root, "/etc/passwd"), group=_table(root, "/etc/group"))
            except UnknownUser as error:
                raise DockerfileFailed(f"failed: {error}") from error

    def configure(self, resolved: ResolvedInstruction) -> None:
        """Take in what an instruction says about the configuration."""
        self.config = apply(self.config, resolved)

    def note(
        self, resolved: ResolvedInstruction, before: ImageConfig, *, writes_files: bool,
        created: datetime | None = None,
    ) -> None:  # fmt: skip
        """Add an instruction to the history."""
        text = created_by(resolved, before, arguments_of(resolved))
        moment = self.context.now() if created is None or self.context.rules is not None else created
        self._entries.append(HistoryEntry(text, moment, writes_files))

    def end_layer(self) -> None:
        """Make a layer of what has changed since the last one. Raises InstanceError, Cancelled."""
        self._warn_of_root()
        if self._has_changes():
            self.root()
            self._refuse_reserved()
            self._take(self.instance.commit_layers(self.context.rules))

    def adopt(self, layers: tuple[LayerBlob, ...]) -> None:
        """Go on above layers that an earlier build made of the last instruction; the caller holds a lease."""
        held = ExitStack()
        held.enter_context(self.context.storage.lease(layers))
        self._leases.close()
        self._leases = held
        if self._instance is not None and layers != self.layers:
            self._instance.close()
            self._instance = None
        self._take(layers)

    def image(self) -> StageImage:
        """What the stage has become. Raises InstanceError, Cancelled."""
        if self._image is None:
            self.end_layer()
            self._end_entries(has_layer=False)
            history = (*self._start.history, *self._history)
            self._image = replace(self._start, layers=self.layers, config=self.config, history=history)
        return self._image

    def close(self) -> None:
        """Remove the container, and with it the layers that were made only for other stages."""
        try:
            if self._instance is not None:
                self._instance.close()
        finally:
            self._leases.close()

    def _take(self, layers: tuple[LayerBlob, ...]) -> None:
        if layers != self.layers:
            self._end_entries(has_layer=True)
            self.layers = layers

    def _end_entries(self, *, has_layer: bool) -> None:
        self._history += history_entries(self._entries, has_layer=has_layer)
        self._entries = []

    def _warn_of_root(self) -> None:
        """Docker loses a change of the root itself as well, and says nothing."""
        now = _rights(self._instance) if self._instance is not None else self._rights
        if now != self._rights:
            self.context.tell(
                f"warning: no layer carries the mode and owner of /: {now} is {self._rights} in the image"
            )
            self._rights = now

    def _has_changes(self) -> bool:
        return self._instance is not None and any(self._instance.upper.iterdir())

    def _refuse_reserved(self) -> None:
        names = reserved_names(self.instance.upper)
        if names:
            raise DockerfileFailed(
                f"a layer cannot carry files named `.wh.*`, and the Dockerfile left {', '.join(names)}"
            )


def arguments_of(resolved: ResolvedInstruction) -> Mapping[str, str]:
    """The ARGs that an instruction sees as variables; an ENV of the same name wins."""
    scope = resolved.scope
    values = scope.environment.values
    return {name: values[name] for name in sorted(scope.arguments - scope.fixed) if name in values}


def _rights(instance: ContainerInstance) -> str:
    """Mode and owner of a root, as `0755 0:0`."""
    status, ids = instance.root.stat(), instance.ids
    return f"{stat.S_IMODE(status.st_mode):04o} {ids.inside(status.st_uid)}:{ids.inside(status.st_gid)}"


def _table(root: Root, path: str) -> bytes:
    try:
        return root.read(path, limit=_MOST_TABLE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DockerfileFailed(f"failed: {path} of the image cannot be read: {error.strerror}") from error
