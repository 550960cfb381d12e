"""What an action is: its schema, where it may run, and a function over resolved inputs.

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
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Cancellation, Completed, Stream
from imagesmith.values.diagnostics import Problem

if TYPE_CHECKING:
    from imagesmith.components.services import Services

Entry = dict[str, Any]
"""One mapping of typed inputs, defaults filled in."""

Outputs = Mapping[str, Any]
Reboot = Literal["", "again", "next"]
"""After the restart: run this step again, or go on with the next (section 9)."""

ALL_PLATFORMS: Final = frozenset({"linux", "windows", "darwin"})

MAX_OUTPUT = 1024 * 1024
"""Characters of one recorded output value (A23)."""


class ActionFailed(Exception):
    """The action did not do its work; the text is the step's error message."""

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
    """The step's time is over; what ran was killed. `completed` is the program that it was, if it was one."""

    def __init__(self, message: str, *, completed: Completed | None = None) -> None:
        self.completed = completed
        super().__init__(message, stderr=text_of(completed.stderr) if completed else "")


@dataclass(frozen=True)
class ActionResult:
    """What an action leaves: one mapping of outputs for each entry of a list action, one for a map action."""

    outputs: tuple[Outputs, ...] = ()
    reboot: Reboot = ""
    stderr: str = ""
    detailed: tuple[Mapping[str, Any], ...] = ()
    """Result trees of nested documents."""


@dataclass(frozen=True)
class NestedRequest:
    """What ExecuteDocument asks the runner for."""

    document: str
    bucket_owner: str
    phases: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class ActionContext:
    """Where and how an action runs."""

    instance: Instance
    environment: Mapping[str, str]
    """Variables added to those of the instance."""
    working_directory: str | None
    remaining: Callable[[], float | None]
    """Seconds left for the step, None without a limit. Raises ActionTimedOut when none are left."""
    output: Callable[[Stream, bytes], None]
    """Takes what programs print, as it comes."""
    flush: Callable[[], None]
    """Hands on a last line that did not end."""
    note: Callable[[str], None]
    """Writes one line to the log."""
    services: Services
    cancellation: Cancellation
    run_nested: Callable[[NestedRequest], ActionResult]


Run = Callable[[ActionContext, list[Entry]], ActionResult]
Check = Callable[[Node, list[Problem], str], None]


@dataclass(frozen=True)
class Action:
    """One module of section 10. `schema` is that of one mapping, also for list actions."""

    name: str
    summary: str
    schema: Schema
    run: Run | None
    """None: the runner answers it itself (Assert, whose inputs are an expression)."""
    shape: Literal["map", "list"] = "map"
    platforms: frozenset[str] = ALL_PLATFORMS
    inputs_required: bool = True
    outputs: tuple[str, ...] = ()
    check: Check | None = None
    """Checks that the schema cannot say, on the node of the inputs."""
    unsupported_inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Platform -> inputs that it does not know."""


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
        raise ActionFailed("an input holds a NUL character, which no path or argument can")
    try:
        completed = context.instance.run(
            argv,
            env=context.environment,
            cwd=context.working_directory,
            input=input,
            timeout=context.remaining(),
            on_output=None if quiet else context.output,
            limit=limit,
        )
    except OSError as error:
        raise ActionFailed(f"cannot start {argv[0]}: {error.strerror or error}") from error
    if completed.timed_out:
        raise ActionTimedOut("timed out", completed=completed)
    return completed


def shell(
    context: ActionContext, script: str, *arguments: str, input: bytes | None = None, limit: int = MAX_OUTPUT
) -> Completed:
    """Run our own POSIX script with `$1` ... = arguments. Its standard error is the message when it fails."""
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
    """The path in a form that no program takes for an option. Raises ActionFailed when it is empty."""
    if not path:
        raise ActionFailed("a path is empty")
    return f"./{path}" if path.startswith("-") else path


def parent_of(path: str) -> str:
    return posixpath.dirname(path.rstrip("/")) or ("/" if path.startswith("/") else ".")


def each_entry(action: Callable[[ActionContext, Entry], Outputs | None]) -> Run:
    """A list action from a function over one entry: in order, stopping at the first error (10.1)."""

    def run(context: ActionContext, entries: list[Entry]) -> ActionResult:
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
    action: Callable[[ActionContext, Entry], Outputs | None],
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
