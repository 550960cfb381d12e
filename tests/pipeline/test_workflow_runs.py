"""Images that are built by workflows of their own, through the API of a real server."""

from __future__ import annotations

import json
import subprocess

import pytest
from botocore.exceptions import ClientError

from testing.pipeline_support import Forge, RunningServer, eventually, image_digest, read_tool, uris
from testing.workflow_support import (
    INSTANCE,
    TEST,
    TEST_LAUNCH,
    answer,
    build_document,
    executions,
    run_with,
    shell,
    statuses,
    steps,
    waiting,
    workflow,
)

pytestmark = pytest.mark.tool


def test_a_default_build_has_the_records_of_the_managed_workflows(forge: Forge) -> None:
    """Their steps by name and in order, what was skipped, counters, inputs and outputs as JSON text."""
    image = forge.build(forge.recipe(forge.component(build="true")))
    build, test = executions(forge, image["arn"])
    assert [build["type"], test["type"]] == ["BUILD", "TEST"]
    assert ":aws:workflow/build/build-container/" in build["workflowBuildVersionArn"]
    assert (build["status"], build["totalStepCount"], build["totalStepsSucceeded"]) == ("COMPLETED", 3, 3)
    assert (test["totalStepCount"], test["totalStepsSucceeded"], test["totalStepsSkipped"]) == (5, 3, 2)
    assert build["retried"] is False and "parallelGroup" not in build
    assert list(steps(forge, build["workflowExecutionId"])) == [
        "LaunchBuildInstance", "BootstrapBuildInstance", "ApplyBuildComponents",
    ]  # fmt: skip
    assert statuses(forge, test["workflowExecutionId"]) == {
        "LaunchTestInstance": "COMPLETED", "BootstrapTestInstance": "COMPLETED",
        "CollectImageScanFindings": "SKIPPED", "ApplyTestComponents": "SKIPPED",
        "TerminateTestInstance": "COMPLETED",
    }  # fmt: skip
    launch = steps(forge, build["workflowExecutionId"])["LaunchBuildInstance"]
    assert json.loads(launch["inputs"]) == {"waitFor": "ssmAgent"}
    instance = json.loads(launch["outputs"])["instanceId"]
    skipped = steps(forge, test["workflowExecutionId"])["CollectImageScanFindings"]
    assert skipped["startTime"] == skipped["endTime"] and "outputs" not in skipped
    assert json.loads(skipped["inputs"]) == {"instanceId.$": "$.stepOutputs.LaunchTestInstance.instanceId"}
    one = forge.client.get_workflow_step_execution(stepExecutionId=launch["stepExecutionId"])
    assert (one["onFailure"], one["timeoutSeconds"], one["action"]) == ("Abort", 4500, "LaunchInstance")
    assert one["imageBuildVersionArn"] == image["arn"] and instance.startswith("i-")
    whole = forge.client.get_workflow_execution(workflowExecutionId=build["workflowExecutionId"])
    assert "retried" not in whole and whole["status"] == "COMPLETED"


def test_a_build_workflow_makes_what_its_steps_do(forge: Forge, server: RunningServer) -> None:
    """Parameters, chained outputs, a false condition, a failure that may be; a test sees what was built."""
    build = workflow(
        forge, "BUILD",
        build_document(
            shell("Write", "echo {{ $.parameters.word }} > /word; cat /word")
            + shell("Fails", "echo oops >&2; exit 3", "    onFailure: Continue\n")
            + shell("Never", "exit 1", "    if: {stringEquals: yes, value: '$.parameters.word'}\n"),
            '  - {name: Said, value: "$.stepOutputs.Write.output[0]"}\n',
        ),
    )  # fmt: skip
    test = workflow(
        forge, "TEST",
        TEST + TEST_LAUNCH + shell("Look", "test \"$(cat /word)\" = '{{ $.workflowOutputs.Said }}'"),
    )  # fmt: skip
    parameters = [{"name": "word", "value": ["hello"]}]
    arn = run_with(forge, {"workflowArn": build, "parameters": parameters}, test)
    image = forge.finished(arn)
    built, tested = executions(forge, arn)
    assert (built["totalStepsSucceeded"], built["totalStepsFailed"], built["totalStepsSkipped"]) == (2, 1, 1)
    found = steps(forge, built["workflowExecutionId"])
    assert json.loads(found["Write"]["outputs"])["output"] == ["hello"]
    failed = json.loads(found["Fails"]["outputs"])
    assert failed["status"] == "Failed" and "exit status 3" in failed["errorMessage"]
    assert "oops" in found["Fails"]["message"] and found["Never"]["status"] == "SKIPPED"
    assert tested["status"] == "COMPLETED"
    assert image_digest(f"docker://{uris(image)[0]}")
    assert not server.containers()


