"""`imagesmith dockerfile check`: every problem with its line, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from imagesmith.cli.main import commands

HEAD = "FROM {{{ imagebuilder:parentImage }}}\n"


def check(file: Path, data: bytes, *options: str) -> tuple[int, str]:
    file.write_bytes(data)
    done = CliRunner().invoke(commands, ["dockerfile", "check", str(file), *options])
    return done.exit_code, done.output


def test_a_template_that_can_be_used_is_said_to_be(tmp_path: Path) -> None:
    """With a place for components, when the recipe has some."""
    file = tmp_path / "Dockerfile"
    assert check(file, HEAD.encode()) == (0, "Validation successful.\n")
    status, output = check(file, HEAD.encode(), "--components")
    assert status == 1 and "no-environments" in output
    assert check(file, f"{HEAD}{{{{{{ imagebuilder:environments }}}}}}\n".encode(), "--components")[0] == 0


def test_problems_are_shown_with_their_lines(tmp_path: Path) -> None:
    """A caret stands below the place, behind what Unicode takes for the end of a line too."""
    file = tmp_path / "Dockerfile"
    status, output = check(file, f"\ufeff{HEAD}RUN a\x0cb\u2028c\n  COPY  x /y\nCMD a\nCMD b\n".encode())
    assert status == 1
    lines = output.splitlines()
    assert lines[0].startswith(f"{file}:3:9 no-context a template has no build context")
    assert lines[1:3] == ["    3 |   COPY  x /y", "      |         ^"]
    assert any(line.startswith(f"{file}:4:1 warning: no-effect") for line in lines) and lines[-1] == "1 error"


def test_machines_get_json(tmp_path: Path) -> None:
    """Warnings alone are a success."""
    file = tmp_path / "Dockerfile"
    status, output = check(file, f"{HEAD}EXPOSE 1 x\nMAINTAINER m\n".encode(), "--json")
    told = json.loads(output)
    assert (status, told["validationStatus"], told["message"]) == (1, "failed", "1 error")
    places = [(item["line"], item["column"], item["severity"], item["code"]) for item in told["problems"]]
    assert places == [(2, 10, "error", "port"), (3, 1, "warning", "deprecated")]
    status, output = check(file, f"{HEAD}MAINTAINER m\n".encode(), "--json")
    assert (status, json.loads(output)["validationStatus"]) == (0, "success")


@pytest.mark.parametrize(
    ("data", "code", "place"),
    [(b"FROM a\nRUN \xff\n", "encoding", ":2:5 "), (b"#" * 70_000, "too-large", " ")],
)
def test_what_is_no_text_or_too_long_is_refused(tmp_path: Path, data: bytes, code: str, place: str) -> None:
    """With the place of the first byte that is wrong."""
    file = tmp_path / "Dockerfile"
    status, output = check(file, data)
    assert status == 1 and output.startswith(f"{file}{place}{code} ")


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """As every command says it."""
    done = CliRunner().invoke(commands, ["dockerfile", "check", str(tmp_path / "none")])
    assert done.exit_code == 1 and "cannot be read" in str(done.exception)
