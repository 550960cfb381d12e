"""What is wrong with the values of instructions when variables are replaced, as far as they are known. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from imagesmith.dockerfiles.go_values import is_platform, is_signal, port_problem
from imagesmith.dockerfiles.model import (
    AddInstruction,
    ArgInstruction,
    CmdInstruction,
    CopyInstruction,
    EntrypointInstruction,
    EnvInstruction,
    ExposeInstruction,
    FilesInstruction,
    Instruction,
    OnbuildInstruction,
    StopsignalInstruction,
    Token,
    VolumeInstruction,
    WorkdirInstruction,
)
from imagesmith.dockerfiles.ports import port_count
from imagesmith.dockerfiles.sources import is_git, is_remote
from imagesmith.dockerfiles.stages import DockerfileStage, Graph, ResolvedInstruction
from imagesmith.values.diagnostics import Problem

_OCTAL: Final = re.compile(r"0*[0-7]{1,4}\Z")
_SYMBOLIC: Final = re.compile(r"[ugoa]*[-+=](?:[rwxXst]*|[ugo])(?:,[ugoa]*[-+=](?:[rwxXst]*|[ugo]))*\Z")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}\Z")
_RESERVED_WORD: Final = re.compile(r"""(?:^|[\s"'/,\[])\.wh\.""")
_RESERVED: Final = re.compile(r"(?:^|/)\.wh\.")
_MOST_PORTS: Final = 70_000
_NO_LAYER: Final = "a layer cannot carry files named `.wh.*`"


def check_values(graph: Graph) -> Iterator[Problem]:
    """Every value of every stage that cannot be."""
    hidden = _hidden_name(graph)
    yield from _check_number_of_ports(graph)
    for stage in graph.stages:
        yield from _check_platform(stage)
        yield from _check_repeated(stage)
        for resolved in stage.body:
            yield from _check_resolved(resolved)
            yield from _check_reserved(resolved, hidden)


def _check_number_of_ports(graph: Graph) -> Iterator[Problem]:
    """Each port is a member of the image: a few ranges would be a million."""
    count = 0
    for stage in graph.stages:
        for resolved in stage.body:
            for token in getattr(resolved.instruction, "ports", ()):
                words = resolved.words(token) if resolved.text(token).certain else ()
                count += sum(port_count(word) for word in words if not port_problem(word))
                if count > _MOST_PORTS:
                    yield Problem("port", f"more than {_MOST_PORTS} ports are exposed", token.position)
                    return


def _check_resolved(resolved: ResolvedInstruction) -> Iterator[Problem]:
    instruction = resolved.instruction
    if isinstance(instruction, ExposeInstruction):
        for token in instruction.ports:
            found = resolved.text(token)
            for port in resolved.words(token) if found.certain else ():
                reason = port_problem(port)
                if reason:
                    yield Problem("port", f"'{port[:40]}' cannot be exposed: {reason}", token.position)
    elif isinstance(instruction, StopsignalInstruction):
        signal = resolved.text(instruction.signal)
        if signal.certain and not is_signal(signal.text):
            message = f"'{signal.text[:40]}' is not a signal"
            yield Problem("signal", message, instruction.signal.position, hint="write its name, like SIGTERM")
    elif isinstance(instruction, VolumeInstruction):
        for token in instruction.paths:
            path = resolved.text(token)
            if path.certain and not path.text:
                yield Problem("empty", "the path of a VOLUME is empty", token.position)
    elif isinstance(instruction, FilesInstruction):
        yield from _check_files(resolved, instruction)


def _check_files(resolved: ResolvedInstruction, instruction: FilesInstruction) -> Iterator[Problem]:
    if instruction.chmod is not None:
        mode = resolved.text(instruction.chmod)
        if mode.certain and not _OCTAL.match(mode.text) and not _SYMBOLIC.match(mode.text):
            message = f"'{mode.text[:40]}' is not a mode of a file"
            yield Problem("mode", message, instruction.chmod.position, hint="write it like 0755")
    target = resolved.text(instruction.destination)
    count = len(instruction.sources) + len(instruction.heredocs)
    if count > 1 and target.certain and not target.text.endswith(("/", "/.")) and target.text != ".":
        message = f"{count} sources need a folder as destination"
        hint = "end it with a slash"
        yield Problem("destination", message, instruction.destination.position, hint=hint)
    if isinstance(instruction, AddInstruction) and instruction.checksum is not None:
        yield from _check_checksum(resolved, instruction, instruction.checksum)


def _check_checksum(resolved: ResolvedInstruction, added: AddInstruction, checksum: Token) -> Iterator[Problem]:
    found = resolved.text(checksum)
    sources = [resolved.text(token) for token in added.sources]
    reason = ""
    if found.certain and not _DIGEST.match(found.text) and not _COMMIT.match(found.text):
        reason = f"'{found.text[:80]}' is not a checksum; write sha256: and 64 digits"
    elif len(sources) != 1 or added.heredocs:
        reason = "a checksum is of one source"
    elif sources[0].certain and not is_remote(sources[0].text) and not is_git(sources[0].text):
        reason = "a checksum is of a source with an address, like https://..."
    if reason:
        yield Problem("checksum", reason, checksum.position)


def _check_platform(stage: DockerfileStage) -> Iterator[Problem]:
    token = stage.first.platform
    if token is None or "$" not in token.text:
        return  # without a variable the parser has looked at it
    found = stage.start.text(token)
    if found.certain and not is_platform(found.text):
        yield Problem("platform", f"'{found.text[:40]}' is not a platform", token.position)


def _check_repeated(stage: DockerfileStage) -> Iterator[Problem]:
    """Only the last CMD and ENTRYPOINT of a stage count; Docker warns of the others."""
    for kind in (CmdInstruction, EntrypointInstruction):
        found = [resolved.instruction for resolved in stage.body if isinstance(resolved.instruction, kind)]
        for instruction in found[:-1]:
            message = f"this {instruction.name} has no effect: line {found[-1].position.line} replaces it"
            yield Problem("no-effect", message, instruction.position, severity="warning")


def _hidden_name(graph: Graph) -> int:
    """The line of a variable that may hold a reserved name, of whichever stage; 0 when there is none."""
    for stage in graph.stages:
        for resolved in stage.body:
            if (
                isinstance(resolved.instruction, (ArgInstruction, EnvInstruction))
                and ".wh" in resolved.instruction.source.line.text
            ):
                return resolved.instruction.position.line
    return 0


def _check_reserved(resolved: ResolvedInstruction, hidden: int) -> Iterator[Problem]:
    """Instructions that make a file of a reserved name, as it is written or out of a variable."""
    instruction: Instruction = resolved.instruction
    if isinstance(instruction, OnbuildInstruction):
        instruction = instruction.trigger
    if not isinstance(instruction, (AddInstruction, CopyInstruction, WorkdirInstruction)):
        return
    tokens = (instruction.path,) if isinstance(instruction, WorkdirInstruction) else _paths(instruction)
    texts = [resolved.text(token) for token in tokens]
    if _RESERVED_WORD.search(instruction.source.line.text) or any(_RESERVED.search(item.text) for item in texts):
        yield Problem("reserved-name", _NO_LAYER, instruction.position)
    elif hidden and not all(item.certain for item in texts):
        message = f"{_NO_LAYER}, and a variable of line {hidden} contains such a name"
        yield Problem("reserved-name", message, instruction.position)


def _paths(instruction: FilesInstruction) -> tuple[Token, ...]:
    return (*instruction.sources, instruction.destination)