def test_a_failed_step_rolls_back_and_names_itself(forge: Forge, server: RunningServer) -> None:
    """Later steps stay PENDING, the instance is gone, the reason and the failureContext name run and step."""
    build = workflow(forge, "BUILD", build_document(shell("Breaks", "echo sad; exit 7") + shell("Later", "true")))
    arn = run_with(forge, build)
    state = forge.finished(arn, "FAILED")["state"]
    [execution] = executions(forge, arn)
    id = execution["workflowExecutionId"]
    assert execution["status"] == "ROLLBACK_COMPLETED"
    assert state["reason"].startswith(f"Workflow Execution ID: '{id}' failed with reason: ")
    assert "sad" in state["reason"]
    found = steps(forge, id)
    context = state["failureContext"]
    assert (context["imageStatus"], context["failedStep"]) == ("BUILDING", "Breaks")
    assert context["workflowArn"] == build and context["workflowExecutionId"] == id
    assert context["stepExecutionId"] == found["Breaks"]["stepExecutionId"]
    assert {name: step.get("rollbackStatus") for name, step in found.items()} == {
        "Launch": "COMPLETED", "Breaks": "SKIPPED", "Later": None,
    }  # fmt: skip
    assert found["Later"]["status"] == "PENDING" and "inputs" not in found["Later"]
    assert not server.containers()


def test_an_instance_is_kept_for_a_look_inside(forge: Forge, server: RunningServer) -> None:
    """With terminateInstanceOnFailure false the log says how to enter and remove it, and both work."""
    build = workflow(forge, "BUILD", build_document(shell("Breaks", "echo evidence > /found; exit 7")))
    infrastructure = forge.infrastructure(terminateInstanceOnFailure=False)
    arn = run_with(forge, build, infrastructureConfigurationArn=infrastructure)
    forge.finished(arn, "FAILED")
    [execution] = executions(forge, arn)
    launch = steps(forge, execution["workflowExecutionId"])["Launch"]
    instance = json.loads(launch["outputs"])["instanceId"]
    assert launch["rollbackStatus"] == "SKIPPED"
    assert server.containers() == [instance]
    log = server.log(arn)
    enter = log.split("enter it with: ")[1].splitlines()[0]
    assert "outside the sandbox" in log.split("enter it with: ")[1].splitlines()[1]
    remove = log.split("remove it with: ")[1].splitlines()[0]
    entered = subprocess.run(["sh", "-c", enter], input="cat /found", capture_output=True, text=True, check=True)
    assert entered.stdout == "evidence\n"
    read_tool("sh", "-c", remove)
    assert server.containers() == []


def test_a_wait_is_answered_with_words(forge: Forge, server: RunningServer) -> None:
    """The step is WAITING and listed; RESUME goes on with the reason as an output; a second answer is refused."""
    build = workflow(
        forge, "BUILD",
        build_document(
            "  - {name: Ask, action: WaitForAction}\n" + shell("Use", "echo '{{ $.stepOutputs.Ask.reason }}'")
        ),
    )  # fmt: skip
    arn = run_with(forge, build)
    step = waiting(forge, arn)
    assert (step["name"], step["action"]) == ("Ask", "WaitForAction")
    one = forge.client.get_workflow_step_execution(stepExecutionId=step["stepExecutionId"])
    assert one["status"] == "WAITING" and "endTime" not in one
    events = [event for event in json.loads(server.command("event", "list", "--json")) if arn in event["resources"]]
    [event] = [event for event in events if event["detail-type"] == "EC2 Image Builder Workflow Step Waiting"]
    assert event["resources"] == [arn, build]
    assert event["detail"]["workflow-step-execution-id"] == step["stepExecutionId"]
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        answer(forge, {**step, "imageBuildVersionArn": arn.rpartition("/")[0] + "/999"})
    reason = "{{ $.parameters.word }} go"
    answer(forge, step, reason=reason)
    with pytest.raises(ClientError, match="InvalidRequest"):
        answer(forge, step)
    forge.finished(arn)
    [execution] = executions(forge, arn)
    found = steps(forge, execution["workflowExecutionId"])
    assert json.loads(found["Ask"]["outputs"]) == {"action": "RESUME", "reason": reason}
    assert json.loads(found["Use"]["outputs"])["output"] == [reason]


