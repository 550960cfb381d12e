"""Workflows over HTTP: create, read, list, delete, and what pipelines say of them (spec/workflows.md 2.6, 7.1)."""

from __future__ import annotations

from typing import Any

import pytest

from testing.api import WORKFLOW, Api, required
from testing.refusals import refused

BAD = "InvalidParameterValueException"
MISSING = "ResourceNotFoundException"
COMBINATION = "InvalidParameterCombinationException"
BUILD = """\
schemaVersion: 1.0
parameters:
  - {name: size, type: integer}
  - {name: tags, type: stringList, default: [a, b]}
steps:
  - {name: Launch, action: LaunchInstance, inputs: {waitFor: ssmAgent}}
outputs:
  - {name: InstanceId, value: $.stepOutputs.Launch.instanceId}
"""
SIZE: Any = [{"name": "size", "value": ["5"]}]


def get(api: Api, arn: str) -> dict[str, Any]:
    return dict(api.client.get_workflow(workflowBuildVersionArn=arn)["workflow"])


def paths(answer: dict[str, Any], key: str) -> list[str]:
    return [item["arn"].split(":workflow/")[1] for item in answer[key]]


def test_a_workflow_reads_back_byte_for_byte(api: Api) -> None:
    """Get shows the text as given, the parameters of the document, and the four latest references."""
    text = WORKFLOW + "# ünïcode  \n"
    arn = api.workflow("My Wait_1", data=text, description="d", changeDescription="c", tags={"a": "b"})
    assert arn == api.arn("workflow", "test/my-wait-1/1.0.0/1")
    answer = api.client.get_workflow(workflowBuildVersionArn=arn)
    workflow = answer["workflow"]
    assert workflow.pop("dateCreated").endswith("Z")
    assert workflow == {
        "arn": arn, "name": "My Wait_1", "version": "1.0.0", "description": "d", "changeDescription": "c",
        "type": "TEST", "owner": "123456789012", "data": text, "tags": {"a": "b"},
        "parameters": [{"name": "topic", "type": "string", "defaultValue": [""], "description": "Who is told"}],
    }  # fmt: skip
    assert answer["latestVersionReferences"]["latestMajorVersionArn"] == arn.replace("1.0.0/1", "1.x.x")


def test_parameters_show_their_types_and_defaults(api: Api) -> None:
    """Defaults are lists of strings; without a default there is no member."""
    arn = api.workflow(type="BUILD", data=BUILD)
    assert get(api, arn)["parameters"] == [
        {"name": "size", "type": "integer"},
        {"name": "tags", "type": "stringList", "defaultValue": ["a", "b"]},
    ]


def test_changed_content_is_the_next_build(api: Api) -> None:
    """Identical content is refused, another text is the next build; each type has names of its own."""
    api.workflow()
    with refused("ResourceAlreadyExistsException"):
        api.workflow(changeDescription="nothing")
    assert api.workflow(data=WORKFLOW + "\n").endswith("workflow/test/mine/1.0.0/2")
    assert api.workflow(type="BUILD").endswith("workflow/build/mine/1.0.0/1")
    assert api.workflow(version="1.2.0").endswith("/1.2.0/1")
    newest = get(api, api.arn("workflow", "test/mine/x.x.x"))
    assert newest["arn"].endswith("test/mine/1.2.0/1")
    assert get(api, api.arn("workflow", "test/mine/1.0.x"))["arn"].endswith("test/mine/1.0.0/2")
    with refused("ResourceNotFoundException"):
        get(api, api.arn("workflow", "distribution/mine/x.x.x"))


def test_the_same_token_is_the_same_workflow(api: Api) -> None:
    """A repeated call answers the first one's ARN; another request under its token is refused."""
    first = api.workflow(clientToken="t")
    assert api.workflow(clientToken="t") == first
    with refused("IdempotentParameterMismatchException"):
        api.workflow(clientToken="t", description="other")
    assert api.rows() == 1


def test_a_dry_run_stores_nothing(api: Api) -> None:
    """A good document passes with DryRunOperationException, a bad one shows its fault."""
    with refused("DryRunOperationException") as refusal:
        api.workflow(dryRun=True)
    assert refusal.message == "Request would have succeeded, but dryRun flag is set."
    with refused("InvalidRequestException"):
        api.workflow(dryRun=True, data="steps: []")
    assert api.rows() == 0


