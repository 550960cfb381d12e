"""Builds Dockerfiles of the corpus as imagesmith does for a recipe, and compares the images with buildah's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.plain_images import PlainImage
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.copying.copier import FileCopier
from imagesmith.dockerfile_builds.build import DockerfileBuild
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfiles.template import check_template
from imagesmith.namespaces.build_namespace import BuildNamespace
from testing.dockerfile_oracle import BuildahBuilds, ComparedImage, compared_image, differences
from testing.dockerfile_rows import OracleRow
from testing.oracle_downloads import HOME, served_to, served_to_buildah
from testing.oracle_parents import OracleParents

_SECONDS = 120.0


@dataclass(frozen=True)
class OwnResult:
    """What became of a Dockerfile: an image, or why there is none."""

    image: ComparedImage | None = None
    refused: tuple[str, ...] = ()
    """Codes of the problems for which it is refused before a build."""
    failed: str = ""
    """The error of its build."""

    @property
    def verdict(self) -> str:
        return " ".join(self.refused) or self.failed or "built"


@dataclass(frozen=True)
class OwnBuilds:
    """Builds on one storage, with the parents of the corpus in it."""

    storage: ContainerStorage
    layout: OciLayout
    parents: OracleParents
    _known: dict[str, PlainImage] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, storage: ContainerStorage, parents: OracleParents) -> OwnBuilds:
        return cls(storage, OciLayout(folder), parents)

    def build(self, text: str, parent: Mapping[str, Any]) -> OwnResult:
        """Check a Dockerfile as CreateContainerRecipe does, and build it if nothing is wrong with it."""
        problems = check_template(text, has_components=False)
        refused = tuple(item.code for item in problems if item.severity == "error")
        if refused:
            return OwnResult(refused=refused)
        plain = self._parent(parent)
        build = DockerfileBuild(
            storage=self.storage, text=text, name="oracle", parent=plain.id, triggers=plain.triggers, find=_refuse,
            timeout=_SECONDS, network="none",
        )  # fmt: skip
        try:
            if HOME not in text:
                return OwnResult(self._exported(build.whole()))
            return OwnResult(self._exported(replace(build, make_copier=self._downloading_copier).whole()))
        except DockerfileFailed as error:
            return OwnResult(failed=str(error))

    @contextmanager
    def _downloading_copier(self, namespace: BuildNamespace) -> Iterator[FileCopier]:
        copier = FileCopier(
            "oracle-downloads", disk=self.storage.root, network="outbound", namespace=namespace
        )  # fmt: skip
        with copier, served_to(copier):
            yield copier

    def _parent(self, changes: Mapping[str, Any]) -> PlainImage:
        key = json.dumps(changes, sort_keys=True)
        if key not in self._known:
            artifact = self.layout.import_source(self.storage, self.parents.oci_layout(changes))
            image = self.layout.ensure_in_storage(self.storage, artifact.digest)
            self._known[key] = self.storage.plain_image(image)
        return self._known[key]

    def _exported(self, image: str) -> ComparedImage:
        artifact = self.layout.export_image(self.storage, image)
        if image not in {plain.id for plain in self._known.values()}:
            self.storage.remove_image(image)
        blobs = self.layout.path / "blobs" / "sha256"
        config = json.loads((blobs / artifact.config_digest.removeprefix("sha256:")).read_bytes())
        from_parent = artifact.diff_ids[:1] == (self.parents.diff_id,)
        layers = [
            (blobs / digest.removeprefix("sha256:")).read_bytes()
            for digest in artifact.layers[1 if from_parent else 0 :]
        ]
        return compared_image(config, layers, self.parents.nodes if from_parent else {})


@dataclass(frozen=True)
class DockerfileOracle:
    """Both builders."""

    own: OwnBuilds
    buildah: BuildahBuilds

    def faults(self, row: OracleRow) -> list[str]:
        """What is not as the row says."""
        ours = self.own.build(row.dockerfile, row.parent)
        with served_to_buildah(row.buildah or row.dockerfile) as text:
            theirs = self.buildah.build(text, row.parent)
        if row.refused or row.fails:
            return _faults_of_refusal(row, ours, theirs)
        if ours.image is None:
            return [f"not built: {ours.verdict}"]
        found = [
            f"{name}: {image.get(name, '')!r}, documented {expected!r}"
            for image, documented in ((ours.image.config, row.config), (ours.image.files, row.files))
            for name, expected in documented.items()
            if image.get(name, "") != expected
        ]
        different = ["buildah refuses it"] if theirs is None else differences(ours.image, theirs)
        if not row.docker or row.buildah:
            found += different
        elif not different:
            found.append("buildah agrees now: the row needs no reason")
        return found


def _faults_of_refusal(row: OracleRow, ours: OwnResult, theirs: ComparedImage | None) -> list[str]:
    found = []
    if row.refused and row.refused not in ours.refused:
        found.append(f"not refused as {row.refused}: {ours.verdict}")
    if row.fails and row.fails not in ours.failed:
        found.append(f"no failure with {row.fails!r}: {ours.verdict}")
    if (theirs is None) == bool(row.docker):
        found.append("buildah refuses it" if theirs is None else "buildah builds it")
    return found


def _refuse(name: str) -> str:
    raise AssertionError(f"the build pulled {name}")