def test_a_stopped_wait_fails_with_the_reason(forge: Forge) -> None:
    """STOP ends the image FAILED, and what was said is in its reason."""
    build = workflow(forge, "BUILD", build_document("  - {name: Ask, action: WaitForAction}"))
    arn = run_with(forge, build)
    answer(forge, waiting(forge, arn), "STOP", reason="not on a Friday")
    assert "not on a Friday" in forge.finished(arn, "FAILED")["state"]["reason"]


def test_a_wait_that_nobody_answers_times_out(forge: Forge) -> None:
    """The step is FAILED after its timeoutSeconds, and an answer is refused then."""
    build = workflow(forge, "BUILD", build_document("  - {name: Ask, action: WaitForAction, timeoutSeconds: 2}"))
    arn = run_with(forge, build)
    step = waiting(forge, arn)
    assert "Step timed out after 2 seconds" in forge.finished(arn, "FAILED")["state"]["reason"]
    with pytest.raises(ClientError, match="InvalidRequest"):
        answer(forge, step)


def test_a_cancelled_wait_is_over(forge: Forge) -> None:
    """CancelImageCreation of a waiting image: image, run and step are CANCELLED, and nothing waits any more."""
    build = workflow(forge, "BUILD", build_document("  - {name: Ask, action: WaitForAction}"))
    arn = run_with(forge, build)
    waiting(forge, arn)
    forge.client.cancel_image_creation(imageBuildVersionArn=arn)
    eventually(lambda: forge.state(arn) == "CANCELLED", "CANCELLED", seconds=10)
    [execution] = executions(forge, arn)
    assert execution["status"] == "CANCELLED"
    assert statuses(forge, execution["workflowExecutionId"]) == {"Launch": "COMPLETED", "Ask": "CANCELLED"}
    assert forge.client.list_waiting_workflow_steps()["steps"] == []


def test_each_step_has_a_log_of_its_own(forge: Forge, server: RunningServer) -> None:
    """`image logs --step` has the lines of one step, `image steps` all steps; an unknown step is named."""
    build = workflow(forge, "BUILD", build_document(shell("One", "echo first") + shell("Two", "echo second")))
    arn = run_with(forge, build)
    forge.finished(arn)
    only = server.command("image", "logs", arn, "--step", "Two")
    assert "second" in only and "first" not in only
    assert "Two COMPLETED" in only.splitlines()[-1]
    table = server.command("image", "steps", arn)
    assert "RunCommand" in table and "LaunchInstance" in table
    [run] = json.loads(server.command("image", "steps", arn, "--json"))
    assert [step["status"] for step in run["steps"]] == ["COMPLETED"] * 3
    assert run["steps"][2]["outputs"]["output"] == ["second"]
    assert "its steps are: Launch, One, Two" in server.command("image", "logs", arn, "--step", "Three", status=1)


def test_a_wait_is_approved_from_the_command_line(forge: Forge, server: RunningServer) -> None:
    """`image approve` and `image reject` find the step by its image; without one that waits they say so."""
    ask = workflow(forge, "TEST", TEST + "  - {name: Ask, action: WaitForAction}\n")
    for command, status in (("approve", "AVAILABLE"), ("reject", "FAILED")):
        arn = run_with(forge, ask)
        waiting(forge, arn)
        told = server.command("image", command, arn, "--reason", "seen it")
        assert "sent to Ask of" in told
        forge.finished(arn, status)
    assert "no step of" in server.command("image", "approve", arn, status=1)


def group_of(forge: Forge, *commands: str, on_failure: str = "ABORT") -> list[dict[str, str]]:
    entries = []
    for command in commands:
        arn = workflow(forge, "TEST", TEST + TEST_LAUNCH + shell("Work", command))
        entries.append({"workflowArn": arn, "parallelGroup": "g", "onFailure": on_failure})
    return entries


def test_a_parallel_group_runs_five_at_a_time(forge: Forge) -> None:
    """Of seven members at most five run at once; all end before the image does."""
    entries = group_of(forge, *["sleep 1"] * 7)
    arn = run_with(forge, *entries)
    most = 0
    while forge.state(arn) in ("PENDING", "CREATING", "BUILDING", "TESTING"):
        running = [item for item in executions(forge, arn) if item["status"] in ("PENDING", "RUNNING")]
        most = max(most, len(running))
    forge.finished(arn)
    found = executions(forge, arn)
    assert most == 5
    assert [item["workflowBuildVersionArn"] for item in found] == [entry["workflowArn"] for entry in entries]
    assert [item["status"] for item in found] == ["COMPLETED"] * 7
    assert {item["parallelGroup"] for item in found} == {"g"}


