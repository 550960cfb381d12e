"""`dryRun` of every operation that has it (spec/api.md 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from imagesmith.resources.operations import built_operations
from testing.api import DOCUMENT, TEMPLATE, WORKFLOW, Api
from testing.loaded import service_model
from testing.refusals import refused

Members = dict[str, Any]


def component(_: Api) -> Members:
    return {"name": "dry", "semanticVersion": "1.0.0", "platform": "Linux", "data": DOCUMENT}


def container_recipe(api: Api) -> Members:
    return {
        "name": "dry", "semanticVersion": "1.0.0", "containerType": "DOCKER", "dockerfileTemplateData": TEMPLATE,
        "parentImage": api.arn("image", "debian-x86-12/x.x.x", owner="aws"),
        "components": [{"componentArn": api.arn("component", "hello-world-linux/x.x.x", owner="aws")}],
        "targetRepository": {"service": "ECR", "repositoryName": "dry"},
    }  # fmt: skip


def image_recipe(_: Api) -> Members:
    return {"name": "dry", "semanticVersion": "1.x.x", "parentImage": "ami-0123456789abcdef0"}


def distribution(_: Api) -> Members:
    return {"name": "dry", "distributions": [{"region": "eu-west-1", "amiDistributionConfiguration": {}}]}


def infrastructure(_: Api) -> Members:
    return {"name": "dry", "instanceProfileName": "profile"}


def pipeline(api: Api) -> Members:
    return {
        "name": "dry", "containerRecipeArn": api.recipe(), "infrastructureConfigurationArn": api.infrastructure()
    }  # fmt: skip


def lifecycle_policy(_: Api) -> Members:
    rule = {"action": {"type": "DELETE"}, "filter": {"type": "COUNT", "value": 3}}
    return {
        "name": "dry", "executionRole": "role/lifecycle", "resourceType": "AMI_IMAGE", "policyDetails": [rule],
        "resourceSelection": {"tagMap": {"team": "web"}},
    }  # fmt: skip


def workflow(_: Api) -> Members:
    return {"name": "dry", "semanticVersion": "1.0.0", "type": "TEST", "data": WORKFLOW}


CREATES: Mapping[str, tuple[Callable[[Api], Members], Members, str]] = {
    "CreateComponent": (component, {"data": "phases: 1"}, "InvalidParameterValueException"),
    "CreateContainerRecipe": (container_recipe, {"parentImage": "-"}, "InvalidParameterValueException"),
    "CreateDistributionConfiguration": (
        distribution, {"distributions": [{"region": "a"}, {"region": "a"}]}, "InvalidParameterValueException",
    ),
    "CreateImagePipeline": (
        pipeline, {"schedule": {"scheduleExpression": "rate(1 hours)"}}, "InvalidParameterValueException",
    ),
    "CreateImageRecipe": (image_recipe, {"semanticVersion": "1073741824.0.0"}, "InvalidVersionNumberException"),
    "CreateInfrastructureConfiguration": (
        infrastructure, {"subnetId": "subnet-1"}, "InvalidParameterCombinationException",
    ),
    "CreateLifecyclePolicy": (
        lifecycle_policy, {"resourceSelection": {}}, "InvalidParameterCombinationException",
    ),
    "CreateWorkflow": (workflow, {"data": "steps: []"}, "InvalidRequestException"),
}  # fmt: skip
"""Operation -> members of a request, a change that makes it wrong, the error of that."""


def call(api: Api, operation: str, members: Members) -> Any:
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation)
    return getattr(api.client, words[1:])(**members)


def test_every_built_operation_with_a_dry_run_is_in_the_table() -> None:
    """A new operation that has the member gets a row."""
    operations = service_model().operations
    wanted = {name for name in built_operations() if "dryRun" in operations[name].input.members}
    assert wanted == set(CREATES)


@pytest.mark.parametrize("operation", CREATES)
def test_a_dry_run_says_that_the_request_would_succeed_and_does_nothing(api: Api, operation: str) -> None:
    """The same token creates the resource afterwards, and the dry run of an existing one reports that it exists."""
    make, _, _ = CREATES[operation]
    members = {**make(api), "clientToken": "t-1"}
    stored = api.rows()
    for _ in range(2):
        with refused("DryRunOperationException") as refusal:
            call(api, operation, {**members, "dryRun": True})
        assert refusal.status == 412
        assert refusal.message == "Request would have succeeded, but dryRun flag is set."
    assert api.rows() == stored
    answer = call(api, operation, {**members, "dryRun": False})
    assert api.rows() == stored + 1
    assert call(api, operation, {**members, "dryRun": False})["clientToken"] == "t-1"
    if operation == "CreateImageRecipe":
        assert answer["imageRecipeArn"].endswith("/1.0.0"), "a dry run takes no automatic version"
        return
    with refused("ResourceAlreadyExistsException"):
        call(api, operation, {**members, "clientToken": "t-2", "dryRun": True})


@pytest.mark.parametrize("operation", CREATES)
def test_a_dry_run_reports_the_error_of_the_real_request(api: Api, operation: str) -> None:
    """Code and message are the same, and nothing is stored."""
    make, change, code = CREATES[operation]
    members = {**make(api), **change}
    stored = api.rows()
    messages = []
    for dry in (True, False):
        with refused(code) as refusal:
            call(api, operation, {**members, "dryRun": dry})
        messages.append(refusal.message)
    assert messages[0] == messages[1]
    assert api.rows() == stored
