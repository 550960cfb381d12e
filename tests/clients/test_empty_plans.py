"""What infrastructure code does: create, read, compare every argument with what was sent, change, read, delete.

A second plan is empty when every argument reads back as it was sent, and the read has nothing else than what the
service computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore import xform_name

from testing.api import DOCUMENT, REGION, TEMPLATE, WORKFLOW, Api
from testing.loaded import service_model
from testing.refusals import refused

Members = Mapping[str, Any]
AWS = f"arn:aws:imagebuilder:{REGION}:aws"
HELLO = {"componentArn": f"{AWS}:component/hello-world-linux/x.x.x"}
UPDATE_LINUX = {"componentArn": f"{AWS}:component/update-linux/x.x.x"}
DATES = {"dateCreated", "dateUpdated", "dateLastRun", "dateNextRun"}
GROUP = "/aws/imagebuilder/mine"
TAGS = {"tags": {"Name": "web", "team": ""}}


@dataclass(frozen=True)
class Kind:
    """A resource type, and what a configuration of it says."""

    name: str
    """As in CreateImagePipeline."""
    arn: str
    """The member of a create's answer that has the ARN."""
    members: Members
    changes: tuple[Members, ...] = ()
    """Arguments of updates; each replaces all of those before, except a name."""
    computed: tuple[str, ...] = ()
    """What a read has besides, in every configuration of it."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """Argument -> the name under which a read has it; empty: not at all."""

    @property
    def document(self) -> str:
        """The member of a read's answer."""
        return f"{self.name[0].lower()}{self.name[1:]}"


LOGGING = {"s3Logs": {"s3BucketName": "logs", "s3KeyPrefix": "/"}}
CONTAINER = {
    "region": REGION,
    "containerDistributionConfiguration": {
        "description": "d", "containerTags": ["b", "a"],
        "targetRepository": {"service": "ECR", "repositoryName": "web"},
    },
}  # fmt: skip
AMI = {
    "region": "us-west-2",
    "amiDistributionConfiguration": {
        "name": "web-{{ imagebuilder:buildDate }}", "description": "d", "amiTags": {"a": "b"},
        "kmsKeyId": "alias/k", "targetAccountIds": ["210987654321", "123456789012"],
        "launchPermission": {"userIds": ["210987654321"], "userGroups": ["all"]},
    },
    "launchTemplateConfigurations": [{"launchTemplateId": "lt-0123456789abcdef0", "setDefaultVersion": False}],
    "s3ExportConfiguration": {"roleName": "vmimport", "diskImageFormat": "RAW", "s3Bucket": "disks"},
    "ssmParameterConfigurations": [{"parameterName": "/web/ami", "dataType": "aws:ec2:image"}],
}  # fmt: skip
SELECTION = {"recipes": [{"name": "web", "semanticVersion": "1.0.0"}]}
AGED = {"type": "AGE", "value": 6, "unit": "YEARS", "retainAtLeast": 5}


