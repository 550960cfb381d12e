"""Members of UpdateImagePipeline one by one: set, changed, dropped, and every way that each can be invalid."""

from __future__ import annotations

import re
from typing import Any

import pytest

from testing.api import Api, raw_update, required
from testing.refusals import refused

DEFAULT_TESTS = {"imageTestsEnabled": True, "timeoutMinutes": 720}
START = "pipelineExecutionStartCondition"
DEPENDENCIES = "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"


def schedule(**members: Any) -> dict[str, Any]:
    return {"scheduleExpression": "cron(0 10 * * ? *)", **members}


def shown(**members: Any) -> dict[str, Any]:
    return {"scheduleExpression": "cron(0 10 * * ? *)", "timezone": "UTC", START: DEPENDENCIES, **members}


MEMBERS: dict[str, tuple[Any, Any, Any]] = {
    # member: a value, another value, what is shown when it is dropped
    "description": ("first", "second", None),
    "enhancedImageMetadataEnabled": (False, True, True),
    "executionRole": ("builder", "arn:aws:iam::123456789012:role/team/builder", None),
    "imageTags": ({"team": "a"}, {"team": "b", "cost": ""}, None),
    "loggingConfiguration": (
        {"imageLogGroupName": "/aws/imagebuilder/a", "pipelineLogGroupName": "/aws/imagebuilder/p"},
        {"imageLogGroupName": "/aws/imagebuilder/b"},
        None,
    ),
    "status": ("DISABLED", "ENABLED", "ENABLED"),
    "imageScanningConfiguration": (
        {
            "imageScanningEnabled": True,
            "ecrConfiguration": {"repositoryName": "scans", "containerTags": ["a", "b"]},
            "imageScanningTypes": ["TEST_INSTANCE_CVE"],
        },
        {"imageScanningEnabled": False, "ecrConfiguration": {"containerTags": []}},
        None,
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_set_changed_and_dropped(api: Api, name: str) -> None:
    """Each value is shown exactly as given; left out, the member is gone or back at its default."""
    arn = api.pipeline()
    members = required(api, arn)
    first, second, dropped = MEMBERS[name]
    for value, expected in ((first, first), (second, second), (None, dropped)):
        api.client.update_image_pipeline(**members, **({} if value is None else {name: value}))
        assert api.get_pipeline(arn).get(name) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, DEFAULT_TESTS),
        ({"imageTestsEnabled": False}, {"imageTestsEnabled": False, "timeoutMinutes": 720}),
        ({"timeoutMinutes": 60}, {"imageTestsEnabled": True, "timeoutMinutes": 60}),
        ({"imageTestsEnabled": True, "timeoutMinutes": 1440}, {"imageTestsEnabled": True, "timeoutMinutes": 1440}),
        (None, DEFAULT_TESTS),
    ],
)
def test_each_member_of_the_tests_configuration_has_its_own_default(
    api: Api, given: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    """What is left out is at its default, whatever it was before."""
    arn = api.pipeline(imageTestsConfiguration={"imageTestsEnabled": False, "timeoutMinutes": 100})
    configuration = {} if given is None else {"imageTestsConfiguration": given}
    api.client.update_image_pipeline(**required(api, arn), **configuration)
    assert api.get_pipeline(arn)["imageTestsConfiguration"] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (schedule(), shown()),
        (schedule(timezone="Europe/Berlin"), shown(timezone="Europe/Berlin")),
        (schedule(**{START: "EXPRESSION_MATCH_ONLY"}), shown(**{START: "EXPRESSION_MATCH_ONLY"})),
        (schedule(autoDisablePolicy={"failureCount": 10}), shown(autoDisablePolicy={"failureCount": 10})),
        (None, None),
    ],
)
def test_each_member_of_the_schedule_is_set_and_dropped(
    api: Api, given: dict[str, Any] | None, expected: dict[str, Any] | None
) -> None:
    """Zone and start condition are filled in, the policy is shown only when sent."""
    before = schedule(timezone="Asia/Tokyo", autoDisablePolicy={"failureCount": 2}, **{START: DEPENDENCIES})
    arn = api.pipeline(schedule=before)
    api.client.update_image_pipeline(**required(api, arn), **({} if given is None else {"schedule": given}))
    document = api.get_pipeline(arn)
    assert document.get("schedule") == expected
    assert ("dateNextRun" in document) is (expected is not None)


