"""ExecuteBash and ExecuteBinary (spec/components.md 10.3, 10.4).

The step makes one call, with the script on standard input of bash; bash itself moves it to descriptor 9, reads it
as a whole from there, and runs it with an empty input. So nothing is written to the instance, a killed step leaves
no files behind, and a full, read-only or `noexec` temporary folder does not matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from imagesmith.components.actions.base import (
    MAX_OUTPUT,
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    ActionTimedOut,
    TypedInputs,
    bytes_of,
    run_program,
    text_of,
)
from imagesmith.components.schema import inputs, text, texts
from imagesmith.processes import Completed

REBOOT_STATUS: Final = 194
_MISSING: Final = 127
_NOT_EXECUTABLE: Final = 126

_SUDO_MISSING: Final = re.compile(r"\bsudo: (command )?not found|'sudo': No such file")
"""What shells and env say in the images that have none."""

# `$0` is the source too, so that scripts detect that they are the main script.
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


def execute_bash(context: ActionContext, entries: list[TypedInputs]) -> ActionResult:
    script = "\n".join(entries[0]["commands"]) + "\n"
    if "\0" in script:
        raise ActionFailed("the script contains a NUL character")
    completed = _run(context, _BASH, input=bytes_of(script))
    if completed.returncode == _MISSING and not _is_there(context, "bash"):
        message = (
            "ExecuteBash needs bash, and the instance has none: install it, or start from an image that has it"
        )
        raise ActionFailed(message)
    return _finished(context, completed)


def execute_binary(context: ActionContext, entries: list[TypedInputs]) -> ActionResult:
    entry = entries[0]
    path = entry["path"]
    completed = _run(context, (path, *entry.get("arguments", ())))
    if completed.returncode in (_MISSING, _NOT_EXECUTABLE) and not _is_there(context, path):
        raise ActionFailed(f"{path}: not found, or not executable", stderr=text_of(completed.stderr))
    return _finished(context, completed)


def _run(context: ActionContext, argv: Sequence[str], *, input: bytes | None = None) -> Completed:
    """run_program(); the text that a program printed before its timeout is an output as well
    (spec/components.md 4.3, rule 10)."""
    try:
        return run_program(context, argv, input=input)
    except ActionTimedOut as failure:
        if failure.completed is not None:
            failure.outputs = ({"stdout": captured(failure.completed)},)
        raise


def _is_there(context: ActionContext, program: str) -> bool:
    """Whether the instance can start a program; checked only after an apparently failed start."""
    probe = ("sh", "-c", 'command -v "$1"', "sh", program)
    return run_program(context, probe, quiet=True).returncode == 0


def _finished(context: ActionContext, completed: Completed) -> ActionResult:
    context.flush()
    context.note(f"CmdExecution: ExitCode {completed.returncode}")
    if completed.cut:
        context.note("a background process of the step still has its output open; its further output is not logged")
    stdout = captured(completed)
    stderr = text_of(completed.stderr)
    if context.instance.kind == "container":
        _explain_sudo(context, stderr)
    if completed.returncode == 0:
        return ActionResult(({"stdout": stdout},), stderr=stderr)
    if completed.returncode == REBOOT_STATUS:
        return ActionResult(({"stdout": stdout},), reboot="again", stderr=stderr)
    message = _failure_message(stdout) or f"exit status {completed.returncode}"
    raise ActionFailed(message, outputs=({"stdout": stdout},), stderr=stderr)


def _explain_sudo(context: ActionContext, stderr: str) -> None:
    if _SUDO_MISSING.search(stderr):
        context.note("this image has no sudo, and steps in a container run as root: leave sudo out")


def captured(completed: Completed) -> str:
    """Standard output as a value: without final line breaks, and with a note when its beginning is missing."""
    stdout = text_of(completed.stdout).rstrip("\r\n")
    if completed.dropped and len(completed.stdout) >= MAX_OUTPUT:
        return f"[output shortened: only the last {MAX_OUTPUT} bytes are kept]\n{stdout}"
    return stdout


def _failure_message(stdout: str) -> str:
    """The convention of many components: `{"failureMessage": "..."}` as the last line before a failing exit."""
    last = stdout.rpartition("\n")[2].strip()
    if not last.startswith("{") or len(last) > 65536:
        return ""
    try:
        content = json.loads(last)
    except (ValueError, RecursionError):
        return ""
    message = content.get("failureMessage") if isinstance(content, dict) else None
    return message if isinstance(message, str) else ""
