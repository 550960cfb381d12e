"""`imagesmith workflow`: checks workflow documents, plans their runs, writes new ones; without a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from imagesmith.cli.assignment import Assignment
from imagesmith.cli.component_view import problem_json, show_problems
from imagesmith.cli.context import CommandFailed, json_option, print_json
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.screen import echo
from imagesmith.cli.starters import quoted, write_starter
from imagesmith.cli.workflow_view import plan_json, show_plan, show_verdict
from imagesmith.documents.fields import boolean_of, integer_of
from imagesmith.managed.catalog import ManagedWorkflow, managed_workflow, managed_workflows
from imagesmith.workflow_documents.document import WORKFLOW_TYPES, WorkflowType
from imagesmith.workflow_documents.expressions import ParameterError, bind_parameters
from imagesmith.workflow_documents.grammar import ParsedWorkflow, parse_workflow, refusal
from imagesmith.workflow_documents.planning import parameter_texts, plan_workflow
from imagesmith.workflow_documents.variables import VARIABLES, Variable

STARTER = """\
# A workflow document: the steps that build, test or distribute an image.
# Check it:     imagesmith workflow validate {file} --type TEST
# Look ahead:   imagesmith workflow plan {file} --param approver=me
name: {name}
description: What this workflow is for.
schemaVersion: 1.0

# Values that an image or a pipeline can set; without a default, it must.
parameters:
  - name: approver
    type: string # or integer, boolean, stringList
    default: ""
    description: Who approves the image; no approval when empty.

steps:
  - name: LaunchTestInstance
    action: LaunchInstance
    inputs:
      waitFor: ssmAgent

  - name: ApplyTestComponents
    action: ExecuteComponents
    timeoutSeconds: 7200
    onFailure: Abort # or Continue
    inputs:
      # '.$' reads the value from a path; braces insert it into a string.
      instanceId.$: "$.stepOutputs.LaunchTestInstance.instanceId"

  - name: AskApprover
    action: WaitForAction
    if:
      not:
        stringEquals: ""
        value: "$.parameters.approver"
    inputs:
      payload: '{{"to": "{{{{ $.parameters.approver }}}}", "image": "{{{{ $.imagebuilder.imageName }}}}"}}'

  - name: TerminateTestInstance
    action: TerminateInstance
    onFailure: Continue
    inputs:
      instanceId.$: "$.stepOutputs.LaunchTestInstance.instanceId"
