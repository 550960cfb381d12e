"""Semantic versions of three integer nodes, their wildcards, and the automatic number (spec/api.md 3.3 to 3.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NODE_MAX = 2**30 - 1
_NODE = re.compile(r"[0-9]{1,100}|x")  # int() refuses thousands of digits with another error


class VersionError(ValueError):
    """A version text that breaks a rule of spec/api.md 3.3 or 3.4."""


@dataclass(frozen=True, order=True)
class Version:
    """A concrete version; the caller's spelling (`2021.01.01`) is in the ARN text, not here."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def nodes(self) -> tuple[int, int, int]:
        return (self.major, self.minor, self.patch)

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `M.m.p`. Raises VersionError for wildcards, other shapes and nodes over 2^30-1."""
        pattern = VersionPattern.parse(text)
        major, minor, patch = pattern.nodes
        if major is None or minor is None or patch is None:
            raise VersionError(f"{text} contains a wildcard where a number is needed")
        return cls(major, minor, patch)


@dataclass(frozen=True)
class VersionPattern:
    """A version whose nodes may be `x` (None)."""

    nodes: tuple[int | None, int | None, int | None]

    @classmethod
    def parse(cls, text: str) -> VersionPattern:
        """Read three nodes, each a number or `x`, in any order. Raises VersionError."""
        parts = text.split(".")
        if len(parts) != 3 or not all(_NODE.fullmatch(part) for part in parts):
            raise VersionError(f"{text} is not a version of three nodes")
        nodes = [None if part == "x" else int(part) for part in parts]
        for node in nodes:
            if node is not None and node > NODE_MAX:
                raise VersionError(f"{text} has a node over {NODE_MAX}")
        return cls((nodes[0], nodes[1], nodes[2]))

    @classmethod
    def for_reading(cls, text: str) -> VersionPattern:
        """Read a wildcard of a request: every node right of an `x` must be `x` too (spec/api.md 3.4)."""
        pattern = cls.parse(text)
        seen = False
        for node in pattern.nodes:
            if seen and node is not None:
                raise VersionError(f"{text} has a number to the right of a wildcard")
            seen = seen or node is None
        return pattern

    @property
    def is_exact(self) -> bool:
        return None not in self.nodes

    @property
    def prefix(self) -> tuple[int, ...]:
        """The numbers left of the first wildcard."""
        numbers: list[int] = []
        for node in self.nodes:
            if node is None:
                break
            numbers.append(node)
        return tuple(numbers)

    def matches(self, version: Version) -> bool:
        return all(node in (None, number) for node, number in zip(self.nodes, version.nodes, strict=True))

    def filled(self, listed: Version) -> Version:
        """The version that managed content has under this pattern: it exists in every version (spec/api.md 4.12).

        `listed` where it matches, else the pattern with 0 for each `x`.
        """
        if self.matches(listed):
            return listed
        major, minor, patch = (node or 0 for node in self.nodes)
        return Version(major, minor, patch)

    def next_after(self, existing: Iterable[Version]) -> Version:
        """The number for a create with `x`: the highest at the first `x` plus one (spec/api.md 3.5)."""
        if self.is_exact:
            major, minor, patch = (node or 0 for node in self.nodes)
            return Version(major, minor, patch)
        prefix = self.prefix
        taken = [version.nodes[len(prefix)] for version in existing if version.nodes[: len(prefix)] == prefix]
        number = max(taken, default=-1) + 1
        if number > NODE_MAX:
            raise VersionError(f"no number is left after {NODE_MAX}")
        rest = [node or 0 for node in self.nodes[len(prefix) + 1 :]]
        nodes = [*prefix, number, *rest]
        return Version(nodes[0], nodes[1], nodes[2])