def test_references_are_changed_and_the_distribution_dropped(api: Api) -> None:
    """Recipe, infrastructure and distribution are those of the last update."""
    arn = api.pipeline(distributionConfigurationArn=api.distribution())
    other = {
        "containerRecipeArn": api.recipe(name="other"),
        "infrastructureConfigurationArn": api.infrastructure(name="other"),
        "distributionConfigurationArn": api.distribution(name="other"),
    }
    api.client.update_image_pipeline(imagePipelineArn=arn, **other)
    document = api.get_pipeline(arn)
    assert {name: document[name] for name in other} == other
    del other["distributionConfigurationArn"]
    api.client.update_image_pipeline(imagePipelineArn=arn, **other)
    assert "distributionConfigurationArn" not in api.get_pipeline(arn)


def test_an_image_recipe_is_replaced_by_another(api: Api) -> None:
    """A pipeline of an image recipe takes another image recipe."""
    arn = api.pipeline(imageRecipeArn=api.image_recipe())
    other = api.image_recipe(name="other")
    infrastructure = api.get_pipeline(arn)["infrastructureConfigurationArn"]
    api.client.update_image_pipeline(
        imagePipelineArn=arn, imageRecipeArn=other, infrastructureConfigurationArn=infrastructure
    )
    assert api.get_pipeline(arn)["imageRecipeArn"] == other


WORKFLOW = "arn:aws:imagebuilder:eu-west-1:123456789012:workflow/test/mine/1.0.0/1"
BUILD_WORKFLOW = WORKFLOW.replace("/test/", "/build/")
THREADED = "x" * 1025
BAD = "InvalidParameterValueException"
COMBINATION = "InvalidParameterCombinationException"