"""
_TYPE = click.option(
    "--type",
    "kind",
    type=click.Choice(get_args(WorkflowType), case_sensitive=False),
    help="Type of the workflow.  [default: the best match]",
)


@dataclass(frozen=True)
class _Loaded:
    """A workflow document of the command line: where it came from, its text, and what was read."""

    source: str
    text: str
    kind: WorkflowType
    parsed: ParsedWorkflow


@click.group(cls=PlainGroup)
def workflow() -> None:
    """Validate, plan and create workflow documents, without a server."""


@workflow.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@_TYPE
@json_option
def validate(files: tuple[Path, ...], *, kind: WorkflowType | None, as_json: bool) -> None:
    """Check workflow documents and show every problem with its line.

    \b
    Examples:
      imagesmith workflow validate build.yml --type BUILD
      imagesmith workflow validate workflows/*.yml --json

    The exit status is 0 if all documents are valid and 1 otherwise.
    """
    loaded = [_read(path, kind) for path in files]
    bad = [item for item in loaded if item.parsed.first is not None]
    if as_json:
        message = "; ".join(f"{item.source}: {refusal(item.parsed.first)}" for item in bad if item.parsed.first)
        status = "failed" if bad else "success"
        problems = [problem_json(item.source, problem) for item in loaded for problem in item.parsed.problems]
        verdict = {"validationStatus": status, "message": message or "Validation successful."}
        print_json({**verdict, "problems": problems})
    else:
        for item in loaded:
            show_problems(item.source, item.text, item.parsed.problems)
        show_verdict(sum(len(item.parsed.errors) for item in bad))
    if bad:
        raise SystemExit(1)


@workflow.command()
@click.argument("file")
@_TYPE
@click.option(
    "--param", "parameters", multiple=True, type=Assignment(), help="Set a parameter; repeat it to add to a list."
)
@click.option(
    "--variable",
    "variables",
    multiple=True,
    type=Assignment(),
    help="Set a variable of $.imagebuilder, as platform=Linux.",
)
@json_option
def plan(
    file: str,
    *,
    kind: WorkflowType | None,
    parameters: tuple[tuple[str, str], ...],
    variables: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Show which steps would run, with which inputs. FILE may name a managed workflow, as build/build-container.

    Values known only in a run, such as outputs of steps and variables that are not set, are shown as paths in angle
    brackets.

    \b
    Examples:
      imagesmith workflow plan approval.yml --type TEST --param approver=me
      imagesmith workflow plan build/build-image --variable imageType=AMI --variable platform=Linux
      imagesmith workflow plan approval.yml --json

    The exit status is 1 if the document is invalid or a step is certain to fail the workflow, and 0 otherwise.
    """
    loaded = _find_document(file, kind)
    document = loaded.parsed.document
    if document is None:
        raise _invalid(loaded, as_json=as_json)
    try:
        values = bind_parameters(document, parameter_texts(parameters))
    except ParameterError as error:
        raise CommandFailed(str(error), f"set it with --param {error.name}=VALUE") from error
    planned = plan_workflow(document, parameters=values, variables=_variables(loaded.kind, variables))
    if as_json:
        print_json(plan_json(loaded.kind, document.name, values, planned=planned))
    else:
        show_plan(loaded.source, loaded.kind, planned)
    if planned.fails:
        raise SystemExit(1)


def _invalid(loaded: _Loaded, *, as_json: bool) -> SystemExit:
    """The end of a command for a document that is not valid, whose problems are shown. Raises CommandFailed."""
    if as_json:
        assert loaded.parsed.first is not None
        raise CommandFailed(f"{loaded.source}: {refusal(loaded.parsed.first)}")
    show_problems(loaded.source, loaded.text, loaded.parsed.errors)
    show_verdict(len(loaded.parsed.errors))
    return SystemExit(1)


@workflow.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("workflow.yml"))
@click.option("--name", default="", help="Name in the document.  [default: the file's name]")
@click.option("--from", "managed", metavar="NAME", help="Copy a managed workflow, as build/build-container.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def new(file: Path, name: str, *, managed: str | None, force: bool) -> None:
    """Write a commented workflow document to start from.

    \b
    Examples:
      imagesmith workflow new approval.yml
      imagesmith workflow new mine.yml --from build/build-container
    """
    if managed is None:
        write_starter(file, STARTER.format(file=file, name=quoted(name or file.stem)), force=force)
    else:
        text = _managed(managed).text
        renamed = f"name: {quoted(name or file.stem)}"
        write_starter(file, re.sub(r"^name: .*$", lambda _match: renamed, text, count=1, flags=re.M), force=force)
    echo(f"wrote {file}; check it with: imagesmith workflow validate {file}")


def _read(path: Path, kind: WorkflowType | None) -> _Loaded:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error
    return _parsed(str(path), data, kind)


def _parsed(source: str, data: bytes, kind: WorkflowType | None) -> _Loaded:
    """Parse for the given type, or for the type with the fewest errors: a document does not state its type."""
    kinds: tuple[WorkflowType, ...] = (kind,) if kind else get_args(WorkflowType)
    attempts = [(parse_workflow(data, attempt), attempt) for attempt in kinds]
    parsed, best = min(attempts, key=lambda attempt: len(attempt[0].errors))
    return _Loaded(source, data.decode("utf-8", "replace"), best, parsed)


def _find_document(file: str, kind: WorkflowType | None) -> _Loaded:
    """The document of a file, or the managed workflow of a name such as `build/build-image`."""
    family = file.partition("/")[0]
    if family in WORKFLOW_TYPES and not Path(file).exists():
        return _parsed(file, _managed(file).text.encode(), WORKFLOW_TYPES[family])
    return _read(Path(file), kind)


def _managed(name: str) -> ManagedWorkflow:
    family, _, stem = name.partition("/")
    try:
        return managed_workflow(family, stem)
    except LookupError as error:
        known = ", ".join(f"{item.family}/{item.name}" for item in managed_workflows())
        raise CommandFailed(f"{error}", f"known workflows: {known}") from error


def _variables(kind: WorkflowType, given: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    values: dict[str, Any] = {"workflowPhase": kind.capitalize()}
    known = {variable.name: variable for variable in VARIABLES}
    for name, text in given:
        if name not in known:
            raise CommandFailed(f"there is no variable '{name}'", f"known variables: {', '.join(known)}")
        values[name] = _typed(known[name], text)
    return values


def _typed(variable: Variable, text: str) -> Any:
    value: Any = text
    if variable.type == "boolean":
        value = boolean_of(text)
    elif variable.type == "integer":
        value = integer_of(text)
    elif variable.type == "list of strings":
        value = [part for part in text.split(",") if part]
    elif variable.type == "map":
        value = None
    if value is None:
        raise CommandFailed(f"the variable '{variable.name}' is of type {variable.type}, '{text[:80]}' is not")
    return value
