"""What the model's documentation says of effects, where no other test shows it (docs/sentences.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from imagesmith.inspection.scanning.advisories import Advisory
from imagesmith.inspection.scanning.findings import Finding, VulnerablePackage
from imagesmith.store import amis, executions, lifecycle, queries
from imagesmith.store.amis import Ami
from imagesmith.store.execution_state import ExecutionState
from imagesmith.store.executions import StepExecution, WorkflowExecution
from imagesmith.store.lifecycle import LifecycleExecution, LifecycleResource
from imagesmith.store.records import microseconds
from imagesmith.store.step_state import StepState
from imagesmith.values.states import ExecutionStatus, ImageStatus, LifecycleOutcome, LifecycleStatus, StepStatus
from testing.api import ACCOUNT, REGION, Api, create
from testing.inhabited import POLICY, UNKNOWN_ID, lifecycle_policy
from testing.refusals import refused


@pytest.fixture
def database_kind() -> str:
    """The store makes no difference to what is asserted here."""
    return "sqlite"


AMI: Final = "ami-0123456789abcdef0"


def machine_image(api: Api, status: str = "AVAILABLE") -> str:
    """An image with an AMI."""
    infrastructure = api.infrastructure(name=f"infra-{api.rows()}")
    made = api.client.create_image(imageRecipeArn=api.image_recipe(), infrastructureConfigurationArn=infrastructure)
    arn = str(made["imageBuildVersionArn"])
    with api.database.write("ami") as tx:
        amis.put_ami(tx, Ami(AMI, ACCOUNT, REGION, "box 1", "sha256:" + "1" * 64, api.clock(), arn, {}))
    api.set_state(arn, status, digest="sha256:" + "1" * 64)
    return arn


def test_deleting_the_record_of_an_image_leaves_its_ami(api: Api) -> None:
    """The catalog has it as before, and a recipe takes it."""
    arn = machine_image(api)
    api.client.delete_image(imageBuildVersionArn=arn)
    with refused("ResourceNotFoundException"):
        api.client.get_image(imageBuildVersionArn=arn)
    with api.database.read() as tx:
        assert amis.get_ami(tx, AMI) is not None
    api.image_recipe(name="on it", parentImage=AMI)


def test_deleting_a_policy_takes_nothing_back(api: Api) -> None:
    """An image that it deprecated stays deprecated, with its AMI."""
    arn = machine_image(api)
    policy = lifecycle_policy(api, "policy")
    api.client.start_resource_state_update(resourceArn=arn, state={"status": "DEPRECATED"})
    before = api.client.get_image(imageBuildVersionArn=arn)["image"]
    api.client.delete_lifecycle_policy(lifecyclePolicyArn=policy)
    assert before["state"]["status"] == "DEPRECATED"
    assert api.client.get_image(imageBuildVersionArn=arn)["image"] == before


def test_exclusions_mean_nothing_without_amis(api: Api) -> None:
    """An image changes although a rule would exclude its AMI, because the AMI is not included."""
    arn = machine_image(api)
    with api.database.write("tag") as tx:
        found = amis.get_ami(tx, AMI)
        assert found is not None
        amis.put_ami(tx, Ami(**{**found.__dict__, "document": {"tags": {"keep": "yes"}}}))
    answer = api.client.start_resource_state_update(
        resourceArn=arn, state={"status": "DEPRECATED"}, exclusionRules={"amis": {"tagMap": {"keep": "yes"}}}
    )
    assert "lifecycleExecutionId" not in answer
    assert api.client.get_image(imageBuildVersionArn=arn)["image"]["state"]["status"] == "DEPRECATED"


def test_what_an_image_is_distributed_by_is_of_its_region(api: Api) -> None:
    """A configuration of another Region is not found."""
    api.distribution()
    elsewhere = f"arn:aws:imagebuilder:us-east-1:{ACCOUNT}:distribution-configuration/dist"
    with refused("ResourceNotFoundException") as refusal:
        api.client.distribute_image(
            sourceImage=AMI, distributionConfigurationArn=elsewhere, executionRole="role/distribute"
        )
    assert elsewhere in refusal.message


@pytest.mark.parametrize(
    ("fixed", "expected"), [(("1", "2"), "YES"), (("1", ""), "PARTIAL"), (("", ""), "NO"), (("", "2"), "PARTIAL")]
)
def test_a_fix_for_some_packages_is_partial(fixed: tuple[str, ...], expected: str) -> None:
    """YES for all, NO for none."""
    packages = tuple(VulnerablePackage(f"p{version}", "0", "amd64", "deb", "", version) for version in fixed)
    finding = Finding(Advisory("CVE-2026-1", "HIGH", "osv"), packages)
    assert finding.fix_available == finding.to_json()["fix_available"] == expected


@pytest.mark.parametrize("status", [status for status in ImageStatus if status != ImageStatus.DELETED])
def test_only_a_failed_image_has_a_context(api: Api, status: ImageStatus) -> None:
    """Whatever ended an image that did not fail, its state tells no failure."""
    from imagesmith.builds.records import ImageFailure

    arn = create(api, api.recipe())
    if status == ImageStatus.FAILED:
        api.records.finish(arn, status, failure=ImageFailure("it broke", {"imageStatus": "BUILDING"}))
    elif status in (ImageStatus.AVAILABLE, ImageStatus.CANCELLED):
        api.records.finish(arn, status)
    else:
        api.records.move(arn, status)
    state = api.client.get_image(imageBuildVersionArn=arn)["image"]["state"]
    assert state["status"] == status
    assert ("failureContext" in state) is (status == ImageStatus.FAILED) is ("reason" in state)


def test_the_resources_of_an_execution_are_those_of_its_own_images(api: Api) -> None:
    """Without a parent its images, with one the outputs of that; for another image nothing."""
    arn = machine_image(api)
    id = f"lce-{UNKNOWN_ID}"
    document = {
        "account": ACCOUNT, "region": REGION, "action": "DELETE", "startTime": "2026-11-29T00:00:00.000Z",
    }  # fmt: skip
    with api.database.write("lifecycle") as tx:
        lifecycle.put_execution(
            tx,
            LifecycleExecution(
                id=id,
                account=ACCOUNT,
                region=REGION,
                subject=arn,
                status=LifecycleStatus.IN_PROGRESS,
                started=api.clock(),
            ),
        )
        lifecycle.add_resources(
            tx,
            [
                LifecycleResource(
                    execution_id=id, resource_id=resource, position=0, status=LifecycleOutcome.SUCCESS,
                    parent_id=parent, document=document,
                )
                for resource, parent in ((arn, ""), (AMI, arn))
            ],
        )  # fmt: skip

    def listed(**members: Any) -> list[str]:
        answer = api.client.list_lifecycle_execution_resources(lifecycleExecutionId=id, **members)
        return [item["resourceId"] for item in answer["resources"]]

    assert listed() == [arn]
    assert listed(parentResourceId=arn) == [AMI]
    assert listed(parentResourceId=arn[:-1] + "9") == []


def test_an_answer_names_the_image_of_its_step(api: Api) -> None:
    """Another image is refused with the path of the member, and the step waits on; then it is answered once."""
    arn = create(api, api.recipe())
    other = create(api, api.arn("container-recipe", "web/1.0.0"))
    step, run = f"step-{UNKNOWN_ID}", f"wf-{UNKNOWN_ID}"
    deadline = microseconds(api.clock() + timedelta(hours=1))
    state = StepState(name="Ask", action="WaitForAction", on_failure="Abort", timeout_seconds=60, deadline=deadline)
    with api.database.write("waiting") as tx:
        place: Mapping[str, Any] = {"image_arn": arn, "account": ACCOUNT, "region": REGION, "position": 0}
        workflow = ExecutionState(workflow_arn=api.arn("workflow", "test/mine/1.0.0/1"), type="TEST")
        waiting = StepExecution(
            id=step, execution_id=run, status=StepStatus.WAITING, started=1, state=state, **place
        )
        executions.put_execution(
            tx, WorkflowExecution(id=run, status=ExecutionStatus.RUNNING, state=workflow, **place), [waiting]
        )
    with refused("InvalidParameterValueException") as refusal:
        api.client.send_workflow_step_action(stepExecutionId=step, imageBuildVersionArn=other, action="RESUME")
    assert "'imageBuildVersionArn'" in refusal.message
    assert [item["stepExecutionId"] for item in api.client.list_waiting_workflow_steps()["steps"]] == [step]
    api.client.send_workflow_step_action(stepExecutionId=step, imageBuildVersionArn=arn, action="RESUME")
    with refused("InvalidRequestException"):
        api.client.send_workflow_step_action(stepExecutionId=step, imageBuildVersionArn=arn, action="STOP")


def test_a_step_and_its_run_show_what_is_recorded(api: Api) -> None:
    """One attempt of one, what follows a failure, its limit, the group, and the counters of the run."""
    arn = create(api, api.recipe())
    run = f"wf-{UNKNOWN_ID}"
    place: Mapping[str, Any] = {"image_arn": arn, "account": ACCOUNT, "region": REGION, "position": 0}
    workflow = ExecutionState(
        workflow_arn=api.arn("workflow", "test/mine/1.0.0/1"), type="TEST", parallel_group="g"
    )
    statuses = (StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.FAILED, StepStatus.PENDING)
    state = StepState(name="Ask", action="WaitForAction", on_failure="Abort", timeout_seconds=604800)
    steps = [
        StepExecution(
            id=f"step-{UNKNOWN_ID[:-1]}{number}", execution_id=run, status=status, started=1, state=state,
            **{**place, "position": number},
        )
        for number, status in enumerate(statuses)
    ]  # fmt: skip
    with api.database.write("records") as tx:
        executions.put_execution(
            tx, WorkflowExecution(id=run, status=ExecutionStatus.FAILED, state=workflow, **place), steps
        )
    one = api.client.get_workflow_step_execution(stepExecutionId=steps[0].id)
    assert (one["attemptNumber"], one["maxAttempts"], one["onFailure"]) == (1, 1, "Abort")
    assert one["timeoutSeconds"] == 604800 and one["imageBuildVersionArn"] == arn
    listed = api.client.list_workflow_step_executions(workflowExecutionId=run)["steps"]
    assert [item["status"] for item in listed] == [str(status) for status in statuses]
    assert all((item["attemptNumber"], item["maxAttempts"]) == (1, 1) for item in listed)
    for found in (
        api.client.get_workflow_execution(workflowExecutionId=run),
        *api.client.list_workflow_executions(imageBuildVersionArn=arn)["workflowExecutions"],
    ):
        counts = [found[f"total{name}"] for name in ("StepCount", "StepsSucceeded", "StepsSkipped", "StepsFailed")]
        assert counts == [4, 1, 1, 1] and found["parallelGroup"] == "g" and found["status"] == "FAILED"


def test_the_working_directory_is_tmp_unless_it_is_given(api: Api) -> None:
    """In the plan of a run; a recipe does not show the default."""
    infrastructure = api.infrastructure()
    for name, members, expected in (("plain", {}, "/tmp"), ("given", {"workingDirectory": "/work"}, "/work")):
        made = api.client.create_image(
            imageRecipeArn=api.image_recipe(name=name, **members), infrastructureConfigurationArn=infrastructure
        )
        plan = api.records.plan(made["imageBuildVersionArn"])
        assert plan is not None and plan.working_directory == expected


_FULL: Final[dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]]] = {
    "infrastructure_configuration": (
        "infrastructureConfigurationArn",
        {"instanceProfileName": "p"},
        {
            "instanceProfileName": "q", "description": "d", "instanceTypes": ["m5.large"], "keyPair": "k",
            "securityGroupIds": ["sg-1"], "subnetId": "subnet-1", "terminateInstanceOnFailure": False,
            "terminateInstanceOnCompletion": False, "resourceTags": {"a": "b"},
            "placement": {"tenancy": "dedicated"},
            "logging": {"s3Logs": {"s3BucketName": "logs"}}, "instanceMetadataOptions": {"httpTokens": "required"},
            "snsTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:x",
        },
    ),
    "distribution_configuration": (
        "distributionConfigurationArn",
        {"distributions": [{"region": REGION, "amiDistributionConfiguration": {}}]},
        {
            "description": "d",
            "distributions": [
                {"region": "us-east-1", "amiDistributionConfiguration": {"description": "d"}},
                {"region": "us-east-2", "launchTemplateConfigurations": [{"launchTemplateId": f"lt-{1:017x}"}]},
            ],
        },
    ),
    "lifecycle_policy": (
        "lifecyclePolicyArn",
        {**POLICY},
        {
            **POLICY, "description": "d", "status": "DISABLED",
            "resourceSelection": {"recipes": [{"name": "web", "semanticVersion": "x.x.x"}]},
        },
    ),
}  # fmt: skip
"""Kind -> its ARN member, the least members, many members."""


@pytest.mark.parametrize("kind", sorted(_FULL))
def test_an_update_with_the_least_members_leaves_what_a_create_would(api: Api, kind: str) -> None:
    """Nothing that was set before is kept, apart from name, tags and the date of creation."""
    member, least, many = _FULL[kind]

    def call(verb: str) -> Callable[..., Any]:
        return getattr(api.client, f"{verb}_{kind}")  # type: ignore[no-any-return]

    left_out = ("arn", "name", "dateCreated", "dateUpdated")

    def shown(arn: str) -> dict[str, Any]:
        answer = call("get")(**{member: arn})
        [found] = [value for name, value in answer.items() if isinstance(value, dict) and "arn" in value]
        return {name: value for name, value in found.items() if name not in left_out}

    plain = call("create")(name="plain", **least)[member]
    changed = call("create")(name="changed", **many)[member]
    assert shown(changed) != shown(plain)
    call("update")(**{member: changed}, **least)
    assert shown(changed) == shown(plain)
    with api.database.read() as tx:
        assert queries.get(tx, changed) is not None
