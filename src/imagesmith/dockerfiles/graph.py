"""The stages of a Dockerfile: what each is from, what it takes from others, its variables everywhere. Pure.

ARG V=1                    known to every FROM, and to a stage that declares `ARG V` again
FROM image:$V AS build     a stage; its variables are those of the image, which are not known before a build
FROM build                 has the variables of `build` as they are at its end, ARG and ENV alike
COPY --from=build          a stage by name or number, earlier or later; any other name is an image
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from imagesmith.dockerfiles.model import (
    CopyInstruction,
    Dockerfile,
    FromInstruction,
    Instruction,
    OnbuildInstruction,
    Placeholder,
    RunInstruction,
    Token,
)
from imagesmith.dockerfiles.placeholders import is_parent
from imagesmith.dockerfiles.shell_words import Environment, Expanded
from imagesmith.dockerfiles.stages import (
    SCRATCH,
    Base,
    BaseKind,
    DockerfileStage,
    Graph,
    ResolvedInstruction,
    Taken,
)
from imagesmith.dockerfiles.variables import (
    VariableError,
    VariableScope,
    expand_instruction,
    expand_token,
    global_scope,
)
from imagesmith.values.diagnostics import Problem
from imagesmith.values.expansion import TooLarge

_SCRATCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_DIGITS: Final = 9
_MOST_STAGES: Final = 200
"""Each that is needed has a container and a mount until the end of the build."""


def build_graph(dockerfile: Dockerfile, images: Mapping[str, Mapping[str, str]] | None = None) -> Graph:
    """The stages of a Dockerfile. `images`: variables of the images that are known, by name."""
    builder = _Builder(dockerfile, images or {})
    try:
        builder.run()
    except _Stopped:
        return Graph((), tuple(builder.problems))
    stages = [builder.with_taken(stage) for stage in builder.stages]
    return Graph(tuple(stages), (*builder.problems, *_cycles(stages)))


class _Stopped(Exception):
    """Values grow too far, or there are too many stages: nothing behind can be known."""


class _Builder:
    def __init__(self, dockerfile: Dockerfile, images: Mapping[str, Mapping[str, str]]) -> None:
        self.problems: list[Problem] = []
        self.stages: list[DockerfileStage] = []
        self._images = images
        self._instructions = dockerfile.instructions
        self._scope = global_scope(dockerfile.directives.escape)
        self._global = self._scope
        self._names: dict[str, int] = {}
        self._named: dict[str, list[int]] = {}
        self._ends: list[VariableScope] = []
        self._start: tuple[ResolvedInstruction, Base] | None = None
        self._body: list[ResolvedInstruction] = []
        self._inherited: frozenset[str] = frozenset()

    def run(self) -> None:
        for index, instruction in enumerate(self._instructions):
            if isinstance(instruction, FromInstruction):
                self._end_stage()
                self._begin_stage(index, instruction)
            elif self._start is not None:
                self._body.append(self._resolve(index, instruction))
            elif instruction.name == "ARG":
                self._resolve(index, instruction)
                self._global = self._scope
            else:
                name = f"the variable {instruction.variable}" if isinstance(instruction, Placeholder) else ""
                message = f"{name or instruction.name} comes before the first FROM"
                hint = "" if name else "only ARG can come before it"
                self.problems.append(Problem("before-from", message, instruction.position, hint))
        self._end_stage()

    def _begin_stage(self, index: int, instruction: FromInstruction) -> None:
        if len(self.stages) >= _MOST_STAGES:
            message = f"a Dockerfile has {_MOST_STAGES} stages at most: build some of them as an image of their own"
            self.problems.append(Problem("too-large", message, instruction.position))
            raise _Stopped
        texts: dict[Token, Expanded] = {}
        for token in (instruction.image, instruction.platform):
            if token is not None:
                texts[token] = self._expanded(instruction, token)
        resolved = ResolvedInstruction(instruction, index, texts, self._global)
        base = self._base(resolved.text(instruction.image).text)
        if instruction.stage_name in self._names:
            message = f"the name '{instruction.stage_name[:40]}' is given to two stages"
            position = instruction.stage.position if instruction.stage else instruction.position
            self.problems.append(
                Problem(
                    code="stage-twice",
                    message=message,
                    position=position,
                    hint="COPY takes the last",
                    severity="warning",
                )
            )
        self._start = (resolved, base)
        self._body = []
        if base.kind is BaseKind.STAGE:
            self._scope = self._ends[base.stage]
        elif base.kind is BaseKind.SCRATCH:
            self._scope = self._global.stage(Environment({"PATH": _SCRATCH_PATH}))
        else:
            known = self._images.get(base.name)
            fresh = Environment(is_open=True) if known is None else Environment(dict(known))
            self._scope = self._global.stage(fresh)
        self._inherited = frozenset(self._scope.arguments)

    def _base(self, name: str) -> Base:
        if is_parent(name):
            return Base(BaseKind.PARENT, name)
        if name == SCRATCH and SCRATCH not in self._names:
            return Base(BaseKind.SCRATCH, name)
        stage = self._names.get(name.lower(), -1)
        return Base(BaseKind.STAGE, name, stage) if stage >= 0 else Base(BaseKind.IMAGE, name)

    def _end_stage(self) -> None:
        if self._start is None:
            return
        resolved, base = self._start
        declared = {
            token.name.text for item in self._body for token in getattr(item.instruction, "declarations", ())
        }
        self.stages.append(
            DockerfileStage(
                index=len(self.stages),
                start=resolved,
                base=base,
                body=tuple(self._body),
                taken=(),
                environment=self._scope.environment,
                inherited=self._inherited - declared - self._scope.fixed,
            )
        )
        self._ends.append(self._scope)
        name = self.stages[-1].name
        if name:
            self._names[name] = len(self.stages) - 1
            self._named.setdefault(name, []).append(len(self.stages) - 1)
        self._start = None

    def _resolve(self, index: int, instruction: Instruction) -> ResolvedInstruction:
        before = self._scope
        try:
            self._scope, texts, problems = expand_instruction(before, instruction)
        except TooLarge as error:
            self.problems.append(Problem("too-large", str(error), instruction.position))
            raise _Stopped from error
        self.problems += problems
        return ResolvedInstruction(instruction, index, texts, before)

    def _expanded(self, instruction: Instruction, token: Token) -> Expanded:
        try:
            return expand_token(self._global, instruction, token)
        except VariableError as error:
            self.problems.append(error.problem)
            return Expanded(token.text, False)
        except TooLarge as error:
            self.problems.append(Problem("too-large", str(error), token.position))
            raise _Stopped from error

    def with_taken(self, stage: DockerfileStage) -> DockerfileStage:
        found = tuple(self._taken(stage, resolved, item) for resolved in stage.body for item in _sources(resolved))
        return replace(stage, taken=found)

    def _taken(self, stage: DockerfileStage, resolved: ResolvedInstruction, item: tuple[Token, str, bool]) -> Taken:
        token, name, is_mount = item
        if _is_number(name) and int(name) < len(self.stages):
            return Taken(resolved=resolved, token=token, name=name, stage=int(name), is_mount=is_mount)
        indexes = self._named.get(name.lower(), [-1])
        # when a later stage has the name of one that is there already, that one is meant
        earlier = bisect_left(indexes, stage.index)
        index = indexes[-1] if indexes[-1] <= stage.index or not earlier else indexes[earlier - 1]
        return Taken(resolved=resolved, token=token, name=name, stage=index, is_mount=is_mount)


def _is_number(name: str) -> bool:
    """Whether a name is the number of a stage as it is written: `00` is a name."""
    return name.isascii() and name.isdecimal() and len(name) <= _MOST_DIGITS and name == str(int(name))


def _sources(resolved: ResolvedInstruction) -> Iterator[tuple[Token, str, bool]]:
    """What an instruction takes files from, and whether by a mount; a trigger takes them in another build."""
    instruction = resolved.instruction
    if isinstance(instruction, OnbuildInstruction):
        instruction = instruction.trigger
    if isinstance(instruction, CopyInstruction) and instruction.from_ is not None:
        yield instruction.from_, instruction.from_.text, False
    if isinstance(instruction, RunInstruction):
        for mount in instruction.mounts:
            if mount.image:
                yield mount.token, mount.image, True


def _cycles(stages: Sequence[DockerfileStage]) -> Iterator[Problem]:
    """Stages that need each other; each circle is told once, at what is taken to close it."""
    done: set[int] = set()
    for first in stages:
        path = [] if first.index in done else [(first.index, iter(_edges(first)))]
        takes: list[Taken | None] = [None]
        while path:
            target, taken = next(path[-1][1], (-1, None))
            if target < 0:
                done.add(path.pop()[0])
                takes.pop()
            elif any(target == index for index, _ in path):
                closing = taken or next(item for item in reversed(takes) if item)
                message = f"stage '{closing.name[:40]}' needs this one, so nothing can be taken from it here"
                yield Problem("cycle", message, closing.token.position)
            elif target not in done:
                path.append((target, iter(_edges(stages[target]))))
                takes.append(taken)


def _edges(stage: DockerfileStage) -> Iterator[tuple[int, Taken | None]]:
    if stage.base.stage >= 0:
        yield stage.base.stage, None
    yield from ((item.stage, item) for item in stage.taken if item.stage >= 0)
