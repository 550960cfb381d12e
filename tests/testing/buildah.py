"""Debian's buildah with a storage of its own: an oracle, and a maker of images in docker's format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.storage import ContainerStorage
from testing.containers import exported


class Buildah:
    """Make one with opened_buildah()."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        configuration = folder / "storage.conf"
        configuration.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
            '[storage.options.overlay]\nskip_mount_home = "true"\n'
        )
        (folder / "tmp").mkdir()
        self.environment = processes.host_environment(
            {
                "HOME": str(folder), "TMPDIR": str(folder / "tmp"), "CONTAINERS_STORAGE_CONF": str(configuration),
            }
        )  # fmt: skip

    def run(self, *argv: str) -> str:
        """What buildah or skopeo prints. Raises ProcessFailed."""
        return processes.check(argv, what=argv[0], env=self.environment, timeout=600).stdout.decode().strip()

    def take(self, storage: ContainerStorage, image: str) -> str:
        """Bring an image of a storage here; returns its id."""
        source = exported(storage, image, self.folder / "taken" / image)
        return self.run("buildah", "pull", "--quiet", source).splitlines()[-1].removeprefix("sha256:")

    def docker_image(self, storage: ContainerStorage, image: str, options: Sequence[str]) -> str:
        """An image on another one, in docker's format; `options` are those of `buildah config`. Returns a source of
        skopeo for run()."""
        name = self.run("buildah", "from", "--pull-never", self.take(storage, image))
        if options:
            self.run("buildah", "config", *options, name)
        made = self.run("buildah", "commit", "--quiet", "--format=docker", name)
        self.run("buildah", "rm", name)
        return f"containers-storage:@{made.removeprefix('sha256:')}"

    def to_storage(self, source: str, storage: ContainerStorage) -> str:
        """Bring an image of here into a storage, with the bytes of its configuration; returns its id."""
        name = source.rpartition("@")[2]
        self.run("skopeo", "copy", "--quiet", source, f"dir:{self.folder}/{name}")
        return adopt_folder(storage, self.folder / name)


@contextmanager
def opened_buildah(folder: Path) -> Iterator[Buildah]:
    folder.mkdir(parents=True, exist_ok=True)
    made = Buildah(folder)
    try:
        yield made
    finally:
        made.run("buildah", "rm", "--all")


def adopt_folder(storage: ContainerStorage, folder: Path) -> str:
    """Bring an image that skopeo wrote as `dir:` into a storage; returns its id."""
    from imagesmith.artifacts.pulled_images import image_in

    return image_in(folder, storage, "an image")
