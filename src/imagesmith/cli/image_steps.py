"""`imagesmith image steps | approve | reject`: what workflows did, and answers to steps that wait."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from imagesmith.cli.context import CommandFailed, api_errors, connect, data_dir_option, json_option, make_console
from imagesmith.cli.context import print_json as show_json
from imagesmith.cli.image import get_image
from imagesmith.values.names import parse_instant

if TYPE_CHECKING:
    from mypy_boto3_imagebuilder import ImagebuilderClient

_COLOURS = {"COMPLETED": "green", "FAILED": "red", "WAITING": "yellow", "RUNNING": "cyan"}


@click.command()
@click.argument("reference")
@data_dir_option
@json_option
def steps(reference: str, data_dir: Path, as_json: bool) -> None:
    """Show the workflows of a build step by step: state, time, and what went wrong.

    \b
    Example:  imagesmith image steps web/1.0.0/1 --data-dir ./data
    """
    with api_errors():
        client = connect(data_dir)
        arn = get_image(data_dir, reference)["arn"]
        runs = [_with_steps(client, run) for run in _executions(client, arn)]
    if as_json:
        show_json(runs)
        return
    if not runs:
        make_console().print("no workflow of this image has begun")
        return
    table = Table("workflow", "step", "action", "state", "time", "message", box=None, pad_edge=False)
    for run in runs:
        workflow = "/".join(run["workflowBuildVersionArn"].split("/")[1:])
        table.add_row(workflow, "", "", _coloured(run["status"]), _seconds(run), "")
        for step in run["steps"]:
            table.add_row(
                "", step["name"], step["action"], _coloured(step["status"]), _seconds(step),
                escape(step.get("message", "").splitlines()[0] if step.get("message") else ""),
            )  # fmt: skip
    make_console().print(table)


@click.command()
@click.argument("reference")
@click.option("--reason", default="", help="Free text for later steps and for the record.")
@click.option("--step", "name", default="", help="Which step, when several wait.")
@data_dir_option
@json_option
def approve(reference: str, reason: str, name: str, data_dir: Path, as_json: bool) -> None:
    """Let a build go on that waits for an action.

    \b
    Example:  imagesmith image approve web/1.0.0/1 --reason "looks good" --data-dir ./data
    """
    _answer(reference, "RESUME", reason, name=name, data_dir=data_dir, as_json=as_json)


@click.command()
@click.argument("reference")
@click.option("--reason", default="", help="Becomes part of the reason why the image failed.")
@click.option("--step", "name", default="", help="Which step, when several wait.")
@data_dir_option
@json_option
def reject(reference: str, reason: str, name: str, data_dir: Path, as_json: bool) -> None:
    """Stop a build that waits for an action; the step fails, and its onFailure decides about the rest.

    \b
    Example:  imagesmith image reject web/1.0.0/1 --reason "not on a Friday" --data-dir ./data
    """
    _answer(reference, "STOP", reason, name=name, data_dir=data_dir, as_json=as_json)


def _answer(reference: str, action: str, reason: str, *, name: str, data_dir: Path, as_json: bool) -> None:
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
    click.echo(f"{action} sent to {waiting[0]['name']} of {arn}")


def _executions(client: ImagebuilderClient, arn: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_workflow_executions").paginate(imageBuildVersionArn=arn)
    return [dict(run) for page in pages for run in page["workflowExecutions"]]


def _with_steps(client: ImagebuilderClient, run: Mapping[str, Any]) -> dict[str, Any]:
    pages = client.get_paginator("list_workflow_step_executions").paginate(
        workflowExecutionId=run["workflowExecutionId"]
    )
    found: list[dict[str, Any]] = [dict(step) for page in pages for step in page["steps"]]
    for step in found:
        for member in ("inputs", "outputs"):
            if member in step:
                step[member] = json.loads(step[member])
    return {**run, "steps": found}


def _seconds(item: Mapping[str, Any]) -> str:
    if "startTime" not in item or "endTime" not in item:
        return ""
    return f"{(parse_instant(item['endTime']) - parse_instant(item['startTime'])).total_seconds():.1f} s"


def _coloured(state: str) -> str:
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/{colour}]" if colour else state
