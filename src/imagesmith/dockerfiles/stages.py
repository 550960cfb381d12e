"""What a Dockerfile is once its stages are known: instructions with their variables, stages, what each takes. Pure.

graph.py makes these from the instructions that parser.py read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from imagesmith.dockerfiles.model import FromInstruction, Instruction, Token
from imagesmith.dockerfiles.shell_words import Environment, Expanded
from imagesmith.dockerfiles.variables import VariableScope
from imagesmith.values.diagnostics import Problem

SCRATCH: Final = "scratch"


class BaseKind(Enum):
    """What a stage is from."""

    SCRATCH = "nothing"
    PARENT = "the parent of the recipe"
    STAGE = "an earlier stage"
    IMAGE = "an image"


@dataclass(frozen=True)
class Base:
    """What a stage is from; `stage` is its index when it is one."""

    kind: BaseKind
    name: str
    stage: int = -1


@dataclass(frozen=True)
class ResolvedInstruction:
    """An instruction of a stage, and its texts with the variables before it."""

    instruction: Instruction
    index: int
    """Its number among the instructions of the file."""
    texts: Mapping[Token, Expanded]
    """Its tokens in which variables are replaced; here-documents by their words."""
    scope: VariableScope
    """The variables before it."""

    def text(self, token: Token) -> Expanded:
        return self.texts.get(token, Expanded(token.text))

    def words(self, token: Token) -> tuple[str, ...]:
        """The words of a token: a variable may hold several."""
        found = self.text(token)
        return found.words or ((found.text,) if found.text else ())


@dataclass(frozen=True)
class Taken:
    """Files that an instruction takes from a stage, whose index it is, or from an image."""

    resolved: ResolvedInstruction
    token: Token
    name: str
    stage: int = -1
    is_mount: bool = False


@dataclass(frozen=True)
class DockerfileStage:
    """A stage with its instructions; placeholders stand among them."""

    index: int
    start: ResolvedInstruction
    base: Base
    body: tuple[ResolvedInstruction, ...]
    taken: tuple[Taken, ...] = ()
    environment: Environment = field(default_factory=Environment)
    """At its end."""
    inherited: frozenset[str] = frozenset()
    """The ARGs that it has from the stage that it is from, and does not declare."""

    @property
    def name(self) -> str:
        return self.first.stage_name

    @property
    def first(self) -> FromInstruction:
        assert isinstance(self.start.instruction, FromInstruction)
        return self.start.instruction

    @property
    def needs(self) -> frozenset[int]:
        """The stages that must be there before it."""
        found = {item.stage for item in self.taken if item.stage >= 0}
        return frozenset(found | {self.base.stage} if self.base.stage >= 0 else found)


@dataclass(frozen=True)
class Graph:
    """The stages, in the order of the file; the last one is what is built."""

    stages: tuple[DockerfileStage, ...]
    problems: tuple[Problem, ...]

    @property
    def needed(self) -> frozenset[int]:
        """The stages that the last one needs, itself included."""
        return self.needed_by(len(self.stages) - 1) if self.stages else frozenset()

    def needed_by(self, index: int) -> frozenset[int]:
        """The stages that a stage needs, itself included."""
        found: set[int] = set()
        waiting = [index]
        while waiting:
            index = waiting.pop()
            if index not in found:
                found.add(index)
                waiting += self.stages[index].needs
        return frozenset(found)