INVALID: list[tuple[str, Any, str, str]] = [
    # member, value, the path that the error names, the error
    ("clientToken", "", "clientToken", BAD),
    ("clientToken", "x" * 37, "clientToken", BAD),
    ("clientToken", None, "clientToken", BAD),
    ("clientToken", 5, "clientToken", BAD),
    ("imagePipelineArn", None, "imagePipelineArn", BAD),
    ("imagePipelineArn", "arn:aws:imagebuilder:eu-west-1:123456789012:image/x", "imagePipelineArn", BAD),
    ("imagePipelineArn", "arn:aws:imagebuilder:eu-west-1:12:image-pipeline/x", "imagePipelineArn", BAD),
    ("imagePipelineArn", "arn:aws:imagebuilder:eu-west-1:123456789012:image-pipeline/X", "imagePipelineArn", BAD),
    ("containerRecipeArn", "web", "containerRecipeArn", BAD),
    ("imageRecipeArn", "arn:aws:imagebuilder:eu-west-1:123456789012:image-recipe/x/1", "imageRecipeArn", BAD),
    ("infrastructureConfigurationArn", None, "infrastructureConfigurationArn", BAD),
    ("infrastructureConfigurationArn", "infra", "infrastructureConfigurationArn", BAD),
    ("distributionConfigurationArn", "dist", "distributionConfigurationArn", BAD),
    ("description", "", "description", BAD),
    ("description", THREADED, "description", BAD),
    ("enhancedImageMetadataEnabled", "true", "enhancedImageMetadataEnabled", BAD),
    ("executionRole", "", "executionRole", BAD),
    ("executionRole", "x" * 2049, "executionRole", BAD),
    ("executionRole", "a role", "executionRole", BAD),
    ("executionRole", "arn:aws:iam::12:role/x", "executionRole", BAD),
    ("status", "enabled", "status", BAD),
    ("imageTags", {}, "imageTags", BAD),
    ("imageTags", {"aws:x": "y"}, "imageTags.aws:x", BAD),
    ("imageTags", {"x": "y" * 257}, "imageTags.x", BAD),
    ("imageTags", {str(number): "" for number in range(51)}, "imageTags", BAD),
    ("loggingConfiguration", {"imageLogGroupName": "a b"}, "loggingConfiguration.imageLogGroupName", BAD),
    ("loggingConfiguration", {"pipelineLogGroupName": ""}, "loggingConfiguration.pipelineLogGroupName", BAD),
    ("loggingConfiguration", {"pipelineLogGroupName": "/x"}, "loggingConfiguration.pipelineLogGroupName",
     COMBINATION),
    ("loggingConfiguration", {"imageLogGroupName": "/x"}, "loggingConfiguration.imageLogGroupName", COMBINATION),
    ("imageTestsConfiguration", [], "imageTestsConfiguration", BAD),
    ("imageTestsConfiguration", {"imageTestsEnabled": 1}, "imageTestsConfiguration.imageTestsEnabled", BAD),
    ("imageTestsConfiguration", {"timeoutMinutes": 59}, "imageTestsConfiguration.timeoutMinutes", BAD),
    ("imageTestsConfiguration", {"timeoutMinutes": 1441}, "imageTestsConfiguration.timeoutMinutes", BAD),
    ("imageTestsConfiguration", {"timeoutMinutes": 90.5}, "imageTestsConfiguration.timeoutMinutes", BAD),
    ("schedule", {"timezone": "UTC"}, "schedule.scheduleExpression", BAD),
    ("schedule", {"scheduleExpression": THREADED}, "schedule.scheduleExpression", BAD),
    ("schedule", {"scheduleExpression": "cron(61 0 * * ? *)"}, "schedule.scheduleExpression", BAD),
    ("schedule", schedule(timezone="Nowhere/Land"), "schedule.timezone", BAD),
    ("schedule", schedule(timezone="x"), "schedule.timezone", BAD),
    ("schedule", schedule(**{START: "ALWAYS"}), f"schedule.{START}", BAD),
    ("schedule", schedule(autoDisablePolicy={}), "schedule.autoDisablePolicy.failureCount", BAD),
    ("schedule", schedule(autoDisablePolicy={"failureCount": 11}), "schedule.autoDisablePolicy.failureCount", BAD),
    ("imageScanningConfiguration", {"imageScanningEnabled": "yes"},
     "imageScanningConfiguration.imageScanningEnabled", BAD),
    ("imageScanningConfiguration", {"ecrConfiguration": {"repositoryName": ""}},
     "imageScanningConfiguration.ecrConfiguration.repositoryName", BAD),
    ("imageScanningConfiguration", {"ecrConfiguration": {"containerTags": ["a", ""]}},
     "imageScanningConfiguration.ecrConfiguration.containerTags[1]", BAD),
    ("imageScanningConfiguration", {"imageScanningTypes": ["OTHER"]},
     "imageScanningConfiguration.imageScanningTypes[0]", BAD),
    ("imageScanningConfiguration", {"imageScanningTypes": ["ON_DEMAND_AMI_CVE"]},
     "imageScanningConfiguration.imageScanningTypes", COMBINATION),
    ("imageScanningConfiguration", {"scanResultCondition": {}},
     "imageScanningConfiguration.scanResultCondition.maximumSeverityLabel", BAD),
    ("imageScanningConfiguration",
     {"scanResultCondition": {"maximumSeverityLabel": "HIGH", "fixAvailable": "no"}},
     "imageScanningConfiguration.scanResultCondition.fixAvailable", BAD),
    ("imageScanningConfiguration", {"scanResultCondition": {"maximumSeverityLabel": "LOW"}},
     "imageScanningConfiguration.scanResultCondition", COMBINATION),
    ("workflows", [{}], "workflows[0].workflowArn", BAD),
    ("workflows", [{"workflowArn": "mine"}], "workflows[0].workflowArn", BAD),
    ("workflows", [{"workflowArn": WORKFLOW}], "executionRole", COMBINATION),
    ("workflows", [{"workflowArn": WORKFLOW, "onFailure": "STOP"}], "workflows[0].onFailure", BAD),
    ("workflows", [{"workflowArn": WORKFLOW, "parallelGroup": "a b"}], "workflows[0].parallelGroup", BAD),
    ("workflows", [{"workflowArn": WORKFLOW, "parameters": []}], "workflows[0].parameters", BAD),
    ("workflows", [{"workflowArn": WORKFLOW, "parameters": [{"value": []}]}], "workflows[0].parameters[0].name",
     BAD),
    ("workflows", [{"workflowArn": WORKFLOW, "parameters": [{"name": "x"}]}], "workflows[0].parameters[0].value",
     BAD),
    ("workflows", [{"workflowArn": WORKFLOW, "parameters": [{"name": "x", "value": [5]}]}],
     "workflows[0].parameters[0].value[0]", BAD),
]  # fmt: skip


