"""A program to run in an instance of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from imagesmith.processes import DEFAULT_LIMIT


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

    def within(self, environment: Mapping[str, str], cwd: str) -> Command:
        """The command with the instance's `environment` below its own variables, in `cwd` unless it names one."""
        return replace(self, env={**environment, **self.env}, cwd=self.cwd or cwd)
