"""What a command that a newcomer gets wrong says: what failed, and what to try."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from imagesmith.cli.context import CommandFailed
from imagesmith.cli.main import commands


@pytest.mark.parametrize(
    ("words", "reason", "cure"),
    [
        (
            "dockerfile build FILE --parent debian-x86-31",
            "no managed base debian-x86-31",
            "did you mean debian-x86-13?",
        ),
        ("dockerfile build FILE", "uses the parent image", "--parent IMAGE"),
        ("schedule list", "there is no database in", "name the folder of a server with --data-dir"),
        ("image verify web", "there is no public key", "with --key FILE"),
    ],
)
def test_a_failure_says_what_to_try(tmp_path: Path, words: str, reason: str, cure: str) -> None:
    """Each of these is met in the first hour, before anything was read that explains it."""
    file = tmp_path / "Dockerfile"
    file.write_text("FROM {{{ imagebuilder:parentImage }}}\nCMD a\n")
    asked = [str(file) if word == "FILE" else word for word in words.split()]
    done = CliRunner().invoke(commands, [*asked, "--data-dir", str(tmp_path / "data")])
    failure = done.exception
    hint = failure.hint if isinstance(failure, CommandFailed) else ""
    said = f"{' '.join(done.output.split())} {failure} {hint}"
    assert done.exit_code == 1 and reason in said and cure in said, said