@pytest.mark.parametrize(
    ("type", "data", "message"),
    [
        ("BUILD", "a: [", "Invalid workflow document: line 2: the text is not YAML"),
        ("BUILD", WORKFLOW.replace("1.0", "2.0"), "Invalid workflow document: line 2: schemaVersion '2.0'"),
        ("BUILD", WORKFLOW.replace("WaitForAction", "ModifyImageAttributes"), "step 'Ask': the action"),
        ("TEST", WORKFLOW.replace("snsTopicArn", "topic"), "step 'Ask': WaitForAction has no input 'topic'"),
        ("TEST", WORKFLOW.replace("parameters.topic", "parameters.no"), "snsTopicArn: there is no parameter 'no'"),
    ],
)  # fmt: skip
def test_a_broken_document_is_refused_with_its_fault(api: Api, type: str, data: str, message: str) -> None:
    """InvalidRequestException names the line, the step and the key; nothing is stored."""
    with refused("InvalidRequestException") as refusal:
        api.workflow(type=type, data=data)
    assert message in refusal.message
    assert api.rows() == 0


def test_sizes_and_sources(api: Api) -> None:
    """16,000 characters and bytes inline, 64 KB by uri; exactly one of the two."""
    filled = WORKFLOW + "#" * (16000 - len(WORKFLOW))
    api.workflow("filled", data=filled)
    with refused(BAD):
        api.workflow("longer", data=filled + "#")
    with refused(BAD) as refusal:
        api.workflow("bytes", data=filled[:-1] + "ü")
    assert "'data'" in refusal.message
    api.sources["s3://bucket/w.yml"] = filled + "#" * 40000
    api.sources["s3://bucket/long.yml"] = filled + "#" * 50000
    common = {"name": "source", "semanticVersion": "1.0.0", "type": "TEST"}
    arn = api.client.create_workflow(**common, uri="s3://bucket/w.yml")["workflowBuildVersionArn"]
    assert len(get(api, arn)["data"]) == 56000
    with refused(BAD) as refusal:
        api.client.create_workflow(**{**common, "name": "long"}, uri="s3://bucket/long.yml")
    assert "'uri'" in refusal.message
    for both in ({}, {"uri": "s3://bucket/w.yml", "data": WORKFLOW}):
        with refused(COMBINATION):
            api.client.create_workflow(**{**common, "name": "both"}, **both)
    with refused(BAD):
        api.workflow(version="1.x.x")
    with refused(BAD):
        api.workflow(type="DEPLOY")


def test_lists(api: Api) -> None:
    """One entry per version or name, builds by wildcard ARN, filters by type, name and version."""
    api.workflow()
    api.workflow(data=WORKFLOW + "\n")
    api.workflow(version="1.1.0")
    api.workflow(type="BUILD")
    client = api.client
    versions = paths(client.list_workflows(), "workflowVersionList")
    assert sorted(versions) == ["build/mine/1.0.0", "test/mine/1.0.0", "test/mine/1.1.0"]
    names = paths(client.list_workflows(byName=True), "workflowVersionList")
    assert sorted(names) == ["build/mine/x.x.x", "test/mine/x.x.x"]
    builds = client.list_workflow_build_versions(workflowVersionArn=api.arn("workflow", "test/mine/1.x.x"))
    assert paths(builds, "workflowSummaryList") == ["test/mine/1.1.0/1", "test/mine/1.0.0/2", "test/mine/1.0.0/1"]
    assert len(client.list_workflow_build_versions()["workflowSummaryList"]) == 4
    none = client.list_workflow_build_versions(workflowVersionArn=api.arn("workflow", "test/none/1.0.0"))
    assert none["workflowSummaryList"] == []
    for name, value, count in (("type", "BUILD", 1), ("name", "mine", 3), ("version", "1.1.0", 1)):
        found = client.list_workflows(filters=[{"name": name, "values": [value]}])["workflowVersionList"]
        assert len(found) == count
    with refused(COMBINATION):
        client.list_workflows(byName=True, filters=[{"name": "version", "values": ["1.0.0"]}])
    with refused(BAD):
        client.list_workflows(owner="Shared")
    assert client.list_workflows(owner="AWSMarketplace")["workflowVersionList"] == []
    first = client.list_workflows(maxResults=2)
    rest = client.list_workflows(maxResults=2, nextToken=first["nextToken"])
    assert len(first["workflowVersionList"]) + len(rest["workflowVersionList"]) == 3


