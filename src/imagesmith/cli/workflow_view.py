"""The output of `imagesmith workflow`: verdicts and plans, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith.cli.screen import echo, styled
from imagesmith.values.visible import visible
from imagesmith.workflow_documents.document import WorkflowType
from imagesmith.workflow_documents.inputs import text_of
from imagesmith.workflow_documents.planning import PlannedStep, WorkflowPlan

_COLORS: Final = {
    "run": "green",
    "skip": "bright_black",
    "may run": "yellow",
    "fail": "red",
    "never": "bright_black",
}


def show_verdict(errors: int) -> None:
    if errors:
        echo(f"{errors} error{'s' if errors != 1 else ''}", fg="red")
    else:
        echo("Validation successful.", fg="green")


def show_plan(source: str, kind: WorkflowType, planned: WorkflowPlan) -> None:
    """One line for each step, with its known inputs below it."""
    echo(f"{kind} workflow {source}")
    for step in planned.steps:
        _show_step(step)
    for name, value in planned.outputs.items():
        echo(f"  output {name} = {_line(value)}")


def _show_step(step: PlannedStep) -> None:
    mark = styled(f"{step.verdict:>8}", fg=_COLORS[step.verdict])
    ending = ", a failure does not stop" if step.on_failure == "Continue" else ""
    echo(mark, f"  {step.name} ({step.action}, at most {step.timeout_seconds} s{ending})")
    if step.reason:
        echo(f"{' ' * 10}{visible(step.reason)}", fg=_COLORS[step.verdict])
    if step.verdict in ("skip", "never"):
        return
    for name, value in step.inputs.items():
        echo(f"{' ' * 10}{name}: {_line(value)}")


def _line(value: Any) -> str:
    text = visible(text_of(value).replace("\n", " "))
    return text if len(text) <= 200 else text[:197] + "..."


def plan_json(
    kind: WorkflowType, name: str, parameters: Mapping[str, Any], *, planned: WorkflowPlan
) -> Mapping[str, Any]:
    """The output of `plan --json`."""
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
