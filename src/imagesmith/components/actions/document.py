"""ExecuteDocument (spec/components.md 10.6): passes the document to the runner, which runs it."""

from __future__ import annotations

from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    NestedRequest,
    TypedInputs,
)
from imagesmith.components.schema import inputs, text


def actions() -> tuple[Action, ...]:
    parameter = inputs(
        {"name": text("Its name.", minLength=1), "value": text("Its value.")}, required=("name", "value")
    )
    return (
        Action(
            "ExecuteDocument",
            "Runs another component document.",
            inputs(
                {
                    "document": text("A path, an s3:// address, or the ARN of a component.", minLength=1),
                    "document-s3-bucket-owner": text("The account that must own the bucket.", default=""),
                    "phases": text("Names of phases, separated by commas; empty: all.", default=""),
                    "parameters": {
                        "type": "array",
                        "items": parameter,
                        "description": "Values for the parameters of the document.",
                    },
                },
                required=("document",),
            ),
            execute_document,
            outputs=(
                "executedStepCount",
                "executionId",
                "failedStepCount",
                "failureMessage",
                "ignoredFailedStepCount",
                "logUrl",
                "status",
            ),
        ),
    )


def execute_document(context: ActionContext, entries: list[TypedInputs]) -> ActionResult:
    entry = entries[0]
    parameters: dict[str, str] = {}
    for item in entry.get("parameters", ()):
        if item["name"] in parameters:
            raise ActionFailed(f"the parameter '{item['name']}' is given twice; write it once")
        parameters[item["name"]] = item["value"]
    return context.run_nested(
        NestedRequest(entry["document"], entry["document-s3-bucket-owner"], entry["phases"], parameters)
    )