def test_managed_workflows_are_listed_and_readable(api: Api) -> None:
    """Owner Amazon has the known names; x.x.x resolves and only the latest reference is given."""
    listed = paths(api.client.list_workflows(owner="Amazon"), "workflowVersionList")
    names = {path.rpartition("/")[0] for path in listed}
    assert names == {
        "build/build-image", "build/build-container", "build/build-image-with-update-ssm-agent",
        "build/express-build-image", "build/express-build-container", "test/test-image", "test/test-container",
        "test/express-test-image", "distribution/distribute-image", "distribution/distribute-container",
    }  # fmt: skip
    answer = api.client.get_workflow(
        workflowBuildVersionArn=api.arn("workflow", "build/build-image/x.x.x", owner="aws")
    )
    assert answer["workflow"]["owner"] == "Amazon" and answer["workflow"]["type"] == "BUILD"
    assert list(answer["latestVersionReferences"]) == ["latestVersionArn"]
    with refused("ResourceNotFoundException"):
        get(api, api.arn("workflow", "test/build-image/x.x.x", owner="aws"))
    with refused("ResourceNotFoundException"):
        api.client.delete_workflow(workflowBuildVersionArn=answer["workflow"]["arn"])


def test_tags_belong_to_a_build(api: Api) -> None:
    """Tags of a build are changed and listed; the next build has its own."""
    arn = api.workflow(tags={"a": "1"})
    other = api.workflow(data=WORKFLOW + "\n")
    api.client.tag_resource(resourceArn=arn, tags={"b": "2"})
    api.client.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert api.client.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}
    assert get(api, arn)["tags"] == {"b": "2"}
    assert get(api, other)["tags"] == {}


def test_a_workflow_that_a_pipeline_names_stays(api: Api) -> None:
    """Exact references protect, wildcards do not; the number of a deleted build never comes back."""
    arn = api.workflow()
    pipeline = api.pipeline(workflows=[{"workflowArn": arn}], executionRole="role")
    with refused("ResourceDependencyException"):
        api.client.delete_workflow(workflowBuildVersionArn=arn)
    api.client.delete_image_pipeline(imagePipelineArn=pipeline)
    members = {"workflows": [{"workflowArn": api.arn("workflow", "test/mine/x.x.x")}], "executionRole": "role"}
    loose = api.pipeline("loose", **members)
    assert api.get_pipeline(loose)["workflows"] == members["workflows"]
    with refused(BAD):
        api.client.delete_workflow(workflowBuildVersionArn=arn.replace("1.0.0/1", "x.x.x"))
    assert api.client.delete_workflow(workflowBuildVersionArn=arn)["workflowBuildVersionArn"] == arn
    with refused("ResourceNotFoundException"):
        get(api, arn)
    assert api.workflow().endswith("/1.0.0/2")
    api.client.delete_workflow(workflowBuildVersionArn=arn.replace("1.0.0/1", "1.0.0/2"))
    with refused("ResourceNotFoundException"):
        api.client.start_image_pipeline_execution(imagePipelineArn=loose)


def test_workflows_of_a_pipeline_are_set_changed_and_dropped(api: Api) -> None:
    """Every entry is shown exactly as given, in its order; an update without them drops them."""
    build = api.workflow("make", type="BUILD", data=BUILD)
    test = api.arn("workflow", "test/mine/x.x.x")
    api.workflow()
    arn = api.pipeline()
    members = required(api, arn)
    topic: Any = [{"name": "topic", "value": ["arn:t"]}]
    for entries in (
        [{"workflowArn": test, "parallelGroup": "g", "onFailure": "CONTINUE", "parameters": topic}],
        [
            {"workflowArn": test},
            {"workflowArn": build, "parameters": SIZE},
            {"workflowArn": test, "onFailure": "ABORT"},
        ],
    ):
        api.client.update_image_pipeline(**members, executionRole="role", workflows=entries)
        assert api.get_pipeline(arn)["workflows"] == entries
    api.client.update_image_pipeline(**members, executionRole="role")
    assert "workflows" not in api.get_pipeline(arn)
    api.client.delete_workflow(workflowBuildVersionArn=build)


