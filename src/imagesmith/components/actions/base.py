"""The parts of an action: its schema, its platforms, and a function over resolved inputs.

An action sees the instance only through `ActionContext` and assumes nothing inside but a POSIX shell: small images
have no Python, no curl, no find, perhaps no bash.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from imagesmith.components.schema import Schema
from imagesmith.documents.nodes import Node
from imagesmith.instances.command import Command
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Cancellation, Completed, Stream
from imagesmith.values.diagnostics import Problem

if TYPE_CHECKING:
    from imagesmith.components.services import Services

TypedInputs = Mapping[str, Any]
"""One mapping of typed inputs, defaults filled in."""

Outputs = Mapping[str, Any]
Reboot = Literal["", "again", "next"]
"""After the restart: run this step again, or continue with the next (spec/components.md 9)."""

ALL_PLATFORMS: Final = frozenset({"linux", "windows", "darwin"})

MAX_OUTPUT = 1024 * 1024
"""Most characters of one recorded output value (spec/components.md A23)."""


class ActionFailed(Exception):
    """The action failed; the text is the step's error message."""

    def __init__(
        self,
        message: str,
        *,
        outputs: Sequence[Outputs] = (),
        stderr: str = "",
        detailed: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.outputs = tuple(outputs)
        self.stderr = stderr
        self.detailed = tuple(detailed)
        super().__init__(message)


class ActionTimedOut(ActionFailed):
    """The step timed out and its processes were killed. `completed` is the killed program, if there was one."""

    def __init__(self, message: str, *, completed: Completed | None = None) -> None:
        self.completed = completed
        super().__init__(message, stderr=text_of(completed.stderr) if completed else "")


@dataclass(frozen=True)
class ActionResult:
    """The result of an action: one mapping of outputs for each entry of a list action, one for a map action."""

    outputs: tuple[Outputs, ...] = ()
    reboot: Reboot = ""
    stderr: str = ""
    detailed: tuple[Mapping[str, Any], ...] = ()
    """Result trees of nested documents."""


@dataclass(frozen=True)
class NestedRequest:
    """A request of ExecuteDocument to the runner."""

    document: str
    bucket_owner: str
    phases: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class ActionContext:
    """The environment of an action."""

    instance: Instance
    environment: Mapping[str, str]
    """Variables in addition to the instance's."""
    working_directory: str | None
    remaining: Callable[[], float | None]
    """Seconds left for the step, None without a limit. Raises ActionTimedOut at 0."""
    output: Callable[[Stream, bytes], None]
    """Receives the output of programs as it arrives."""
    flush: Callable[[], None]
    """Passes on an unfinished last line."""
    note: Callable[[str], None]
    """Writes one line to the log."""
    services: Services
    cancellation: Cancellation
    run_nested: Callable[[NestedRequest], ActionResult]


Run = Callable[[ActionContext, list[TypedInputs]], ActionResult]
Check = Callable[[Node, list[Problem], str], None]


@dataclass(frozen=True)
class Action:
    """One module of spec/components.md 10. `schema` describes one mapping, also for list actions."""

    name: str
    summary: str
    schema: Schema
    run: Run | None
    """None: the runner itself executes it (Assert, whose inputs are an expression)."""
    shape: Literal["map", "list"] = "map"
    platforms: frozenset[str] = ALL_PLATFORMS
    inputs_required: bool = True
    outputs: tuple[str, ...] = ()
    check: Check | None = None
    """Checks that a schema cannot express, on the node of the inputs."""
    unsupported_inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Platform -> inputs that it does not support."""


def run_program(
    context: ActionContext,
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    quiet: bool = False,
    limit: int = MAX_OUTPUT,
) -> Completed:
    """Run a program in the instance within the step's time. Raises ActionFailed, ActionTimedOut."""
    if any("\0" in argument for argument in argv):
        raise ActionFailed("an input contains a NUL character, which is not allowed in paths and arguments")
    try:
        command = Command(
            argv, env=context.environment, cwd=context.working_directory, input=input, timeout=context.remaining(),
            limit=limit,
        )  # fmt: skip
        completed = context.instance.run(command, None if quiet else context.output)
    except OSError as error:
        raise ActionFailed(f"cannot start {argv[0]}: {error.strerror or error}") from error
    if completed.timed_out:
        raise ActionTimedOut("timed out", completed=completed)
    return completed


def shell(
    context: ActionContext, script: str, *arguments: str, input: bytes | None = None, limit: int = MAX_OUTPUT
) -> Completed:
    """Run an own POSIX script with `$1` ... = arguments. When it fails, its standard error is the message."""
    completed = run_program(
        context, ("sh", "-c", _PRELUDE + script, "sh", *arguments), input=input, quiet=True, limit=limit
    )
    if completed.returncode != 0:
        said = text_of(completed.stderr).strip()
        raise ActionFailed(said.splitlines()[-1] if said else f"exit status {completed.returncode}", stderr=said)
    return completed


_PRELUDE = 'fail() { printf "%s\\n" "$*" >&2; exit 1; }\n'


def text_of(data: bytes) -> str:
    """Output as text; bytes that are not UTF-8 survive a round trip into scripts and arguments."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def path_argument(path: str) -> str:
    """The path in a form that no program parses as an option. Raises ActionFailed when it is empty."""
    if not path:
        raise ActionFailed("a path is empty")
    return f"./{path}" if path.startswith("-") else path


def parent_of(path: str) -> str:
    return posixpath.dirname(path.rstrip("/")) or ("/" if path.startswith("/") else ".")


def each_entry(action: Callable[[ActionContext, TypedInputs], Outputs | None]) -> Run:
    """A list action from a function over one entry: in order, stopping at the first error
    (spec/components.md 10.1)."""

    def run(context: ActionContext, entries: list[TypedInputs]) -> ActionResult:
        outputs: list[Outputs] = []
        for entry in entries:
            try:
                given = action(context, entry)
            except ActionFailed as failure:
                failure.outputs = (*outputs, *failure.outputs)
                raise
            if given is not None:
                outputs.append(given)
        return ActionResult(tuple(outputs))

    return run


def list_action(
    name: str,
    summary: str,
    action: Callable[[ActionContext, TypedInputs], Outputs | None],
    schema: Schema,
    *,
    platforms: frozenset[str] = ALL_PLATFORMS,
    outputs: tuple[str, ...] = (),
    unsupported_inputs: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> Action:
    """An action over a list of mappings, from a function over one."""
    return Action(
        name,
        summary,
        schema,
        each_entry(action),
        shape="list",
        platforms=platforms,
        outputs=outputs,
        unsupported_inputs=unsupported_inputs,
    )
