"""Which variables an instruction may name, and its tokens with them replaced, within one budget for a file. Pure.

ARG before FROM    seen by every FROM; a stage sees its value only after `ARG name`
ARG in a stage     seen from there on, in stages that are from it too; an ENV of that name wins
ENV                seen from the next instruction on: `ENV A=2 B=$A` takes the A from before
platform           TARGETARCH and its like are known before FROM, and in a stage after `ARG TARGETARCH`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from imagesmith.dockerfiles.model import (
    AddInstruction,
    ArgInstruction,
    EnvInstruction,
    ExposeInstruction,
    FilesInstruction,
    Instruction,
    LabelInstruction,
    RunInstruction,
    StopsignalInstruction,
    Token,
    UserInstruction,
    VolumeInstruction,
    WorkdirInstruction,
)
from imagesmith.dockerfiles.shell_words import Environment, Expanded, Keep, ShellError, expand
from imagesmith.values.diagnostics import Problem
from imagesmith.values.expansion import Budget, TooLarge

MAX_VALUE: Final = 64 * 1024
"""Characters of one variable; a Linux process takes no longer one than 128 KiB."""
MAX_TOTAL: Final = 1024 * 1024
"""Characters that all references of one Dockerfile may put in."""
MAX_REFERENCES: Final = 20_000
MAX_VARIABLES: Final = 2_000

PLATFORM: Final = {
    "TARGETPLATFORM": "linux/amd64", "TARGETOS": "linux", "TARGETARCH": "amd64", "TARGETVARIANT": "",
    "BUILDPLATFORM": "linux/amd64", "BUILDOS": "linux", "BUILDARCH": "amd64", "BUILDVARIANT": "",
}  # fmt: skip
"""Arguments that every builder knows."""
_DOCUMENT: Final = Keep(ordinary_quotes=True)


class VariableError(ValueError):
    """A token that cannot be expanded; `problem` tells it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


@dataclass(frozen=True)
class VariableScope:
    """The variables at one position of a file."""

    environment: Environment
    escape: str
    budget: Budget
    globals: Mapping[str, str] | None = None
    """Arguments from before the first FROM; None while they are read."""
    arguments: frozenset[str] = frozenset()
    """What ARG has declared in this stage and in those that it is from."""
    fixed: frozenset[str] = frozenset()
    """What ENV has set: an ARG does not change it."""

    def stage(self, environment: Environment) -> VariableScope:
        """The beginning of a stage on an image whose variables are given; this is the scope before FROM."""
        fixed = frozenset(environment.values)
        return VariableScope(environment, self.escape, self.budget, self.environment.values, fixed=fixed)

    def declare(self, name: str, value: Expanded | None) -> VariableScope:
        """Take in an ARG; without a value it has that of the argument before FROM."""
        if self.globals is None:
            return self if value is None else replace(self, environment=self._with(name, value))
        scope = replace(self, arguments=self.arguments | {name})
        if value is None:
            known = self.globals.get(name)
            value = None if known is None else Expanded(known)
        if value is None or name in self.fixed:
            return scope
        return replace(scope, environment=self._with(name, value))

    def assign(self, values: Mapping[str, Expanded]) -> VariableScope:
        """Take in an ENV."""
        environment = self.environment
        for name, value in values.items():
            _bounded(name, value.text)
        uncertain = frozenset(name for name, value in values.items() if not value.certain)
        environment = environment.with_values({name: value.text for name, value in values.items()}, uncertain)
        _few(environment)
        return replace(self, environment=environment, fixed=self.fixed | values.keys())

    def _with(self, name: str, value: Expanded) -> Environment:
        _bounded(name, value.text)
        uncertain = frozenset[str]() if value.certain else frozenset({name})
        environment = self.environment.with_values({name: value.text}, uncertain)
        _few(environment)
        return environment


def global_scope(escape: str) -> VariableScope:
    """What is known before the first line of a file."""
    return VariableScope(Environment(dict(PLATFORM)), escape, Budget(MAX_TOTAL, MAX_REFERENCES))


def expand_token(scope: VariableScope, instruction: Instruction, token: Token) -> Expanded:
    """One token. Raises VariableError and TooLarge."""
    try:
        return expand(token.text, scope.environment, scope.budget, escape=scope.escape)
    except ShellError as error:
        position_in = instruction.source.position_in(token, error.offset)
        raise VariableError(Problem("variable", str(error), position_in)) from error


def expand_instruction(
    scope: VariableScope, instruction: Instruction
) -> tuple[VariableScope, dict[Token, Expanded], list[Problem]]:
    """The scope behind an instruction, its expanded tokens, and what cannot be expanded. Raises TooLarge."""
    texts: dict[Token, Expanded] = {}
    problems: list[Problem] = []

    def text_of(token: Token, within: VariableScope) -> Expanded:
        try:
            texts[token] = expand_token(within, instruction, token)
        except VariableError as error:
            problems.append(error.problem)
            texts[token] = Expanded(token.text, False)
        return texts[token]

    if isinstance(instruction, ArgInstruction):
        before = scope
        for item in instruction.declarations:
            if before.globals is None:
                before = scope  # before FROM each sees those to its left
            name = text_of(item.name, before).text
            scope = scope.declare(name, text_of(item.default, before) if item.default else None)
    elif isinstance(instruction, EnvInstruction):
        pairs = [(text_of(pair.key, scope).text, text_of(pair.value, scope)) for pair in instruction.pairs]
        scope = scope.assign(dict(pairs))
    else:
        for token in _expanded_tokens(instruction):
            text_of(token, scope)
        if isinstance(instruction, FilesInstruction):
            problems += _documents(scope, instruction, texts)
    return scope, texts, problems


def _expanded_tokens(instruction: Instruction) -> Iterator[Token]:
    """The tokens of an instruction in which variables are replaced."""
    if isinstance(instruction, LabelInstruction):
        for pair in instruction.pairs:
            yield from (pair.key, pair.value)
    elif isinstance(instruction, FilesInstruction):
        yield from instruction.sources
        yield from instruction.excludes
        checksum = instruction.checksum if isinstance(instruction, AddInstruction) else None
        for token in (instruction.destination, instruction.chown, instruction.chmod, checksum):
            if token is not None:
                yield token
    elif isinstance(instruction, RunInstruction):
        yield from (mount.token for mount in instruction.mounts if "$" in mount.token.text)
    elif isinstance(instruction, VolumeInstruction):
        yield from instruction.paths
    elif isinstance(instruction, ExposeInstruction):
        yield from instruction.ports
    elif isinstance(instruction, UserInstruction):
        yield instruction.user
    elif isinstance(instruction, WorkdirInstruction):
        yield instruction.path
    elif isinstance(instruction, StopsignalInstruction):
        yield instruction.signal


def _documents(
    scope: VariableScope, instruction: FilesInstruction, texts: dict[Token, Expanded]
) -> Iterator[Problem]:
    """Expand the here-documents of COPY and ADD into `texts`; yields what cannot be expanded."""
    for item in instruction.heredocs:
        if item.expand:
            try:
                texts[item.word] = expand(item.body, scope.environment, scope.budget, keep=_DOCUMENT)
            except ShellError as error:
                yield Problem("variable", f"in the here-document: {error}", item.word.position)


def _few(environment: Environment) -> None:
    if len(environment.values) > MAX_VARIABLES:
        raise TooLarge(f"the number of variables grows beyond {MAX_VARIABLES}")


def _bounded(name: str, value: str) -> None:
    if len(value) > MAX_VALUE:
        raise TooLarge(f"the value of the variable '{name[:80]}' grows beyond {MAX_VALUE} characters")
