"""Reboots and going on after them, or after a crash (spec/components.md 9)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagesmith.components.journal import FileJournal, MemoryJournal
from imagesmith.instances.host import HostInstance
from testing.component_support import RunText, bash, document, one_step


class PowerLost(BaseException):
    """The worker went down with its instance."""


class Machine(HostInstance):
    """This computer pretending to be a machine: a reboot is counted, or takes the worker with it."""

    def __init__(self, folder: Path, *, fatal: bool = False) -> None:
        super().__init__(folder)
        self.reboots = 0
        self._fatal = fatal

    @property
    def kind(self) -> str:
        return "machine"

    def reboot(self) -> None:
        self.reboots += 1
        if self._fatal:
            raise PowerLost


ONCE = "if [ -e done ]; then echo second; else touch done; exit 194; fi"
BEFORE = bash("echo x >>before", "echo kept", name="Before")
AFTER = bash("echo {{ build.Before.outputs.stdout }}", name="After")


def test_194_runs_the_step_again(run_text: RunText, tmp_path: Path) -> None:
    """Exit status 194 restarts the instance and runs the same step again, without using up an attempt."""
    machine = Machine(tmp_path)
    ran = run_text(document(BEFORE, bash(ONCE), AFTER), instance=machine)
    assert (ran.status, machine.reboots, ran.counts) == ("success", 1, (3, 0, 0, 0))
    assert ran.step("Step").outputs == ({"stdout": "second"},)
    assert ran.step("Step").attempts == 1
    assert (tmp_path / "before").read_text() == "x\n"


def test_reboot_goes_on_with_the_next_step(run_text: RunText, tmp_path: Path) -> None:
    """The Reboot action restarts once and the next step follows."""
    machine = Machine(tmp_path)
    reboot = one_step("Reboot", {"delaySeconds": 0}, name="Again").partition("steps:\n")[2]
    ran = run_text(document(BEFORE, reboot, AFTER), instance=machine)
    assert (ran.status, machine.reboots) == ("success", 1)
    assert ran.step("After").outputs == ({"stdout": "kept"},)


def test_reboot_in_a_loop_repeats_its_iteration_only(run_text: RunText, tmp_path: Path) -> None:
    """Iterations before the one that asked for a restart are not repeated."""
    machine = Machine(tmp_path)
    step = bash(
        "echo {{ loop.index }} >>log", "[ {{ loop.index }} = 1 ] && [ ! -e done ] && touch done && exit 194 || true"
    )
    text = document(step.replace("        inputs:", "        loop: {forEach: [a, b, c]}\n        inputs:"))
    ran = run_text(text, instance=machine)
    assert ran.status == "success"
    assert (tmp_path / "log").read_text().split() == ["0", "1", "1", "2"]


def test_reboots_are_bounded(run_text: RunText, tmp_path: Path) -> None:
    """A step that always asks for a restart fails after fifteen."""
    machine = Machine(tmp_path)
    ran = run_text(document(bash("exit 194")), instance=machine)
    assert (ran.status, machine.reboots) == ("failed", 15)
    assert "restarted 15 times" in ran.step("Step").error_message


def test_what_cannot_reboot_says_so(run_text: RunText) -> None:
    """On an instance that cannot restart the step fails with a sentence."""
    ran = run_text(document(bash("exit 194")))
    assert "requests a reboot" in ran.step("Step").error_message


@pytest.mark.parametrize("action", ["bash", "reboot"])
def test_resume_after_power_loss(run_text: RunText, tmp_path: Path, action: str) -> None:
    """A run that went down with its machine goes on where it was, with results and counts restored."""
    middle = bash(ONCE) if action == "bash" else one_step("Reboot", {}).partition("steps:\n")[2]
    text = document(BEFORE, middle, AFTER)
    path = tmp_path / "state"
    with pytest.raises(PowerLost):
        run_text(text, instance=Machine(tmp_path, fatal=True), journal=FileJournal(path))
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("ab") as file:
        file.write(b'{"kind":"step","at":"0/build/After","cut')
    ran = run_text(text, instance=Machine(tmp_path), journal=FileJournal(path))
    assert (ran.status, ran.counts, ran.result.execution_id) == ("success", (3, 0, 0, 0), "id-1")
    assert ran.step("After").outputs == ({"stdout": "kept"},)
    assert (tmp_path / "before").read_text() == "x\n"
    assert not path.exists()


def test_resume_in_an_iteration(run_text: RunText, tmp_path: Path) -> None:
    """A loop goes on in the iteration that was running; outputs of earlier ones are kept."""
    step = bash(
        "echo {{ loop.index }} >>log",
        "[ {{ loop.index }} = 1 ] && [ ! -e done ] && touch done && exit 194",
        "echo v{{ loop.index }}",
    ).replace("        inputs:", "        loop: {forEach: [a, b, c]}\n        inputs:")
    journal = MemoryJournal()
    with pytest.raises(PowerLost):
        run_text(document(step), instance=Machine(tmp_path, fatal=True), journal=journal)
    ran = run_text(document(step), instance=Machine(tmp_path), journal=journal)
    assert ran.step("Step").outputs == ({"stdout": "v0\nv1\nv2"},)
    assert (tmp_path / "log").read_text().split() == ["0", "1", "1", "2"]


def test_conditions_are_not_asked_again(run_text: RunText, tmp_path: Path) -> None:
    """The result of a condition is remembered across a restart."""
    step = bash(ONCE, extra="if: {not: {fileExists: done}}")
    journal = MemoryJournal()
    with pytest.raises(PowerLost):
        run_text(document(step), instance=Machine(tmp_path, fatal=True), journal=journal)
    assert run_text(document(step), instance=Machine(tmp_path), journal=journal).step("Step").status == "success"


def test_another_document_begins_anew(run_text: RunText, tmp_path: Path) -> None:
    """State of other documents is forgotten instead of mixed in."""
    journal = MemoryJournal()
    with pytest.raises(PowerLost):
        run_text(document(BEFORE, bash(ONCE)), instance=Machine(tmp_path, fatal=True), journal=journal)
    ran = run_text(document(BEFORE), instance=Machine(tmp_path), journal=journal)
    assert ran.status == "success"
    assert (tmp_path / "before").read_text() == "x\nx\n"


def test_resume_inside_a_nested_document(run_text: RunText, tmp_path: Path) -> None:
    """State covers the chain of documents: the child goes on in its own step."""
    child = document(BEFORE, bash(ONCE), AFTER)
    (tmp_path / "child.yml").write_text(child)
    text = one_step("ExecuteDocument", {"document": "child.yml"})
    journal = MemoryJournal()
    with pytest.raises(PowerLost):
        run_text(text, instance=Machine(tmp_path, fatal=True), journal=journal)
    ran = run_text(text, instance=Machine(tmp_path), journal=journal)
    assert (ran.status, (tmp_path / "before").read_text()) == ("success", "x\n")


def test_journal_lines_are_whole(tmp_path: Path) -> None:
    """An entry after a line that a crash cut short starts on its own line."""
    path = tmp_path / "state"
    path.write_bytes(b'{"kind":"a"}\n{"cut')
    journal = FileJournal(path)
    assert journal.load() == [{"kind": "a"}]
    entry: Mapping[str, Any] = {"kind": "b", "text": "line\nbreak \udcff"}
    journal.append(entry)
    journal.sync()
    assert FileJournal(path).load() == [{"kind": "a"}, entry]
    assert json.loads(path.read_bytes().splitlines()[1])["kind"] == "b"
    journal.clear()
    assert FileJournal(path).load() == []
