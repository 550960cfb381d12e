"""Loads and checks component documents of the command line in their current state, and shows their problems.

Nothing here runs a document: `component validate` imports neither instances nor the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.cli.component_view import problem_json, show_problems
from imagesmith.cli.context import CommandFailed
from imagesmith.components.declarations import ComponentParameterError, variable_values
from imagesmith.components.grammar import parse_component
from imagesmith.components.model import ComponentDocument
from imagesmith.components.parsed import Parsed
from imagesmith.documents.fields import suggestion


@dataclass(frozen=True)
class RunRequest:
    """The options of the command line."""

    files: tuple[Path, ...]
    target: str
    phases: tuple[str, ...] | None
    parameters: dict[str, str]
    secrets: frozenset[str]
    data_dir: Path
    working_directory: str | None
    log_directory: Path | None
    state_directory: Path | None
    execution_id: str
    as_json: bool
    verbose: bool


@dataclass
class LoadedComponents:
    """The documents of one run in their current state on disk."""

    texts: list[str]
    parsed: list[Parsed]

    @property
    def documents(self) -> list[ComponentDocument]:
        return [item.document for item in self.parsed if item.document is not None]

    @property
    def usable(self) -> bool:
        return all(item.document is not None for item in self.parsed)


def load(
    files: Sequence[Path], *, platform: str = "Linux", blocked: frozenset[str] = frozenset()
) -> LoadedComponents:
    """Read and check documents. Raises CommandFailed for a file that cannot be read."""
    texts: list[str] = []
    parsed: list[Parsed] = []
    for path in files:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error
        texts.append(data.decode("utf-8", "replace"))
        parsed.append(parse_component(data, platform=platform, blocked=blocked))
    return LoadedComponents(texts, parsed)


def unique_parameters(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Parameters of the command line by name. Raises CommandFailed for a repeated one."""
    values: dict[str, str] = {}
    for name, value in given:
        if name in values:
            raise CommandFailed(
                f"the parameter '{name}' is given twice", "set each parameter once, with --param or --secret-param"
            )
        values[name] = value
    return values


def check_parameters(request: RunRequest, loaded: LoadedComponents) -> None:
    """Refuse values that no document declares or allows, and missing ones. Raises CommandFailed."""
    declared = {item.name: item for document in loaded.documents for item in document.parameters}
    for name in request.parameters:
        if name not in declared:
            hint = suggestion(name, declared) if declared else "the documents declare no parameters"
            raise CommandFailed(f"no document declares the parameter '{name}'", hint)
    missing = [name for name, item in declared.items() if item.default is None and name not in request.parameters]
    if missing:
        message = f"the parameter '{missing[0]}' has no default, so it needs a value"
        raise CommandFailed(message, f"set it with --param {missing[0]}=VALUE")
    for document in loaded.documents:
        try:
            variable_values(document, request.parameters)
        except ComponentParameterError as error:
            raise CommandFailed(str(error)) from error


def unknown_phases(request: RunRequest, loaded: LoadedComponents) -> list[str]:
    """A message about requested phases that no document has."""
    known = {phase.name for document in loaded.documents for phase in document.phases}
    return [
        f"no document has the phase '{name}'" + (f" ({hint})" if (hint := suggestion(name, known)) else "")
        for name in request.phases or ()
        if name not in known
    ]


def problems_member(files: Sequence[Path], loaded: LoadedComponents) -> Mapping[str, Any]:
    """Errors and warnings as a member of the published object; absent without problems."""
    problems = [
        problem_json(str(path), problem)
        for path, parsed in zip(files, loaded.parsed, strict=True)
        for problem in parsed.problems
    ]
    return {"problems": problems} if problems else {}


def show_loaded(files: Sequence[Path], loaded: LoadedComponents) -> None:
    for path, text, parsed in zip(files, loaded.texts, loaded.parsed, strict=True):
        show_problems(str(path), text, parsed.problems)
