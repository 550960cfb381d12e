"""The rows of tests/dockerfile_builds/oracle: a Dockerfile, why it is there, and what Docker makes of it.

    name, why     what the row shows
    dockerfile    the text
    parent        members of the parent's config, where it is not the usual one
    refused       the code of the problem for which it is refused before a build; "" in all others
    fails         words of the error with which its build fails
    docker        why buildah 1.28 makes something else of it; then at least one of the following
    buildah       another text, which means for buildah what `dockerfile` means for Docker
    config        what Docker documents of the config: the members that matter
    files         what Docker documents of the files: lines of `image_trees.py`, "" for a path that is not there

A row without `docker` is built by both alike.

A stage that buildah does not find has a name that begins no hash: it takes `b` for an image whose id begins so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ORACLE = Path(__file__).parent.parent / "dockerfile_builds" / "oracle"


@dataclass(frozen=True)
class OracleRow:
    """One Dockerfile of the corpus."""

    name: str
    why: str
    dockerfile: str
    parent: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    fails: str = ""
    docker: str = ""
    buildah: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        documented = self.buildah or self.config or self.files or self.refused or self.fails
        assert not self.docker or documented, f"{self.name}: what does Docker make of it?"
        assert self.docker or not (self.buildah or self.config or self.files), f"{self.name}: why?"

    def __str__(self) -> str:
        return self.name


def oracle_rows(*kinds: str) -> list[OracleRow]:
    """The rows of some files of the corpus, in their order; a file is named after the kind of its rows."""
    texts = [(ORACLE / f"{kind}.toml").read_text() for kind in kinds]
    return [OracleRow(**members) for text in texts for members in tomllib.loads(text)["row"]]
