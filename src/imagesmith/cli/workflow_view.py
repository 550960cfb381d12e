"""How `imagesmith workflow` shows verdicts and plans, to people and to machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from imagesmith.cli.component_view import plain
from imagesmith.values.diagnostics import Problem
from imagesmith.workflows.document import WorkflowType
from imagesmith.workflows.inputs import text_of
from imagesmith.workflows.planning import PlannedStep, WorkflowPlan

_COLORS: Final = {
    "run": "green",
    "skip": "bright_black",
    "may run": "yellow",
    "fail": "red",
    "never": "bright_black",
}


def show_verdict(errors: int) -> None:
    if errors:
        click.secho(f"{errors} error{'s' if errors != 1 else ''}", fg="red")
    else:
        click.secho("Validation successful.", fg="green")


def show_plan(source: str, kind: WorkflowType, planned: WorkflowPlan) -> None:
    """One line per step, what is known of its inputs below it."""
    click.echo(f"{kind} workflow {source}")
    for step in planned.steps:
        _show_step(step)
    for name, value in planned.outputs.items():
        click.echo(f"  output {name} = {_line(value)}")


def _show_step(step: PlannedStep) -> None:
    mark = click.style(f"{step.verdict:>8}", fg=_COLORS[step.verdict])
    ending = ", a failure does not stop" if step.on_failure == "Continue" else ""
    click.echo(f"{mark}  {step.name} ({step.action}, at most {step.timeout_seconds} s{ending})")
    if step.reason:
        click.secho(f"{' ' * 10}{plain(step.reason)}", fg=_COLORS[step.verdict])
    if step.verdict in ("skip", "never"):
        return
    for name, value in step.inputs.items():
        click.echo(f"{' ' * 10}{name}: {_line(value)}")


def _line(value: Any) -> str:
    text = plain(text_of(value).replace("\n", " "))
    return text if len(text) <= 200 else text[:197] + "..."


def problem_json(source: str, problem: Problem) -> dict[str, Any]:
    place = {"line": problem.position.line, "column": problem.position.column} if problem.position else {}
    return {
        "file": source, **place, "severity": problem.severity, "code": problem.code, "message": problem.message,
        "hint": problem.hint,
    }  # fmt: skip


def plan_json(
    kind: WorkflowType, name: str, parameters: Mapping[str, Any], *, planned: WorkflowPlan
) -> dict[str, Any]:
    """What `plan --json` prints."""
    steps = [
        {
            "name": step.name, "action": step.action, "verdict": step.verdict, "reason": step.reason,
            "inputs": step.inputs, "pending": list(step.pending), "timeoutSeconds": step.timeout_seconds,
            "onFailure": step.on_failure,
        }
        for step in planned.steps
    ]  # fmt: skip
    return {
        "type": kind, "name": name, "parameters": dict(parameters), "steps": steps,
        "outputs": dict(planned.outputs),
    }  # fmt: skip
