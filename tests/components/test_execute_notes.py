"""What the log of a step says about what the step could not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.instances.host import HostInstance
from testing.component_support import RunText, one_step


class Container(HostInstance):
    """This computer, called a container."""

    @property
    def kind(self) -> str:
        return "container"


@pytest.mark.parametrize(
    "words",
    [
        "/dev/fd/9: line 1: sudo: command not found",
        "sh: 1: sudo: not found",
        "env: 'sudo': No such file or directory",
    ],
)
def test_sudo_that_is_not_there_is_explained(run_text: RunText, tmp_path: Path, words: str) -> None:
    """In a container, where nothing needs it; elsewhere the shell's words are enough."""
    inputs = {"commands": [f"cat >&2 <<'END'\n{words}\nEND\nexit 1"]}
    ran = run_text(one_step("ExecuteBash", inputs), instance=Container(tmp_path))
    assert ran.status == "failed" and "run as root: leave sudo out" in ran.log
    ran = run_text(one_step("ExecuteBash", inputs), instance=HostInstance(tmp_path))
    assert "leave sudo out" not in ran.log


def test_the_log_says_that_later_output_is_lost(run_text: RunText, tmp_path: Path) -> None:
    """A program that runs on and holds the step's output is told, one that has its own is not."""
    for streams, told in (("", True), (">/dev/null 2>&1", False)):
        inputs = {"commands": [f"sleep 2 {streams} &", "echo begun"]}
        ran = run_text(one_step("ExecuteBash", inputs), instance=HostInstance(tmp_path))
        assert ran.status == "success"
        assert ("further output is not logged" in ran.log) == told