@pytest.mark.parametrize("operation", ["create_image", "update_image_pipeline"])
def test_what_a_list_of_workflows_may_be(api: Api, operation: str) -> None:
    """Roles, counts, pinned managed versions, parameters and outputs are checked before anything runs."""
    build = api.workflow("make", type="BUILD", data=BUILD)
    test = api.workflow()
    bare = api.workflow("bare", type="BUILD")
    twin = api.workflow("twin", data=BUILD)
    machines = api.workflow("machines", type="DISTRIBUTION", data=WORKFLOW.replace(
        "WaitForAction\n    inputs:\n      snsTopicArn.$: \"$.parameters.topic\"", "DistributeImage"
    ))  # fmt: skip
    managed = api.arn("workflow", "build/build-container/1.0.0", owner="aws")
    pipeline = api.pipeline()
    before = api.get_pipeline(pipeline)
    common = required(api, pipeline)
    if operation == "create_image":
        del common["imagePipelineArn"]
    ok: dict[str, Any] = {"workflowArn": build, "parameters": SIZE}
    request = getattr(api.client, operation)

    def ask(*entries: dict[str, Any]) -> None:
        request(**common, executionRole="role", workflows=list(entries))

    with refused(COMBINATION) as refusal:
        request(**common, workflows=[ok])
    assert "An execution role is required to provide workflows" in refusal.message
    latest = "AWS managed workflows must have latest version 'x.x.x' for '" + managed + "'"
    for entries, code, message in (
        ([ok, {"workflowArn": bare}], BAD, "At most one BUILD workflow"),
        ([{"workflowArn": managed}], BAD, f"The value supplied for parameter 'workflows' is not valid. {latest}"),
        ([{**ok, "onFailure": "CONTINUE"}], COMBINATION, "'workflows[0].onFailure'"),
        ([{"workflowArn": build}], COMBINATION, "'size' has no default"),
        ([{**ok, "parameters": [*SIZE, {"name": "no", "value": ["x"]}]}], COMBINATION, "no parameter 'no'"),
        ([{**ok, "parameters": SIZE * 2}], COMBINATION, "'size' is given twice"),
        ([{**ok, "parameters": [{"name": "size", "value": ["big"]}]}], COMBINATION, "'big'"),
        ([{**ok, "parameters": [{"name": "size", "value": ["1", "2"]}]}], COMBINATION, "takes one integer"),
        ([{"workflowArn": bare}], BAD, "Build workflow must have output named InstanceId to build container."),
        ([ok, {"workflowArn": twin, "parameters": SIZE}], COMBINATION, "The output 'InstanceId'"),
        ([{"workflowArn": machines}], COMBINATION, "'workflows[0].workflowArn'"),
        ([{"workflowArn": test}, {"workflowArn": test.replace("mine", "none")}], MISSING, "none"),
    ):  # fmt: skip
        with refused(code) as refusal:
            ask(*entries)
        assert message in refusal.message
    assert api.get_pipeline(pipeline) == before
    ask({**ok, "onFailure": "ABORT"}, {"workflowArn": test, "parallelGroup": "g"}, {"workflowArn": test})


def test_a_machine_image_needs_the_id_of_its_image(api: Api) -> None:
    """A BUILD workflow without the output ImageId is refused for an image recipe, with the service's sentence."""
    build = api.workflow("make", type="BUILD", data=BUILD)
    with refused(BAD) as refusal:
        api.client.create_image(
            imageRecipeArn=api.image_recipe(), infrastructureConfigurationArn=api.infrastructure(),
            executionRole="role", workflows=[{"workflowArn": build, "parameters": SIZE}],
        )  # fmt: skip
    assert "Build workflow must have output named ImageId to build AMI." in refusal.message
