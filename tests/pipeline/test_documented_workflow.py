"""The document of docs/workflows.md really runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.pipeline_support import Forge
from pipeline.workflow_support import answer, executions, run_with, statuses, steps, waiting, workflow

pytestmark = pytest.mark.tool
PAGE = Path(__file__).parents[2] / "docs/workflows.md"


def test_the_documented_workflow_asks_when_its_limit_is_passed(forge: Forge) -> None:
    """Above the limit the build waits, tells what it counted, and goes on when answered; below it does not wait."""
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    build = workflow(forge, "BUILD", text)
    recipe = forge.recipe(forge.component(build="true"))

    def limited(count: str) -> dict[str, object]:
        return {"workflowArn": build, "parameters": [{"name": "mostAccounts", "value": [count]}]}

    many = run_with(forge, limited("-1"), recipe=recipe)
    step = waiting(forge, many)
    answer(forge, step, reason="for the lab")
    few = run_with(forge, limited("100000"), recipe=recipe)
    forge.finished(many)
    forge.finished(few)
    [asked], [passed] = executions(forge, many), executions(forge, few)
    found = steps(forge, asked["workflowExecutionId"])
    counted = json.loads(found["Count"]["outputs"])["output"][0]
    assert json.loads(json.loads(found["Ask"]["inputs"])["payload"])["accounts"] == int(counted)
    assert statuses(forge, passed["workflowExecutionId"]) == {
        "Launch": "COMPLETED",
        "Components": "COMPLETED",
        "Count": "COMPLETED",
        "Ask": "SKIPPED",
    }
