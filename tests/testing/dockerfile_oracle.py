"""Builds the corpus of Dockerfiles with Debian's buildah, and says in what two images differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.processes import ProcessFailed
from testing.buildah import Buildah
from testing.image_trees import Nodes, lines_of, with_layers
from testing.oracle_parents import OracleParents

PARENT = "{{{ imagebuilder:parentImage }}}"
_OF_THE_RUN = ("/dev", "/proc", "/sys", "/run", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
"""What buildah's RUN leaves of its mounts. The parent of the corpus has none of these."""
_MEMBERS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
    "Healthcheck", "Shell", "OnBuild",
)  # fmt: skip


@dataclass(frozen=True)
class ComparedImage:
    """What two images are compared by: members of their config, and a line for each path."""

    config: Mapping[str, Any]
    files: Mapping[str, str]


def compared_image(config: Mapping[str, Any], layers: list[bytes], below: Nodes) -> ComparedImage:
    """An image out of its config and of its layers over those of the parent."""
    return ComparedImage(_compared_config(config), lines_of(with_layers(layers, below)))


def _compared_config(image: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a config that say something: no zeros, no defaults, variables as a mapping."""
    found = {name: image.get("config", {}).get(name) for name in _MEMBERS}
    found["Env"] = dict(item.split("=", 1) for item in found["Env"] or ())
    found["Healthcheck"] = {key: value for key, value in (found["Healthcheck"] or {}).items() if value}
    found |= {name: image.get(name) for name in ("author", "architecture", "os")}
    if found["WorkingDir"] == "/":
        found["WorkingDir"] = ""
    return {name: value for name, value in found.items() if value}


def differences(ours: ComparedImage, theirs: ComparedImage) -> list[str]:
    """What is different: members of the config and paths, with both values."""
    return [
        *_different(ours.config, theirs.config),
        *_different(ours.files, {
            path: line for path, line in theirs.files.items() if path not in _OF_THE_RUN or path in ours.files
        }),
    ]  # fmt: skip


def _different(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {ours.get(name, '')!r}, buildah {theirs.get(name, '')!r}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


class BuildahBuilds:
    """Builds of Debian's buildah, with the parents of the corpus in its storage."""

    def __init__(self, buildah: Buildah, folder: Path, parents: OracleParents) -> None:
        """`folder` is for files outside the storage."""
        self._buildah = buildah
        self._folder = folder
        self._parents = parents
        self._named: dict[str, str] = {}
        self._parent_ids: set[str] = set()
        (folder / "context").mkdir(parents=True)

    def build(self, text: str, parent: Mapping[str, Any]) -> ComparedImage | None:
        """The image that a Dockerfile makes; None when it is refused or fails."""
        file, written = self._folder / "Dockerfile", self._folder / "id"
        file.write_bytes(text.replace(PARENT, self._name_of(parent)).encode())
        if not self._succeeds(
            "buildah", "bud", "--isolation=chroot", "--layers=false", "--pull-never", "--format=docker",
            "--identity-label=false", f"--iidfile={written}", f"--file={file}", str(self._folder / "context"),
        ):  # fmt: skip
            return None
        image = written.read_text().strip().removeprefix("sha256:")
        place = self._folder / "image"
        try:
            if not self._succeeds("buildah", "push", "--quiet", "--disable-compression", image, f"dir:{place}"):
                return None
            return self._read(place)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            if image not in self._parent_ids:
                # a later Dockerfile must not find an image by the beginning of its id; `buildah rmi` would also
                # remove the unnamed images that this one was built from
                self._succeeds("skopeo", "delete", f"containers-storage:@{image}")

    def _read(self, folder: Path) -> ComparedImage:
        def blob(entry: Mapping[str, str]) -> bytes:
            return (folder / entry["digest"].removeprefix("sha256:")).read_bytes()

        manifest = json.loads((folder / "manifest.json").read_bytes())
        config = json.loads(blob(manifest["config"]))
        from_parent = config["rootfs"]["diff_ids"][:1] == [self._parents.diff_id]
        layers = [blob(entry) for entry in manifest["layers"][1 if from_parent else 0 :]]
        return compared_image(config, layers, self._parents.nodes if from_parent else {})

    def _name_of(self, parent: Mapping[str, Any]) -> str:
        key = json.dumps(parent, sort_keys=True)
        if key not in self._named:
            name = f"localhost/parent:{len(self._named)}"
            folder, image = self._parents.docker_folder(parent)
            self._buildah.run("buildah", "pull", "--quiet", f"dir:{folder}")
            self._buildah.run("buildah", "tag", image, name)
            self._named[key] = name
            self._parent_ids.add(image)
        return self._named[key]

    def _succeeds(self, *argv: str) -> bool:
        try:
            self._buildah.run(*argv)
        except ProcessFailed:
            return False
        return True
