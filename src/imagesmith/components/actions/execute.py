"""ExecuteBash and ExecuteBinary (spec/components.md 10.3, 10.4).

A script reaches bash on standard input of the one call that the step costs; bash itself moves it to descriptor 9,
reads it as a whole from there, and gives it an empty input. So nothing is written to the instance, nothing is left
behind when the step is killed, and a full, read-only or `noexec` temporary folder does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from imagesmith.components.actions.base import (
    MAX_OUTPUT,
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    ActionTimedOut,
    Entry,
    bytes_of,
    run_program,
    text_of,
)
from imagesmith.components.schema import inputs, text, texts
from imagesmith.processes import Completed

REBOOT_STATUS: Final = 194
_MISSING: Final = 127
_NOT_EXECUTABLE: Final = 126

# `$0` is the source too, so that scripts which ask whether they are the main one hear yes.
_BASH: Final = ("bash", "-c", ". /dev/fd/9 9<&0 </dev/null", "/dev/fd/9")


def actions() -> tuple[Action, ...]:
    return (
        Action(
            "ExecuteBash",
            "Runs its commands as one bash script.",
            inputs(
                {"commands": texts("Lines or blocks of bash, joined into one script.", minItems=1)},
                required=("commands",),
            ),
            execute_bash,
            platforms=frozenset({"linux", "darwin"}),
            outputs=("stdout",),
        ),
        Action(
            "ExecuteBinary",
            "Runs one program with arguments, without a shell.",
            inputs(
                {
                    "path": text("A path, or a name looked up on PATH.", minLength=1),
                    "arguments": texts("Passed one by one."),
                },
                required=("path",),
            ),
            execute_binary,
            outputs=("stdout",),
        ),
    )


def execute_bash(context: ActionContext, entries: list[Entry]) -> ActionResult:
    script = "\n".join(entries[0]["commands"]) + "\n"
    if "\0" in script:
        raise ActionFailed("the script holds a NUL character")
    completed = _run(context, _BASH, input=bytes_of(script))
    if completed.returncode == _MISSING and not _is_there(context, "bash"):
        message = (
            "ExecuteBash needs bash, and the instance has none: install it, or start from an image that has it"
        )
        raise ActionFailed(message)
    return _finished(context, completed)


def execute_binary(context: ActionContext, entries: list[Entry]) -> ActionResult:
    entry = entries[0]
    path = entry["path"]
    completed = _run(context, (path, *entry.get("arguments", ())))
    if completed.returncode in (_MISSING, _NOT_EXECUTABLE) and not _is_there(context, path):
        raise ActionFailed(f"{path}: not found, or not executable", stderr=text_of(completed.stderr))
    return _finished(context, completed)


def _run(context: ActionContext, argv: Sequence[str], *, input: bytes | None = None) -> Completed:
    """run_program(); what a program printed before its time was over is an output as well (4.3, rule 10)."""
    try:
        return run_program(context, argv, input=input)
    except ActionTimedOut as failure:
        if failure.completed is not None:
            failure.outputs = ({"stdout": captured(failure.completed)},)
        raise


def _is_there(context: ActionContext, program: str) -> bool:
    """Whether the instance can start a program; asked only after a start that looks failed."""
    probe = ("sh", "-c", 'command -v "$1"', "sh", program)
    return run_program(context, probe, quiet=True).returncode == 0


def _finished(context: ActionContext, completed: Completed) -> ActionResult:
    context.flush()
    context.note(f"CmdExecution: ExitCode {completed.returncode}")
    stdout = captured(completed)
    stderr = text_of(completed.stderr)
    if completed.returncode == 0:
        return ActionResult(({"stdout": stdout},), stderr=stderr)
    if completed.returncode == REBOOT_STATUS:
        return ActionResult(({"stdout": stdout},), reboot="again", stderr=stderr)
    message = _told_failure(stdout) or f"exit status {completed.returncode}"
    raise ActionFailed(message, outputs=({"stdout": stdout},), stderr=stderr)


def captured(completed: Completed) -> str:
    """Standard output as a value: without its last line breaks, and with a note when its beginning is gone."""
    stdout = text_of(completed.stdout).rstrip("\r\n")
    if completed.dropped and len(completed.stdout) >= MAX_OUTPUT:
        return f"[output shortened: only the last {MAX_OUTPUT} bytes are kept]\n{stdout}"
    return stdout


def _told_failure(stdout: str) -> str:
    """The convention of many components: `{"failureMessage": "..."}` as the last line before a failing exit."""
    last = stdout.rpartition("\n")[2].strip()
    if not last.startswith("{") or len(last) > 65536:
        return ""
    try:
        content = json.loads(last)
    except (ValueError, RecursionError):
        return ""
    told = content.get("failureMessage") if isinstance(content, dict) else None
    return told if isinstance(told, str) else ""
