"""Builds Dockerfiles on the tiny image, and looks into what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.dockerfile_builds.build import DockerfileBuild
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.instances.limits import leftover_groups

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PARENT = "{{{ imagebuilder:parentImage }}}"


def refuse_images(name: str) -> str:
    """There is no registry."""
    raise DockerfileFailed(f"the image {name} cannot be pulled")


@dataclass
class DockerfileBench:
    """Builds on one storage; `FROM {{{ imagebuilder:parentImage }}}` stands for its parent."""

    storage: ContainerStorage
    parent: str
    name: str = "test-dockerfile"
    images: dict[str, str] = field(default_factory=dict)
    """Images of registries by name, as ids of the storage."""
    output: str = ""
    """Everything that the last build printed."""

    def make(self, text: str, **options: Any) -> DockerfileBuild:
        """A build of a whole text."""
        chunks: list[bytes] = []

        def receive(_stream: str, chunk: bytes) -> None:
            chunks.append(chunk)
            self.output = b"".join(chunks).decode(errors="replace")

        self.output = ""
        settings: dict[str, Any] = {"timeout": 60, "network": "none", "find": self.find, **options}
        return DockerfileBuild(
            storage=self.storage, text=text, name=self.name, parent=self.parent, on_output=receive, **settings
        )

    def find(self, name: str) -> str:
        return self.images[name] if name in self.images else refuse_images(name)

    def build(self, lines: str, **options: Any) -> str:
        """Build lines on the parent; returns the image's id."""
        return self.make(f"FROM {PARENT}\n{lines}\n", **options).whole()

    def config(self, image: str) -> dict[str, Any]:
        """What containers of an image start with, but for the PATH that every built image has."""
        document: Any = self.storage.image_config(image)
        found = dict(document.get("config") or {})
        variables = [item for item in found.pop("Env", ()) if item != PATH]
        return {**found, "Env": variables} if variables else found

    @contextmanager
    def root(self, image: str) -> Iterator[Root]:
        self.storage.create("look", image)
        try:
            with Root(self.storage.mount("look")) as root:
                yield root
        finally:
            self.storage.remove("look")

    def read(self, image: str, path: str) -> str:
        with self.root(image) as root:
            return root.read(path).decode()

    def left(self) -> list[str]:
        """Containers, mounts, groups and folders that builds left behind."""
        groups = [str(path) for path in leftover_groups(f"{self.storage.key}-{self.name}")]
        return [
            *self.storage.containers(), *self.storage.mounted(), *groups,
            *map(str, (self.storage.root / "tmp").iterdir()),
        ]  # fmt: skip
