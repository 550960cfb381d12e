"""The corpus of Dockerfiles: what it holds."""

from __future__ import annotations

from collections import Counter

from imagesmith.dockerfiles.model import OnbuildInstruction
from imagesmith.dockerfiles.parser import parse_dockerfile
from testing.dockerfile_rows import ORACLE, oracle_rows

KINDS = sorted(place.stem for place in ORACLE.glob("*.toml"))
INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


def test_the_corpus_has_each_instruction_and_each_name_once() -> None:
    """More than 150 files, in each of which a reader finds what it is for."""
    rows = oracle_rows(*KINDS)
    assert len(rows) >= 150
    assert [name for name, count in Counter(row.name for row in rows).items() if count > 1] == []
    used: set[str] = set()
    for row in rows:
        for instruction in parse_dockerfile(row.dockerfile).instructions:
            used.add(instruction.name)
            if isinstance(instruction, OnbuildInstruction):
                used.add(instruction.trigger.name)
    assert used >= INSTRUCTIONS
