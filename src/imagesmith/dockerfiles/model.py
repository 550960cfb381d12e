"""What a Dockerfile says: one frozen class for each instruction, every part with its position. Pure.

Texts are as written, quotes and variables included; `graph.py` knows the variables at each instruction.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagesmith.dockerfiles.lines import Directives, Line
from imagesmith.dockerfiles.words import CommandWords
from imagesmith.values.diagnostics import Position, Problem


@dataclass(frozen=True)
class Token:
    """A part of an instruction and where it is in the file; `offset` counts in the joined line."""

    text: str
    position: Position
    offset: int


@dataclass(frozen=True)
class Heredoc:
    """A here-document; `expand`: variables in it are replaced."""

    delimiter: str
    content: str
    expand: bool
    strip_tabs: bool
    word: Token
    """`<<EOF` in the instruction."""
    line: int
    """The first line of its text."""

    @property
    def body(self) -> str:
        """Its text as a file has it: `<<-` takes the tabs at the beginning of each line away."""
        if not self.strip_tabs:
            return self.content
        return "\n".join(line.lstrip("\t") for line in self.content.split("\n"))


@dataclass(frozen=True)
class InstructionSource:
    """The text of an instruction in the file."""

    text: str
    """Its lines as they are there, without comments and empty lines between them."""
    keyword: Token
    line: Line
    """As one line; a placeholder in it is one word."""
    command: CommandWords
    """Keyword, flags and the rest as words."""

    @property
    def position(self) -> Position:
        return self.keyword.position

    def position_in(self, token: Token, offset: int) -> Position:
        """Where a character of a token is."""
        return self.line.at(min(token.offset + offset, max(len(self.line.text) - 1, 0)))


@dataclass(frozen=True)
class Instruction:
    """One instruction."""

    source: InstructionSource

    @property
    def name(self) -> str:
        return type(self).__name__.removesuffix("Instruction").upper()

    @property
    def position(self) -> Position:
        return self.source.position


@dataclass(frozen=True)
class CommandLine:
    """A command: one text for a shell, or words that are executed as they are."""

    words: tuple[Token, ...]
    is_exec: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True)
class Pair:
    """`key=value`; in the old form of ENV and LABEL a blank stands between."""

    key: Token
    value: Token


@dataclass(frozen=True)
class RunMount:
    """`--mount` of a RUN. Members that were not given are empty."""

    token: Token
    kind: str
    source: str = ""
    target: str = ""
    image: str = ""
    """The stage or image that it is taken from."""
    id: str = ""
    read_only: bool | None = None
    sharing: str = ""
    required: bool = False
    size: str = ""
    mode: str = ""
    uid: str = ""
    gid: str = ""
    env: str = ""


@dataclass(frozen=True)
class FromInstruction(Instruction):
    """`FROM [--platform=P] image [AS stage]`."""

    image: Token
    stage: Token | None
    platform: Token | None

    @property
    def stage_name(self) -> str:
        return self.stage.text.lower() if self.stage else ""


@dataclass(frozen=True)
class RunInstruction(Instruction):
    """`RUN [--mount=..] [--network=..] [--security=..] [--device=..] command`."""

    command: CommandLine
    mounts: tuple[RunMount, ...]
    network: Token | None
    security: Token | None
    devices: tuple[Token, ...]


@dataclass(frozen=True)
class FilesInstruction(Instruction):
    """What COPY and ADD have in common."""

    sources: tuple[Token, ...]
    heredocs: tuple[Heredoc, ...]
    destination: Token
    chown: Token | None
    chmod: Token | None
    link: bool
    excludes: tuple[Token, ...]


@dataclass(frozen=True)
class CopyInstruction(FilesInstruction):
    """`COPY [--from=..] [--parents] sources target`."""

    from_: Token | None
    parents: bool


@dataclass(frozen=True)
class AddInstruction(FilesInstruction):
    """`ADD [--checksum=..] [--keep-git-dir] [--unpack] sources target`."""

    checksum: Token | None
    keep_git_dir: bool
    unpack: bool | None


@dataclass(frozen=True)
class EnvInstruction(Instruction):
    """`ENV name=value ..`."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class LabelInstruction(Instruction):
    """`LABEL name=value ..`."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Declaration:
    """One variable of an ARG."""

    name: Token
    default: Token | None


@dataclass(frozen=True)
class ArgInstruction(Instruction):
    """`ARG name[=default] ..`."""

    declarations: tuple[Declaration, ...]


@dataclass(frozen=True)
class UserInstruction(Instruction):
    """`USER user[:group]`."""

    user: Token


@dataclass(frozen=True)
class WorkdirInstruction(Instruction):
    """`WORKDIR path`."""

    path: Token


@dataclass(frozen=True)
class VolumeInstruction(Instruction):
    """`VOLUME path ..`."""

    paths: tuple[Token, ...]


@dataclass(frozen=True)
class ExposeInstruction(Instruction):
    """`EXPOSE port[/protocol] ..`."""

    ports: tuple[Token, ...]


@dataclass(frozen=True)
class EntrypointInstruction(Instruction):
    """`ENTRYPOINT command`."""

    command: CommandLine


@dataclass(frozen=True)
class CmdInstruction(Instruction):
    """`CMD command`."""

    command: CommandLine


@dataclass(frozen=True)
class HealthcheckInstruction(Instruction):
    """`command` is None for NONE; times are in nanoseconds, 0 when they were not given."""

    command: CommandLine | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True)
class StopsignalInstruction(Instruction):
    """`STOPSIGNAL signal`."""

    signal: Token


@dataclass(frozen=True)
class ShellInstruction(Instruction):
    """`SHELL [word, ..]`."""

    words: tuple[Token, ...]


@dataclass(frozen=True)
class OnbuildInstruction(Instruction):
    """`ONBUILD instruction`."""

    trigger: Instruction
    text: str
    """The trigger as the image keeps it."""


@dataclass(frozen=True)
class MaintainerInstruction(Instruction):
    """`MAINTAINER name`."""

    maintainer: Token


@dataclass(frozen=True)
class Placeholder(Instruction):
    """`{{{ imagebuilder:environments }}}` or `{{{ imagebuilder:components }}}` on a line of its own."""

    variable: str


@dataclass(frozen=True)
class Dockerfile:
    """What was read, and what cannot be read; an instruction with an error in it is left out."""

    instructions: tuple[Instruction, ...]
    directives: Directives
    problems: tuple[Problem, ...]
