"""What Docker's language has and the builder of today lacks, in one table: refused by name, not built wrongly.

buildah 1.28 fails at these in the middle of a build, or takes them for something else without a word. This module
goes when the instructions are carried out by imagesmith itself. Pure.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Set
from typing import Final

from imagesmith.dockerfiles.go_values import port_problem
from imagesmith.dockerfiles.graph import BaseKind, Graph, PlacedInstruction
from imagesmith.dockerfiles.model import (
    AddInstruction,
    ArgInstruction,
    CmdInstruction,
    CopyInstruction,
    Dockerfile,
    EntrypointInstruction,
    ExposeInstruction,
    FilesInstruction,
    FromInstruction,
    HealthcheckInstruction,
    Heredoc,
    Instruction,
    OnbuildInstruction,
    Placeholder,
    RunInstruction,
    ShellInstruction,
)
from imagesmith.dockerfiles.sources import is_git
from imagesmith.dockerfiles.value_checks import SYMBOLIC
from imagesmith.dockerfiles.words import NotStrings, Word, json_words, split_command
from imagesmith.values.diagnostics import Position, Problem

Finder = Callable[[Dockerfile, Graph], Iterator[Position]]
_REFERENCE: Final = re.compile(r"\$\{?([A-Za-z0-9_]+)")
_SHELL_TEXT: Final = ("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK", "ONBUILD")
_KNOWN_MODIFIERS: Final = frozenset({":-", ":+"})
_LETTERS_OF_TYPE: Final = re.compile(r"(?:^|,)type=[a-z]*[A-Z]|(?:^|,)[a-z]*[A-Z][A-Za-z]*=")
_PLAIN_PORT: Final = re.compile(r"[0-9]+(?:/[a-z]+)?\Z")
_NEW_FLAGS: Final = frozenset({
    "link", "parents", "exclude", "checksum", "keep-git-dir", "unpack", "network", "security", "device",
    "start-interval",
})  # fmt: skip


def reading_problems(dockerfile: Dockerfile, graph: Graph) -> Iterator[Problem]:
    """Places that the builder would read as other instructions, or as other images, than they are."""
    yield from _problems(_READ_OTHERWISE, dockerfile, graph)


def builder_problems(dockerfile: Dockerfile, graph: Graph) -> Iterator[Problem]:
    """Everything that the builder cannot honour."""
    yield from _problems((*_READ_OTHERWISE, *_LACKING), dockerfile, graph)


def _heredocs(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    for instruction in map(_inner, dockerfile.instructions):
        found: tuple[Heredoc, ...] = ()
        if isinstance(instruction, RunInstruction):
            found = instruction.command.heredocs
        elif isinstance(instruction, FilesInstruction):
            found = instruction.heredocs
        yield from (item.word.position for item in found[:1])


def _escaped_ends(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    """Lines that end in an escaped escape character: they go on for the builder, and do not for Docker."""
    escape = dockerfile.directives.escape
    for instruction in dockerfile.instructions:
        last = instruction.source.line.physical[-1]
        text = last.text.rstrip(" \t")
        if text.endswith(2 * escape) or (escape != "\\" and text.endswith("\\")):
            yield Position(last.number, len(text))


def _other_escapes(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    """The builder knows `# escape=` only for the ends of lines."""
    if dockerfile.directives.escape == "\\":
        return
    for instruction in dockerfile.instructions:
        for index, char in enumerate(instruction.source.line.text):
            if char in "\\`" and instruction.name not in _SHELL_TEXT:
                yield instruction.source.line.at(index)
                break


def _json_tails(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    for instruction in map(_inner, dockerfile.instructions):
        rest = instruction.source.command.rest
        if isinstance(instruction, HealthcheckInstruction):
            rest = split_command(instruction.source.line.text, rest.offset).rest
        if not isinstance(instruction, Placeholder) and _has_tail(rest):
            yield instruction.source.line.at(rest.offset)


def _has_tail(rest: Word) -> bool:
    if not rest.text.startswith("["):
        return False
    try:
        if json_words(rest) is not None:
            return False
        found, _ = json.JSONDecoder().raw_decode(rest.text)
    except (NotStrings, ValueError, RecursionError):
        return False
    return isinstance(found, list)


def _later_stages(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    for stage in graph.stages:
        yield from (item.token.position for item in stage.taken if item.stage > stage.index)


def _names_given_twice(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    """Uses of a stage's name that two stages have: the builder takes the first."""
    count = Counter(stage.name for stage in graph.stages if stage.name)
    for stage in graph.stages:
        if stage.base.kind is BaseKind.STAGE and count[stage.base.name.lower()] > 1:
            yield stage.first.image.position
        yield from (item.token.position for item in stage.taken if count[item.name.lower()] > 1)


