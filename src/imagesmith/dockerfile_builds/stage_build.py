"""One stage while its instructions are carried out: its container, its configuration, its history."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from imagesmith.artifacts.rootfs import Root
from imagesmith.dockerfile_builds.build_context import BuildContext
from imagesmith.dockerfile_builds.config_instructions import apply
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.history import HistoryEntry, created_by
from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfile_builds.stage_images import StageImage
from imagesmith.dockerfiles.graph import PlacedInstruction
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.reserved_names import reserved_names
from imagesmith.instances.users import UnknownUser, User, find_user

_MOST_TABLE_BYTES: Final = 1024 * 1024
"""Of /etc/passwd and /etc/group: they are the image's, and read outside of its limits for each RUN."""


class StageBuild:
    """Makes its container when an instruction needs one; close() removes it."""

    def __init__(self, context: BuildContext, start: StageImage, name: str) -> None:
        self.context = context
        self.config: ImageConfig = start.config
        self._start = start
        self._name = name
        self._entries: list[HistoryEntry] = []
        self._instance: ContainerInstance | None = None
        self._rights = ""
        self._image: StageImage | None = None
        self._temporary: list[str] = []

    @property
    def instance(self) -> ContainerInstance:
        """Its container. Raises InstanceError, Cancelled."""
        if self._instance is None:
            self._instance = ContainerInstance.launch(
                self.context.storage, self._start.layers, name=self._name, network=self.context.network,
                limits=self.context.limits, cancellation=self.context.cancellation, variables=(),
            )  # fmt: skip
            self._rights = _rights(self._instance.root)
        return self._instance

    def rest(self) -> None:
        """End what runs in it, and with it the memory and control groups that it holds."""
        if self._instance is not None:
            self._instance.rest()

    def root(self) -> Path:
        """Its root, in which nothing runs. Raises InstanceError, Cancelled."""
        return self.instance.rest()

    def source_root(self) -> Path:
        """Its root for others to copy from. Raises DockerfileFailed for files that no layer can carry."""
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

    def configure(self, placed: PlacedInstruction) -> None:
        """Take in what an instruction says about the configuration."""
        self.config = apply(self.config, placed)

    def note(self, placed: PlacedInstruction, before: ImageConfig, *, writes_files: bool) -> None:
        """Add an instruction to the history."""
        text = created_by(placed, before, arguments_of(placed))
        self._entries.append(HistoryEntry(text, self.context.now(), writes_files))

    def image(self) -> StageImage:
        """What the stage has become; its changes are one layer. Raises InstanceError, Cancelled."""
        if self._image is None:
            self._warn_of_root()
            has_layer = self._has_changes()
            layers = self._start.layers
            if has_layer:
                layers = self._commit()
            start = replace(self._start, layers=layers, config=self.config)
            self._image = start.with_entries(self._entries, has_layer=has_layer)
        return self._image

    def close(self) -> None:
        """Remove the container, and the images that were made only for other stages."""
        try:
            if self._instance is not None:
                self._instance.close()
        finally:
            while self._temporary:
                self.context.storage.remove_image(self._temporary.pop())

    def _warn_of_root(self) -> None:
        """Docker loses a change of the root itself as well, and says nothing."""
        now = _rights(self._instance.root) if self._instance is not None else self._rights
        if now != self._rights:
            self.context.tell(
                f"warning: no layer carries the mode and owner of /: {now} is {self._rights} in the image"
            )

    def _has_changes(self) -> bool:
        if self._instance is None:
            return False
        self.root()
        return any(self.instance.upper.iterdir())

    def _commit(self) -> str:
        self.root()
        self._refuse_reserved()
        image = self.instance.commit_layers()
        self._temporary.append(image)
        return image

    def _refuse_reserved(self) -> None:
        names = reserved_names(self.instance.upper)
        if names:
            raise DockerfileFailed(
                f"a layer cannot carry files named `.wh.*`, and the Dockerfile left {', '.join(names)}"
            )


def arguments_of(placed: PlacedInstruction) -> Mapping[str, str]:
    """The ARGs that an instruction sees as variables; an ENV of the same name wins."""
    scope = placed.scope
    values = scope.environment.values
    return {name: values[name] for name in sorted(scope.arguments - scope.fixed) if name in values}


def _rights(root: Path) -> str:
    """Mode and owner of a folder, as `0755 0:0`."""
    status = root.stat()
    return f"{stat.S_IMODE(status.st_mode):04o} {status.st_uid}:{status.st_gid}"


def _table(root: Root, path: str) -> bytes:
    try:
        return root.read(path, limit=_MOST_TABLE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DockerfileFailed(f"failed: {path} of the image cannot be read: {error.strerror}") from error