def test_an_abort_cancels_the_rest_of_its_group(forge: Forge, server: RunningServer) -> None:
    """Running members are CANCELLED at once, later workflows do not begin, the image says whose failure it was."""
    entries = group_of(forge, "sleep 300", "sleep 1; echo culprit; exit 4")
    later = workflow(forge, "TEST", TEST + TEST_LAUNCH)
    arn = run_with(forge, *entries, later)
    state = forge.finished(arn, "FAILED", seconds=60)["state"]
    assert "culprit" in state["reason"] and state["failureContext"]["imageStatus"] == "TESTING"
    found = executions(forge, arn)
    assert [item["status"] for item in found] == ["CANCELLED", "ROLLBACK_COMPLETED"]
    assert not server.containers()


def test_failures_that_may_be_do_not_stop_a_group(forge: Forge) -> None:
    """With onFailure CONTINUE the others end, and so does the image."""
    arn = run_with(forge, *group_of(forge, "exit 4", "true", on_failure="CONTINUE"))
    forge.finished(arn)
    found = executions(forge, arn)
    assert [item["status"] for item in found] == ["ROLLBACK_COMPLETED", "COMPLETED"]


def test_without_a_build_workflow_the_parent_is_the_image(forge: Forge, server: RunningServer) -> None:
    """Only a TEST workflow: it runs on the parent; with tests switched off it is recorded as SKIPPED."""
    test = workflow(forge, "TEST", TEST + TEST_LAUNCH + shell("Look", "test -e /bin/sh"))
    arn = run_with(forge, test)
    image = forge.finished(arn)
    assert [item["status"] for item in executions(forge, arn)] == ["COMPLETED"]
    assert image["outputResources"]["containers"]
    arn = run_with(forge, test, imageTestsConfiguration={"imageTestsEnabled": False})
    forge.finished(arn)
    [execution] = executions(forge, arn)
    assert (execution["status"], execution["totalStepsSkipped"]) == ("SKIPPED", 2)


def test_a_distribution_workflow_pushes_itself(forge: Forge, server: RunningServer) -> None:
    """The managed one after a build workflow of one's own: its outputs name the Regions, the image the URIs."""
    build = workflow(forge, "BUILD", build_document(""))
    managed = f"arn:aws:imagebuilder:{forge.region}:aws:workflow/distribution/distribute-container/x.x.x"
    arn = run_with(forge, build, managed)
    image = forge.finished(arn)
    found = executions(forge, arn)
    assert [item["type"] for item in found] == ["BUILD", "DISTRIBUTION"]
    pushed = steps(forge, found[1]["workflowExecutionId"])["DistributeContainer"]
    assert json.loads(pushed["outputs"]) == {
        "status": "Completed", "succeededRegions": [forge.region], "failedRegions": [],
    }  # fmt: skip
    assert image_digest(f"docker://{uris(image)[0]}")


def test_an_action_of_machine_images_is_refused_in_one_sentence(forge: Forge) -> None:
    """CreateImage in the workflow of a container image fails the step and says what to do."""
    build = workflow(
        forge, "BUILD",
        build_document(f"  - {{name: Make, action: CreateImage, inputs: {{{INSTANCE}}}}}"),
    )  # fmt: skip
    reason = forge.finished(run_with(forge, build), "FAILED")["state"]["reason"]
    assert "CreateImage is for machine images, and this run makes a container image" in reason


def test_metadata_and_components_are_steps_too(forge: Forge) -> None:
    """ExecuteComponents and CollectImageMetadata in a workflow of one's own; a retry of containers is refused."""
    build = workflow(
        forge, "BUILD",
        build_document(
            f"  - {{name: Apply, action: ExecuteComponents, inputs: {{{INSTANCE}}}}}\n"
            f"  - {{name: Agent, action: WaitForSSMAgent, inputs: {{{INSTANCE}}}}}\n"
            f"  - {{name: Meta, action: CollectImageMetadata, inputs: {{{INSTANCE}}}}}\n"
            + shell("Look", "cat /made")
        ),
    )  # fmt: skip
    recipe = forge.recipe(forge.component(build="echo made > /made"))
    arn = run_with(forge, build, recipe=recipe)
    forge.finished(arn)
    found = steps(forge, executions(forge, arn)[0]["workflowExecutionId"])
    assert json.loads(found["Look"]["outputs"])["output"] == ["made"]
    assert json.loads(found["Agent"]["outputs"]) == {"status": "Online"}
    assert json.loads(found["Meta"]["outputs"])["associationId"]
    with pytest.raises(ClientError, match="InvalidRequest"):
        forge.client.retry_image(imageBuildVersionArn=arn)
