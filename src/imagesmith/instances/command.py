"""A program to run in an instance of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from imagesmith.processes import DEFAULT_LIMIT

NetworkKind = Literal["outbound", "none"]
"""What a program reaches: registries and mirrors, or nothing."""

MOST_MOUNTS: Final = 64
"""Mounts of one command; the kernel takes 253 descriptors in one message."""


@dataclass(frozen=True)
class Identity:
    """The numbers under which a program runs; `groups` are its further groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class MountedTree:
    """A detached mount (detached_mounts.py) that the command sees at `target`.

    The root must have the target; what an earlier mount of the command hides is made in that mount.
    """

    target: str
    descriptor: int
    is_folder: bool = True


@dataclass(frozen=True)
class MemoryFolder:
    """An empty folder in memory that the command sees at `target`, and nobody else; it ends with the command."""

    target: str
    size: int = 0
    """Bytes at most; 0: the kernel's limit, half of the memory."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Executable files in it: their names and texts."""


CommandMount = MountedTree | MemoryFolder


@dataclass(frozen=True)
class Command:
    """One program, run to its end. Only `argv` is given by position."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Variables added to those of the instance."""
    cwd: str | None = field(default=None, kw_only=True)
    """Working directory inside; None: the instance's default."""
    input: bytes | None = field(default=None, kw_only=True)
    """Bytes for standard input; None: nothing to read."""
    timeout: float | None = field(default=None, kw_only=True)
    """Seconds after which its process group is killed."""
    limit: int = field(default=DEFAULT_LIMIT, kw_only=True)
    """Bytes of each stream that are kept: the last ones."""
    user: Identity | None = field(default=None, kw_only=True)
    """None: root. Containers only, as are the members below."""
    mounts: Sequence[CommandMount] = field(default=(), kw_only=True)
    """What only this command sees, in this order."""
    network: NetworkKind = field(default="outbound", kw_only=True)
    """`none`: no network but a loopback of its own; `outbound`: the network of the instance."""
    alone: bool = field(default=False, kw_only=True)
    """Its end ends every process that it left in the instance; no other command may run there meanwhile."""

    def within(self, environment: Mapping[str, str], cwd: str) -> Command:
        """The command with the instance's `environment` below its own variables, in `cwd` unless it names one."""
        return replace(self, env={**environment, **self.env}, cwd=self.cwd or cwd)

    @property
    def needs_container(self) -> bool:
        """Whether it asks for what only a container does."""
        return self.user is not None or bool(self.mounts) or self.network == "none" or self.alone
