"""Which images a Dockerfile takes things from besides its own stages, and which of them it may name. Pure.

The storage holds the images of everybody's builds under their ids. So a template may name images of registries and
nothing else, and a name that could be an id is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imagesmith.dockerfiles.placeholders import is_parent
from imagesmith.dockerfiles.stages import BaseKind, DockerfileStage, Graph, Taken
from imagesmith.values.diagnostics import Position

_NUMBER = re.compile(r"[0-9]{1,9}")
_ID = re.compile(r"(?:sha256:)?[0-9a-fA-F]+")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_LOCAL_STORES = (
    "containers-storage", "docker-archive", "docker-daemon", "dir", "oci", "oci-archive", "openshift", "ostree",
    "sif", "tarball",
)  # fmt: skip


@dataclass(frozen=True)
class ImageUse:
    """A mention of an image in a Dockerfile; `index` is that of the instruction."""

    index: int
    image: str
    position: Position
    problem: str = ""
    """Why the image may not be named; empty when it may."""
    stage: int = 0
    """The index of its stage."""


def image_uses(graph: Graph) -> Iterator[ImageUse]:
    """Every image outside the Dockerfile that its instructions name, in order; the parent's variable is none."""
    for stage in graph.stages:
        yield from _base_use(stage)
        for taken in stage.taken:
            if taken.stage < 0 and not is_parent(taken.name):
                yield ImageUse(
                    index=taken.resolved.index,
                    image=taken.name,
                    position=taken.token.position,
                    problem=_taken_problem(taken, graph),
                    stage=stage.index,
                )


def _base_use(stage: DockerfileStage) -> Iterator[ImageUse]:
    image = stage.first.image
    found = stage.start.text(image)
    if stage.base.kind is BaseKind.IMAGE and found.certain:
        yield ImageUse(
            index=stage.start.index,
            image=found.text,
            position=image.position,
            problem=_problem(found.text),
            stage=stage.index,
        )


def _taken_problem(taken: Taken, graph: Graph) -> str:
    if _NUMBER.fullmatch(taken.name):
        last = len(graph.stages) - 1
        return f"there is no stage {taken.name}, the last is {last}; else it may be an id or its beginning"
    return _problem(taken.name)


def _problem(image: str) -> str:
    if "$" in image or not image:
        return "it is empty or contains an argument that has no value"
    name = image.removeprefix("docker://")
    if not _REFERENCE.fullmatch(name):
        return "it is not the name of an image"
    if _ID.fullmatch(name):
        return "it may be an id or its beginning; write the image with its registry, like docker.io/library/name"
    if name.partition(":")[0] in _LOCAL_STORES:
        return "it is not in a registry"
    return ""
