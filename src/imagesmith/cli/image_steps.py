"""`imagesmith image steps | approve | reject`: the steps of workflows, and answers to waiting steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from imagesmith.cli.context import CommandFailed, api_errors, connect, data_dir_option, json_option
from imagesmith.cli.context import print_json as show_json
from imagesmith.cli.image import get_image
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.values.arn import Arn
from imagesmith.values.names import parse_instant
from imagesmith.values.states import StepStatus

if TYPE_CHECKING:
    from mypy_boto3_imagebuilder import ImagebuilderClient

_COLOURS: dict[str, str] = {
    StepStatus.COMPLETED: "green", StepStatus.FAILED: "red",
    StepStatus.WAITING: "yellow", StepStatus.RUNNING: "cyan",
}  # fmt: skip


@click.command()
@click.argument("reference")
@data_dir_option
@json_option
def steps(reference: str, data_dir: Path, as_json: bool) -> None:
    """Show the workflow steps of a build: state, time and failures.

    \b
    Example:  imagesmith image steps web/1.0.0/1 --data-dir ./data
    """
    with api_errors():
        client = connect(data_dir)
        arn = get_image(data_dir, reference)["arn"]
        runs = [_with_steps(client, run) for run in _executions(client, arn)]
    Listing(
        columns=("workflow", "step", "action", "state", "time", "message"),
        rows=(row for run in runs for row in _rows(run)),
        documents=runs,
        empty="no workflow of this image has started",
    ).show(as_json=as_json)


def _rows(run: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """The row of a workflow, and below it the rows of its steps."""
    yield Arn.parse(run["workflowBuildVersionArn"]).path, "", "", _coloured(run["status"]), _seconds(run), ""
    for step in run["steps"]:
        message = escape(step.get("message", "").splitlines()[0] if step.get("message") else "")
        yield "", step["name"], step["action"], _coloured(step["status"]), _seconds(step), message


def _answer_command(reason: str) -> Callable[[Callable[..., None]], click.Command]:
    """The decorator of a command that answers a waiting step; `reason` is the help of its option --reason."""

    def decorate(command: Callable[..., None]) -> click.Command:
        for option in (
            json_option,
            data_dir_option,
            click.option("--step", "name", default="", help="Name of the step, if several wait."),
            click.option("--reason", default="", help=reason),
            click.argument("reference"),
        ):
            command = option(command)
        return click.command()(command)

    return decorate


@_answer_command("Free text for later steps and for the record.")
def approve(**answer: Any) -> None:
    """Resume a build that waits for an action.

    \b
    Example:  imagesmith image approve web/1.0.0/1 --reason "looks good" --data-dir ./data
    """
    _answer("RESUME", **answer)


@_answer_command("Becomes part of the reason why the image failed.")
def reject(**answer: Any) -> None:
    """Stop a build that waits for an action; the step fails, and its onFailure decides what follows.

    \b
    Example:  imagesmith image reject web/1.0.0/1 --reason "not on a Friday" --data-dir ./data
    """
    _answer("STOP", **answer)


def _answer(action: str, *, reference: str, reason: str, name: str, data_dir: Path, as_json: bool) -> None:
    with api_errors():
        client: Any = connect(data_dir)
        arn = get_image(data_dir, reference)["arn"]
        waiting = [
            step
            for page in client.get_paginator("list_waiting_workflow_steps").paginate()
            for step in page["steps"]
            if step["imageBuildVersionArn"] == arn and name in ("", step["name"])
        ]
        if not waiting:
            raise CommandFailed(
                f"no step of {reference} waits for an action",
                f"see its steps with: imagesmith image steps {reference}",
            )
        if len(waiting) > 1:
            names = ", ".join(step["name"] for step in waiting)
            raise CommandFailed(f"several steps of {reference} wait: {names}", "choose one with --step NAME")
        more = {"reason": reason} if reason else {}
        sent = client.send_workflow_step_action(
            stepExecutionId=waiting[0]["stepExecutionId"], imageBuildVersionArn=arn, action=action, **more
        )
    if as_json:
        show_json({**{key: sent[key] for key in ("stepExecutionId", "imageBuildVersionArn")}, "action": action})
        return
    echo(f"{action} sent to {waiting[0]['name']} of {arn}")


def _executions(client: ImagebuilderClient, arn: str) -> list[Mapping[str, Any]]:
    pages = client.get_paginator("list_workflow_executions").paginate(imageBuildVersionArn=arn)
    return [dict(run) for page in pages for run in page["workflowExecutions"]]


def _with_steps(client: ImagebuilderClient, run: Mapping[str, Any]) -> Mapping[str, Any]:
    pages = client.get_paginator("list_workflow_step_executions").paginate(
        workflowExecutionId=run["workflowExecutionId"]
    )
    found = [_parsed_step(step) for page in pages for step in page["steps"]]
    return {**run, "steps": found}


def _parsed_step(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """A step with its inputs and outputs parsed from JSON text."""
    return {name: json.loads(value) if name in ("inputs", "outputs") else value for name, value in step.items()}


def _seconds(item: Mapping[str, Any]) -> str:
    if "startTime" not in item or "endTime" not in item:
        return ""
    return f"{(parse_instant(item['endTime']) - parse_instant(item['startTime'])).total_seconds():.1f} s"


def _coloured(state: str) -> str:
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/{colour}]" if colour else state