def _names_in_other_case(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    for stage in graph.stages:
        used = [(stage.base.name, stage.base.stage, stage.first.image.position)]
        used += [(item.name, item.stage, item.token.position) for item in stage.taken if not item.name.isdecimal()]
        for name, index, place in used:
            given = graph.stages[index].first.stage if index >= 0 else None
            if given is not None and given.text != name:
                yield place


def _triggers_of_stages(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    """The builder does not count what a trigger takes, and leaves out stages that nothing else needs."""
    for stage in graph.stages:
        for taken in stage.taken:
            if taken.stage >= 0 and isinstance(taken.placed.instruction, OnbuildInstruction):
                yield taken.token.position


def _locks_of_triggers(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    """The locks of other RUN lines are left out before the build; those of a trigger are in the image."""
    for instruction in dockerfile.instructions:
        trigger = instruction.trigger if isinstance(instruction, OnbuildInstruction) else None
        for mount in trigger.mounts if isinstance(trigger, RunInstruction) else ():
            if mount.sharing == "locked":
                yield mount.token.position


def _flags_with_from(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    """The builder searches every flag of a COPY for `--from`."""
    for instruction in map(_inner, dockerfile.instructions):
        if isinstance(instruction, CopyInstruction):
            for flag in instruction.source.command.flags:
                if "--from" in flag.text[2:]:
                    yield instruction.source.line.at(flag.offset)


def _arguments_in_line(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    """An ARG before FROM that takes one to its left in the same line."""
    for instruction in dockerfile.instructions:
        if isinstance(instruction, FromInstruction):
            return
        if isinstance(instruction, ArgInstruction):
            names: set[str] = set()
            for item in instruction.declarations:
                if item.default is not None and _reference_to(names, item.default.text):
                    yield item.default.position
                names.add(item.name.text)


def _child_arguments(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    """The builder does not pass the ARGs of a stage on to stages that are from it."""
    for stage in graph.stages:
        if not stage.inherited:
            continue
        for placed in stage.body:
            found = _reference_to(stage.inherited, placed.instruction.source.line.text)
            if found:
                yield placed.instruction.source.line.at(found.start())


def _reference_to(names: Set[str], text: str) -> re.Match[str] | None:
    """The first reference of a text to one of the variables. One pattern of all names would be quadratic."""
    return next((found for found in _REFERENCE.finditer(text) if found[1] in names), None)


def _modifiers(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    for placed in _placed(graph):
        for token, found in placed.texts.items():
            if found.modifiers - _KNOWN_MODIFIERS:
                yield token.position


def _new_flags(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    for instruction in map(_inner, dockerfile.instructions):
        for flag in instruction.source.command.flags:
            if flag.text[2:].partition("=")[0] in _NEW_FLAGS:
                yield instruction.source.line.at(flag.offset)


def _numbered_mounts(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    """A mount from a stage by its number: the builder takes the number for the name of an image."""
    for stage in graph.stages:
        yield from (item.token.position for item in stage.taken if item.is_mount and item.name.isdecimal())


def _mount_members(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    for instruction in map(_inner, dockerfile.instructions):
        for mount in instruction.mounts if isinstance(instruction, RunInstruction) else ():
            lacking = not mount.target or mount.size or mount.sharing == "private"
            if mount.kind and (lacking or _LETTERS_OF_TYPE.search(mount.token.text)):
                yield mount.token.position


def _symbolic_modes(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    for placed in _placed(graph):
        instruction = _inner(placed.instruction)
        if isinstance(instruction, FilesInstruction) and instruction.chmod is not None:
            mode = placed.text(instruction.chmod)
            if mode.certain and SYMBOLIC.match(mode.text):
                yield instruction.chmod.position


def _repositories(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    for placed in _placed(graph):
        if isinstance(placed.instruction, AddInstruction):
            yield from (item.position for item in placed.instruction.sources if is_git(placed.text(item).text))


def _ports(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    for placed in _placed(graph):
        if isinstance(placed.instruction, ExposeInstruction):
            for token in placed.instruction.ports:
                found = placed.text(token)
                if found.certain and any(
                    not (_PLAIN_PORT.match(port) or port_problem(port)) for port in found.words
                ):
                    yield token.position


def _health_checks(dockerfile: Dockerfile, _graph: Graph) -> Iterator[Position]:
    """Zeros, which stand for the default."""
    for instruction in map(_inner, dockerfile.instructions):
        if isinstance(instruction, HealthcheckInstruction) and instruction.command is not None:
            for flag in instruction.source.command.flags:
                name, _, value = flag.text.partition("=")
                if value in ("", "0", "+0", "-0", "0s") and name[2:] not in _NEW_FLAGS:
                    yield instruction.source.line.at(flag.offset)


def _shell_commands(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    """The builder starts CMD and ENTRYPOINT with /bin/sh whatever SHELL says."""
    shells: dict[int, bool] = {}
    for stage in graph.stages:
        has_shell = shells.get(stage.base.stage, False)
        for placed in stage.body:
            instruction = placed.instruction
            if isinstance(instruction, ShellInstruction):
                has_shell = [item.text for item in instruction.words] != ["/bin/sh", "-c"]
            elif (
                isinstance(instruction, (CmdInstruction, EntrypointInstruction))
                and has_shell
                and not instruction.command.is_exec
            ):
                yield instruction.position
        shells[stage.index] = has_shell


def _platforms(_dockerfile: Dockerfile, graph: Graph) -> Iterator[Position]:
    for stage in graph.stages:
        token = stage.first.platform
        if token is not None and stage.start.text(token).certain and "/" not in stage.start.text(token).text:
            yield token.position


_READ_OTHERWISE: Final[tuple[tuple[str, str, str, Finder], ...]] = (
    ("heredoc", "here-documents are not supported", "use RUN with && or a component", _heredocs),
    ("escape", "a line cannot end in two escape characters", "put a blank and a quote behind", _escaped_ends),
    ("json-tail", "text behind an array of JSON is not supported", "write a command without brackets", _json_tails),
    ("mount-number", "a mount from a stage by its number is not supported", "name the stage", _numbered_mounts),
    ("later-stage", "a stage that comes later cannot be used", "move it to the front", _later_stages),
    ("stage-twice", "this name is given to two stages", "give each stage a name of its own", _names_given_twice),
    (
        "stage-case",
        "the name of the stage is written in other letters there",
        "write it alike",
        _names_in_other_case,
    ),
    ("onbuild-stage", "a trigger cannot take from a stage of this file", "name an image", _triggers_of_stages),
    ("mount-member", "a trigger cannot lock a cache", "leave sharing=locked out", _locks_of_triggers),
    ("flag", "a flag of COPY cannot hold '--from' in its value", "", _flags_with_from),
)
_LACKING: Final[tuple[tuple[str, str, str, Finder], ...]] = (
    ("escape", "with '# escape=`' this cannot hold \\ or `", "leave the directive out", _other_escapes),
    ("modifier", "of the modifiers of variables only ${a:-b} and ${a:+b} are supported", "", _modifiers),
    ("flag", "this flag is not supported", "leave it out", _new_flags),
    ("mount-member", "this mount is not supported",
     "it needs a target and small letters, without size= and sharing=private", _mount_members),
    ("mode", "modes in letters are not supported", "write it like 0755", _symbolic_modes),
    ("git", "ADD of a git repository is not supported", "clone it in a RUN or a component", _repositories),
    ("port", "only single ports are supported", "write each like 80 or 80/udp", _ports),
    ("health", "a zero is not supported here", "leave the flag out: its default holds", _health_checks),
    ("child-argument", "the ARG of another stage is not known here", "repeat the ARG", _child_arguments),
    ("argument", "an ARG to its left in the line is not known here", "put it on a line before", _arguments_in_line),
    ("shell", "after SHELL a command as text is not supported", "write it as an array of JSON", _shell_commands),
    ("platform", "a platform is written with its architecture", "write it like linux/amd64", _platforms),
)  # fmt: skip


def _problems(
    table: tuple[tuple[str, str, str, Finder], ...], dockerfile: Dockerfile, graph: Graph
) -> Iterator[Problem]:
    for code, message, hint, find in table:
        yield from (Problem(code, message, place, hint) for place in find(dockerfile, graph))


def _placed(graph: Graph) -> Iterator[PlacedInstruction]:
    for stage in graph.stages:
        yield stage.start
        yield from stage.body


def _inner(instruction: Instruction) -> Instruction:
    return instruction.trigger if isinstance(instruction, OnbuildInstruction) else instruction
