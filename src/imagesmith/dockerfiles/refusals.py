"""What a Dockerfile may say and a template cannot mean: there is no build context, and no host to reach. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imagesmith.dockerfiles.go_values import is_platform, normal_platform
from imagesmith.dockerfiles.model import (
    AddInstruction,
    CopyInstruction,
    Dockerfile,
    OnbuildInstruction,
    RunInstruction,
    RunMount,
)
from imagesmith.dockerfiles.sources import is_git, is_remote
from imagesmith.dockerfiles.stages import BaseKind, DockerfileStage, Graph, ResolvedInstruction
from imagesmith.dockerfiles.variables import PLATFORM
from imagesmith.values.diagnostics import Position, Problem

NO_CONTEXT: Final = "no-context"
"""The code of a use of local files."""
_NO_CONTEXT: Final = "a template has no build context, so there are no local files"
_FETCH: Final = "copy from a stage or image, ADD a URL, or use a component"
_OFFICIAL: Final = ("docker/dockerfile", "docker.io/docker/dockerfile")


def template_refusals(dockerfile: Dockerfile, graph: Graph) -> Iterator[Problem]:
    """Everything in a Dockerfile that is refused in a template by name."""
    syntax = dockerfile.directives.syntax.split(" ")[0]
    if syntax and not syntax.startswith(_OFFICIAL):
        message = f"the front end '{syntax[:80]}' cannot be used: templates are written in Docker's own language"
        yield Problem("syntax", message, dockerfile.directives.syntax_position)
    for stage in graph.stages:
        yield from _of_platform(stage)
        for resolved in stage.body:
            instruction = resolved.instruction
            if isinstance(instruction, OnbuildInstruction):
                continue  # it runs in another build, which may have what this one lacks
            if isinstance(instruction, RunInstruction):
                yield from _of_run(instruction)
            elif isinstance(instruction, (CopyInstruction, AddInstruction)):
                yield from _of_files(resolved, instruction)


def _of_platform(stage: DockerfileStage) -> Iterator[Problem]:
    """Programs of another platform cannot run here; `scratch` has none, and may become an image of Linux."""
    token = stage.first.platform
    found = stage.start.text(token) if token else None
    if token is None or found is None or not found.certain or not is_platform(found.text):
        return
    platform = normal_platform(found.text)
    has_no_program = stage.base.kind is BaseKind.SCRATCH and platform.startswith("linux/")
    if platform != PLATFORM["TARGETPLATFORM"] and not has_no_program and stage.base.kind is not BaseKind.STAGE:
        message = f"programs of the platform '{found.text[:40]}' cannot run here"
        yield _refused("platform", message, token.position, f"this builder is {PLATFORM['TARGETPLATFORM']}")


def _of_run(run: RunInstruction) -> Iterator[Problem]:
    if run.network is not None and run.network.text == "host":
        yield _refused("network", "a RUN cannot use the network of the host", run.network.position)
    if run.security is not None and run.security.text == "insecure":
        yield _refused("security", "a RUN cannot have more rights than its container", run.security.position)
    for device in run.devices:
        yield _refused("device", "a RUN cannot use devices of the host", device.position)
    for mount in run.mounts:
        yield from _of_mount(mount)


def _of_mount(mount: RunMount) -> Iterator[Problem]:
    position = mount.token.position
    if mount.kind == "ssh":
        yield _refused("ssh", "a template has no agent for SSH", position)
    elif mount.kind == "secret":
        hint = "read it in a component, from a stored parameter"
        yield _refused("secret", "a template has no source of secrets", position, hint)
    elif mount.kind == "bind" and not mount.image and ".." not in mount.source.split("/"):
        hint = "mount a stage or image with from="
        yield _refused(NO_CONTEXT, _NO_CONTEXT, position, hint)


def _of_files(resolved: ResolvedInstruction, instruction: CopyInstruction | AddInstruction) -> Iterator[Problem]:
    if isinstance(instruction, CopyInstruction) and instruction.from_ is not None:
        return
    for token in instruction.sources:
        source = resolved.text(token)
        remote = isinstance(instruction, AddInstruction) and is_remote(source.text)
        # a variable of the parent, unknown here, may be the beginning of a URL
        begins_unknown = not source.certain and (
            source.text.startswith("$")
            or (isinstance(instruction, AddInstruction) and token.text.lstrip("\"'").startswith("$"))
        )
        if isinstance(instruction, AddInstruction) and is_git(source.text):
            yield _refused("git", "ADD of a git repository is not supported", token.position, "clone it in a RUN")
            return
        if not remote and not begins_unknown and source.text:
            hint = _FETCH
            if isinstance(instruction, CopyInstruction) and (is_remote(source.text) or is_git(source.text)):
                hint = "only ADD downloads"
            yield _refused(NO_CONTEXT, f"{_NO_CONTEXT}: '{source.text[:80]}'", token.position, hint)
            return


def _refused(code: str, message: str, position: Position, hint: str = "") -> Problem:
    return Problem(code, message, position, hint)
