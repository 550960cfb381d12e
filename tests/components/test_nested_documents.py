"""ExecuteDocument: finding, bounding and reporting nested documents (spec/components.md 10.6)."""

from __future__ import annotations

import json
from pathlib import Path

from imagesmith.components.services import Services, SourceDocument
from testing.component_support import RunText, bash, document, one_step

CHILD = document(
    bash("echo child-{{ Name }}", name="Say"),
    head="name: Child\nparameters:\n  - Name: {type: string, default: none}\n",
)


class Components:
    """A component store of one."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get(self, arn: str) -> SourceDocument:
        if not arn.endswith("component/child/x.x.x"):
            raise LookupError(f"no component {arn}")
        return SourceDocument("arn:aws:imagebuilder:r:1:component/child/1.0.0/1", self.text)


ARN = "arn:aws:imagebuilder:r:1:component/child/x.x.x"


def test_local_document(run_text: RunText, tmp_path: Path) -> None:
    """A file of the instance runs with its parameters; its summary is the output, its tree is recorded."""
    (tmp_path / "work/child.yml").write_text(CHILD)
    nested = one_step("ExecuteDocument", {"document": "child.yml", "parameters": [{"name": "Name", "value": "v"}]})
    ran = run_text(nested + bash("echo {{ build.Step.outputs.status }}", name="After"))
    assert ran.status == "success", ran.log
    outputs = ran.step("Step").outputs[0]
    assert list(outputs) == [
        "executedStepCount",
        "executionId",
        "failedStepCount",
        "failureMessage",
        "ignoredFailedStepCount",
        "logUrl",
        "status",
    ]
    assert (outputs["executedStepCount"], outputs["executionId"], outputs["status"]) == (1, "id-2", "success")
    assert ran.step("After").outputs == ({"stdout": "success"},)
    assert "CmdExecution: Stdout: child-v" in ran.lines
    assert ran.counts == (2, 0, 0, 0)
    record = ran.step("Step").record()
    assert record["detailedOutput"][0]["documents"][0]["name"] == "Child"
    assert json.loads(record["inputs"])[0]["phases"] == ""
    assert (record["timeoutSeconds"], record["maxAttempts"]) == (-1, 1)


def test_component_arn(run_text: RunText) -> None:
    """An ARN is looked up in the component store, phases are chosen by name."""
    text = one_step("ExecuteDocument", {"document": ARN, "phases": "other, test"})
    ran = run_text(text, services=Services(components=Components(CHILD)))
    assert (ran.status, ran.step("Step").outputs[0]["executedStepCount"]) == ("success", 0)


def test_a_phase_that_is_not_there_is_told(run_text: RunText) -> None:
    """As in the service nothing runs and all is well, but the misspelling is in the log."""
    text = one_step("ExecuteDocument", {"document": ARN, "phases": "biuld"})
    ran = run_text(text, services=Services(components=Components(CHILD)))
    assert ran.status == "success"
    assert "child/1.0.0/1 has no phase 'biuld': no steps run for it (did you mean 'build'?)" in ran.log


def test_a_parameter_that_is_not_there_is_told(run_text: RunText) -> None:
    """As in the service the child runs without it, but the log says that nothing used the value."""
    text = one_step("ExecuteDocument", {"document": ARN, "parameters": [{"name": "Nmae", "value": "v"}]})
    ran = run_text(text, services=Services(components=Components(CHILD)))
    assert ran.status == "success" and "CmdExecution: Stdout: child-none" in ran.lines
    assert "child/1.0.0/1 has no parameter 'Nmae': its value is not used (did you mean 'Name'?)" in ran.log
    ran = run_text(text, services=Services(components=Components(document(bash("true", name="Inner")))))
    assert "has no parameter 'Nmae': its value is not used (it has no parameters)" in ran.log


def test_a_parameter_given_twice_fails_the_step(run_text: RunText) -> None:
    """Neither value is taken for the other."""
    values = [{"name": "Name", "value": value} for value in ("one", "two")]
    text = one_step("ExecuteDocument", {"document": ARN, "parameters": values})
    ran = run_text(text, services=Services(components=Components(CHILD)))
    assert ran.step("Step").error_message == "the parameter 'Name' is given twice; write it once"


def test_failures(run_text: RunText) -> None:
    """What cannot be found or read fails the step in words."""
    for name, told in (
        ("none.yml", "the document 'none.yml' cannot be read"),
        (ARN.replace("child", "other"), "cannot be read"),
        ("s3://bucket", "names a bucket"),
    ):
        ran = run_text(
            one_step("ExecuteDocument", {"document": name}), services=Services(components=Components(""))
        )
        assert told in ran.step("Step").error_message, ran.step("Step").error_message
    without = run_text(one_step("ExecuteDocument", {"document": ARN}))
    assert "no component store is configured" in without.step("Step").error_message
    broken = run_text(
        one_step("ExecuteDocument", {"document": ARN}), services=Services(components=Components("schemaVersion: 9"))
    )
    assert "Failed to parse document. Error: line 1" in broken.step("Step").error_message


def test_a_failing_child_fails_the_step(run_text: RunText) -> None:
    """The step fails with the child's message, and the failure names the outer document."""
    child = document(bash("echo why >&2", "exit 4", name="Inner"))
    ran = run_text(one_step("ExecuteDocument", {"document": ARN}), services=Services(components=Components(child)))
    assert ran.status == "failed"
    assert "Step 'Inner' in phase 'build': exit status 4" in ran.step("Step").error_message
    assert ran.step("Step").outputs[0]["status"] == "failed"
    failure = ran.result.failure
    assert failure is not None
    assert (failure.document_label, failure.step, failure.stderr) == ("doc1.yml", "Step", "why\n")


def test_a_document_cannot_run_itself(run_text: RunText) -> None:
    """A cycle is found when it is about to begin."""
    child = one_step("ExecuteDocument", {"document": ARN})
    ran = run_text(one_step("ExecuteDocument", {"document": ARN}), services=Services(components=Components(child)))
    assert "would run itself" in ran.step("Step").error_message


def test_nesting_is_bounded(run_text: RunText) -> None:
    """Four documents in a chain run, a fifth does not."""
    for depth, status in ((3, "success"), (4, "failed")):
        steps = []
        for level in range(depth, 0, -1):
            last = level == depth
            text = (
                document(bash("echo deepest"))
                if last
                else one_step("ExecuteDocument", {"document": f"d{level + 1}.yml"})
            )
            steps.append(
                one_step("CreateFile", {"path": f"d{level}.yml", "content": text}, name=f"Make{level}").partition(
                    "steps:\n"
                )[2]
            )
        steps.append(one_step("ExecuteDocument", {"document": "d1.yml"}).partition("steps:\n")[2])
        ran = run_text(document(*steps))
        assert ran.status == status, ran.log
    assert "nested 3 levels deep" in ran.log


def test_a_child_may_repeat_in_a_loop(run_text: RunText) -> None:
    """The same child may run again and again; its summaries are joined."""
    text = one_step("ExecuteDocument", {"document": ARN}, extra="loop:\n  forEach: [a, b]")
    ran = run_text(text, services=Services(components=Components(CHILD)))
    assert ran.status == "success"
    assert ran.step("Step").outputs[0]["status"] == "success\nsuccess"
    assert len(ran.step("Step").detailed) == 2
