"""What docs/workflows.md says of documents holds in runs: its whole document, and strict chaining."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from testing.pipeline_support import Forge, RunningServer
from testing.workflow_support import (
    answer,
    build_document,
    executions,
    run_with,
    statuses,
    steps,
    waiting,
    workflow,
)

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


def test_with_strict_chaining_a_bare_path_is_a_text(tmp_path: Path, tiny_parent: str) -> None:
    """Under a plain key a path stays as it is written; braces and `.$` work as ever."""
    strict = "[builds]\nstrict_chaining = true\n"
    steps_text = "".join(
        f"  - {{name: {name}, action: WaitForAction, inputs: {{{payload}}}}}\n"
        for name, payload in (
            ("Plain", "payload: $.imagebuilder.platform"),
            ("Braces", "payload: '{{ $.imagebuilder.platform }}'"),
            ("Chained", "payload.$: $.imagebuilder.platform"),
        )
    )
    with RunningServer(tmp_path / "data", parent=tiny_parent, settings=strict) as server:
        forge = server.start().forge
        image = run_with(forge, workflow(forge, "BUILD", build_document(steps_text)))
        for name in ("Plain", "Braces", "Chained"):
            step = waiting(forge, image)
            assert step["name"] == name
            answer(forge, step)
        forge.finished(image)
        [execution] = executions(forge, image)
        found = steps(forge, execution["workflowExecutionId"])
        given = [json.loads(found[name]["inputs"])["payload"] for name in ("Plain", "Braces", "Chained")]
        assert given == ["$.imagebuilder.platform", "Linux", "Linux"]
        server.stop()