@pytest.mark.parametrize(
    ("member", "value", "path", "code"), INVALID, ids=[f"{row[2]}-{index}" for index, row in enumerate(INVALID)]
)
def test_an_invalid_member_is_named_and_nothing_changes(
    api: Api, member: str, value: Any, path: str, code: str
) -> None:
    """400 with the path of the member, whatever client sent it; the pipeline stays as it was."""
    arn = api.pipeline(description="before")
    before = api.get_pipeline(arn)
    members = {**required(api, arn), "clientToken": "t", member: value}
    if member == "imageRecipeArn":
        del members["containerRecipeArn"]
    status, headers, message = raw_update(api, members)
    assert (status, headers["x-amzn-ErrorType"]) == (400, code)
    assert re.match(rf"The value supplied for parameter '{re.escape(path)}' is not valid\.", message), message
    assert api.get_pipeline(arn) == before


@pytest.mark.parametrize("member", ["onFailure", "parallelGroup"])
def test_test_settings_of_a_build_workflow_are_refused(api: Api, member: str) -> None:
    """onFailure and parallelGroup are for test workflows only."""
    arn = api.pipeline()
    workflow: Any = {"workflowArn": BUILD_WORKFLOW, member: "CONTINUE"}
    with refused(COMBINATION) as refusal:
        api.client.update_image_pipeline(**required(api, arn), executionRole="role", workflows=[workflow])
    assert f"'workflows[0].{member}'" in refusal.message


def test_a_workflow_that_does_not_exist_is_not_found(api: Api) -> None:
    """404 with the ARN as given, with parameters, group and ending that are well formed."""
    arn = api.pipeline()
    workflow: Any = {
        "workflowArn": WORKFLOW, "onFailure": "CONTINUE", "parallelGroup": "a",
        "parameters": [{"name": "x", "value": ["1"]}],
    }  # fmt: skip
    with refused("ResourceNotFoundException") as refusal:
        api.client.update_image_pipeline(**required(api, arn), executionRole="role", workflows=[workflow])
    assert refusal.status == 404 and WORKFLOW in refusal.message


def test_more_workflows_than_the_quota_are_refused(api: Api) -> None:
    """402 for the eleventh."""
    arn = api.pipeline()
    workflows: Any = [{"workflowArn": WORKFLOW}] * 11
    with refused("ServiceQuotaExceededException") as refusal:
        api.client.update_image_pipeline(**required(api, arn), executionRole="role", workflows=workflows)
    assert refusal.status == 402


def test_unknown_members_and_nulls_are_as_if_absent(api: Api) -> None:
    """Newer clients keep working, and null is no value."""
    arn = api.pipeline(description="before", status="DISABLED")
    members = {**required(api, arn), "clientToken": "t", "description": None, "status": None, "newMember": {"a": 1}}
    status, _, _ = raw_update(api, members)
    assert status == 200
    document = api.get_pipeline(arn)
    assert "description" not in document and "newMember" not in document and document["status"] == "ENABLED"