def kinds(api: Api) -> Iterator[Kind]:
    """One of each type that has arguments."""
    yield Kind(
        "Component", "componentBuildVersionArn",
        {"name": "My Component", "semanticVersion": "1.0.0", "platform": "Linux", "data": DOCUMENT,
         "description": "d", "changeDescription": "c", "supportedOsVersions": ["Debian 12"], **TAGS},
        computed=("type", "owner", "encrypted", "state", "parameters"),
    )  # fmt: skip
    yield Kind(
        "ImageRecipe", "imageRecipeArn",
        {"name": "box", "semanticVersion": "1.0.0", "parentImage": f"{AWS}:image/amazon-linux-2-x86/x.x.x",
         "components": [UPDATE_LINUX, HELLO], "workingDirectory": "/opt", **TAGS,
         "blockDeviceMappings": [
             {"deviceName": "/dev/xvdb", "ebs": {"deleteOnTermination": True, "volumeSize": 100, "iops": 100,
                                                 "volumeType": "gp2", "throughput": 125}},
             {"virtualName": "ephemeral0"}, {"deviceName": "/dev/sdc", "noDevice": ""},
         ],
         "additionalInstanceConfiguration": {
             "userDataOverride": "IyEvYmluL3NoCg==", "systemsManagerAgent": {"uninstallAfterBuild": False}}},
        computed=("platform", "owner"),
    )  # fmt: skip
    yield Kind(
        "ContainerRecipe", "containerRecipeArn",
        {"name": "web", "semanticVersion": "1.0.0", "containerType": "DOCKER", "components": [HELLO], **TAGS,
         "parentImage": f"{AWS}:image/amazon-linux-x86-latest/x.x.x", "dockerfileTemplateData": TEMPLATE,
         "targetRepository": {"service": "ECR", "repositoryName": "web"}, "workingDirectory": "/tmp",
         "instanceConfiguration": {
             "image": "ami-0123456789abcdef0",
             "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 20}}]}},
        computed=("platform", "owner", "encrypted"),
    )  # fmt: skip
    yield Kind(
        "InfrastructureConfiguration", "infrastructureConfigurationArn",
        {"name": "infra", "instanceProfileName": "builder", "instanceTypes": ["t3.small", "t3.micro"],
         "keyPair": "k", "securityGroupIds": ["sg-2", "sg-1"], "subnetId": "subnet-1", "logging": LOGGING,
         "snsTopicArn": f"arn:aws:sns:{REGION}:123456789012:topic", "resourceTags": {"b": "2", "a": "1"},
         "terminateInstanceOnFailure": False, "terminateInstanceOnCompletion": False, **TAGS,
         "instanceMetadataOptions": {"httpPutResponseHopLimit": 1, "httpTokens": "optional"}},
        (
            {"instanceProfileName": "other", "description": "d", "terminateInstanceOnFailure": True},
            {"instanceProfileName": "other", "placement": {"tenancy": "dedicated", "availabilityZone": "z"}},
        ),
        computed=("terminateInstanceOnFailure", "terminateInstanceOnCompletion"),
    )  # fmt: skip
    yield Kind(
        "DistributionConfiguration", "distributionConfigurationArn",
        {"name": "dist", "description": "d", "distributions": [AMI, CONTAINER], **TAGS},
        ({"distributions": [CONTAINER]}, {"description": "other", "distributions": [AMI]}),
        computed=("timeoutMinutes",),
    )  # fmt: skip
    yield Kind(
        "Workflow", "workflowBuildVersionArn",
        {"name": "wait", "semanticVersion": "1.0.0", "type": "TEST", "data": WORKFLOW, "description": "d",
         "changeDescription": "c", **TAGS},
        computed=("owner", "parameters", "state"),
    )  # fmt: skip
    yield Kind(
        "LifecyclePolicy", "lifecyclePolicyArn",
        {"name": "old", "description": "d", "executionRole": "arn:aws:iam::000000000001:role/lifecycle",
         "resourceType": "AMI_IMAGE", "resourceSelection": SELECTION, **TAGS,
         "policyDetails": [
             {"action": {"type": "DELETE", "includeResources": {"amis": False, "snapshots": False,
                                                                "containers": False}},
              "filter": AGED,
              "exclusionRules": {"tagMap": {"keep": ""}, "amis": {"isPublic": False, "regions": ["us-west-2"],
                                                                  "lastLaunched": {"unit": "WEEKS", "value": 2}}}},
             {"action": {"type": "DISABLE", "includeResources": {"amis": True}}, "filter": AGED},
         ]},
        (
            {"executionRole": "lifecycle", "resourceType": "AMI_IMAGE", "status": "DISABLED",
             "resourceSelection": {"tagMap": {"a": "b", "c": ""}},
             "policyDetails": [{"action": {"type": "DEPRECATE"}, "filter": AGED}]},
        ),
        computed=("status",),
    )  # fmt: skip
    yield from _runs(api)


def _runs(api: Api) -> Iterator[Kind]:
    """What names other resources."""
    recipe, infrastructure = api.recipe(name="run"), api.infrastructure(name="run")
    other, workflow = api.recipe(name="other"), api.workflow(name="run")
    needed = {"containerRecipeArn": recipe, "infrastructureConfigurationArn": infrastructure}
    tests = {"imageTestsEnabled": False, "timeoutMinutes": 61}
    members = {
        **needed, "distributionConfigurationArn": api.distribution(name="run"), "imageTestsConfiguration": tests,
        "enhancedImageMetadataEnabled": False, "executionRole": "builder",
        "workflows": [{"workflowArn": workflow, "onFailure": "ABORT", "parallelGroup": "g",
                       "parameters": [{"name": "topic", "value": ["t"]}]}],
    }  # fmt: skip
    yield Kind(
        "ImagePipeline", "imagePipelineArn",
        {**members, "name": "pipe", "description": "d", "status": "DISABLED", "imageTags": {"a": "b"}, **TAGS,
         "schedule": {"scheduleExpression": "cron(0 0 * * ? *)", "timezone": "Etc/UTC",
                      "pipelineExecutionStartCondition": "EXPRESSION_MATCH_ONLY"}},
        (
            {**needed, "containerRecipeArn": other, "schedule": {"scheduleExpression": "rate(1 day)"}},
            {**needed, "status": "ENABLED", "loggingConfiguration": {"pipelineLogGroupName": GROUP}},
            {**needed, "imageScanningConfiguration": {"imageScanningEnabled": False,
                                                      "ecrConfiguration": {"containerTags": ["a"]}}},
        ),
        computed=("platform", "status", "consecutiveFailures", "enhancedImageMetadataEnabled",
                  "imageTestsConfiguration"),
    )  # fmt: skip
    yield Kind(
        "Image", "imageBuildVersionArn", {**members, **TAGS, "loggingConfiguration": {"logGroupName": GROUP}},
        computed=("type", "name", "version", "platform", "state", "outputResources", "buildType", "imageSource",
                  "osVersion", "containerRecipe", "infrastructureConfiguration", "distributionConfiguration"),
        shown={"containerRecipeArn": "", "infrastructureConfigurationArn": "", "distributionConfigurationArn": ""},
    )  # fmt: skip


NAMES = (
    "Component", "ImageRecipe", "ContainerRecipe", "InfrastructureConfiguration", "DistributionConfiguration",
    "Workflow", "LifecyclePolicy", "ImagePipeline", "Image",
)  # fmt: skip


@pytest.fixture(scope="module")
def configured(api: Api) -> Mapping[str, Kind]:
    return {kind.name: kind for kind in kinds(api)}


def read(api: Api, kind: Kind, arn: str) -> dict[str, Any]:
    answer = getattr(api.client, xform_name(f"Get{kind.name}"))(**{kind.arn: arn})
    return dict(answer[kind.document])


def plan(kind: Kind, wanted: Members, found: Members) -> dict[str, Any]:
    """What a plan would change: arguments that read differently, and what the read has that nobody asked for."""
    renamed = {"semanticVersion": "version", **kind.shown}
    asked = {renamed.get(name, name): value for name, value in wanted.items() if renamed.get(name, name)}
    changes: dict[str, Any] = {
        name: (value, found.get(name)) for name, value in asked.items() if not same(value, found.get(name))
    }
    hidden = {"arn", "name", *DATES, *kind.computed, "tags"}
    return changes | {name: (None, found[name]) for name in found if name not in asked and name not in hidden}


def same(wanted: Any, found: Any) -> bool:
    """Equal, where a nested default that was not sent may be there as well."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(same(value, found.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(same, wanted, found))
    return bool(wanted == found)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_plan_is_empty(api: Api, configured: Mapping[str, Kind], name: str) -> None:
    """After the create, after each update, and the tags with both; a deleted resource is not found."""
    kind = configured[name]
    arn = getattr(api.client, xform_name(f"Create{name}"))(**kind.members)[kind.arn]
    assert plan(kind, kind.members, read(api, kind, arn)) == {}
    for change in kind.changes:
        getattr(api.client, xform_name(f"Update{name}"))(**{kind.arn: arn, **change})
        found = read(api, kind, arn)
        assert plan(kind, {**change, "tags": kind.members["tags"]}, found) == {}, change
        assert found["name"] == kind.members["name"] and found["dateUpdated"]
    api.client.tag_resource(resourceArn=arn, tags={"new": "n", "team": "t"})
    api.client.untag_resource(resourceArn=arn, tagKeys=["Name"])
    assert read(api, kind, arn)["tags"] == {"new": "n", "team": "t"}
    if name == "Image":
        api.set_state(arn, "AVAILABLE")
    getattr(api.client, xform_name(f"Delete{name}"))(**{kind.arn: arn})
    with refused("ResourceNotFoundException"):
        read(api, kind, arn)


def test_every_type_that_is_created_has_a_plan() -> None:
    """A new resource type of the model gets a row."""
    creates = {item.removeprefix("Create") for item in service_model().operations if item.startswith("Create")}
    assert creates == set(NAMES)
