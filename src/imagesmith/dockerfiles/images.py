"""Which images a Dockerfile takes things from besides its own stages, and which of them it may name. Pure.

buildah looks an image up in the storage first, by name, by id and by any beginning of an id that is unique there;
the storage holds the images of everybody's builds. So a template may name images of registries and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagesmith.dockerfiles.graph import BaseKind, DockerfileStage, Graph, PlacedInstruction, Taken
from imagesmith.dockerfiles.model import CopyInstruction, Instruction, OnbuildInstruction, RunInstruction
from imagesmith.dockerfiles.placeholders import is_parent
from imagesmith.values.diagnostics import Position

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro", "readwrite": "rw"}
_LOCKS = "buildah-cache-lockfiles"
_NUMBER = re.compile(r"[0-9]{1,9}")
_ID = re.compile(r"(?:sha256:)?[0-9a-fA-F]+")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_LOCAL_STORES = (
    "containers-storage", "docker-archive", "docker-daemon", "dir", "oci", "oci-archive", "openshift", "ostree",
    "sif", "tarball",
)  # fmt: skip


@dataclass(frozen=True)
class ImageUse:
    """One place where a Dockerfile names an image; `index` is that of the instruction."""

    index: int
    image: str
    position: Position
    problem: str = ""
    """Why the image may not be named, or the mount not be made; empty when it may."""
    is_mount: bool = False
    """`image` is the value of a `--mount=`."""


class CacheFolders:
    """Folders of which none lies in another one."""

    def __init__(self) -> None:
        self._children: dict[str, CacheFolders] = {}
        self._is_one = False

    def add(self, path: Sequence[str]) -> bool:
        """Take one in; False when it lies in another one or another one lies in it."""
        node = self
        for name in path:
            if node._is_one:
                return False
            node = node._children.setdefault(name, CacheFolders())
        if node._children:
            return False
        node._is_one = True
        return True


def image_uses(graph: Graph) -> Iterator[ImageUse]:
    """Every image outside the Dockerfile that its instructions name, in order; the parent's variable is none."""
    caches = CacheFolders()
    for stage in graph.stages:
        yield from _base_use(stage)
        taken_by: dict[int, list[Taken]] = {}
        for taken in stage.taken:
            taken_by.setdefault(taken.placed.index, []).append(taken)
        for placed in stage.body:
            run = _run_of(placed)
            for mount in run.mounts if run else ():
                problem = _mount_problem(mount.token.text, caches)
                if problem:
                    yield ImageUse(placed.index, mount.token.text, mount.token.position, problem, is_mount=True)
            for taken in taken_by.get(placed.index, ()):
                if taken.stage < 0 and not is_parent(taken.name):
                    yield ImageUse(placed.index, taken.name, taken.token.position, _taken_problem(taken, graph))


def takes_from_images(trigger: Instruction) -> bool:
    """Whether an ONBUILD trigger of an image names another image, or mounts something."""
    return (isinstance(trigger, CopyInstruction) and trigger.from_ is not None) or (
        isinstance(trigger, RunInstruction) and bool(trigger.mounts)
    )


def _base_use(stage: DockerfileStage) -> Iterator[ImageUse]:
    image = stage.first.image
    found = stage.start.text(image)
    if stage.base.kind is BaseKind.IMAGE and found.certain:
        yield ImageUse(stage.start.index, found.text, image.position, _problem(found.text))


def _run_of(placed: PlacedInstruction) -> RunInstruction | None:
    instruction = placed.instruction
    if isinstance(instruction, OnbuildInstruction):
        instruction = instruction.trigger
    return instruction if isinstance(instruction, RunInstruction) else None


def _mount_problem(mount: str, caches: CacheFolders) -> str:
    """Why a mount may lead to the layers of other builds; `caches`: the folders of the caches so far, one is added.

    It must be certain from the text what a mount takes: the builder resolves paths and variables by itself, later.
    """
    pairs = [(_ALIASES.get(key.strip().lower(), key.strip().lower()), text.strip()) for key, _, text in (
        word.partition("=") for word in mount.split(",")
    )]  # fmt: skip
    members = dict(pairs)
    if any(char in mount for char in "\"'\\"):
        return "a mount cannot contain a quote or an escape character: the builder would read it a second time"
    if len(members) != len(pairs):
        return "a mount cannot have a member twice"
    if "$" in mount:
        return "a mount cannot contain a variable: its value may lead out of the build"
    if any(".." in text.split("/") for text in members.values()):
        return "a mount cannot contain '..', which may lead out of the build"
    if "from" in members and members.get("source", "").strip("/") not in ("", "."):
        return "a mount cannot take a part of a stage or image, which may be a link out of the build; take it whole"
    folder_name = members.get("id") or members.get("target", "")
    if members.get("type") == "cache" and "from" not in members and folder_name:
        if not members.get("id") and not folder_name.startswith("/"):
            return "a cache cannot have a relative target without an id: its folder would depend on WORKDIR"
        folder = [word for word in folder_name.split("/") if word not in ("", ".")]
        if not folder or folder[0] == _LOCKS:
            return "a cache cannot be the folder of all caches or of their locks; use another id"
        if not caches.add(folder):
            return (
                "a cache cannot be inside another cache, which may contain a link out of the build; use another id"
            )
    return ""


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
