"""What every client asks: each operation of the API at least once, in an order that a user could take.

A string that begins with `@` stands for a value that an earlier answer, or the account itself, brought.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from testing.api import DOCUMENT, PARAMETER_DOCUMENT, REGION, TEMPLATE, WORKFLOW

Members = Mapping[str, Any]
MISSING: Final = "ResourceNotFoundException"
OWNED: Final = f"arn:aws:imagebuilder:{REGION}:aws"
"""Begins the ARNs of managed content."""


@dataclass(frozen=True)
class ClientCall:
    """One call of a client and what is expected of it."""

    operation: str
    members: Members = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    """Name of a value -> the member of the answer that it is, as `imagePipeline.arn`."""
    code: str = ""
    """The error that it ends with."""
    pages: str = ""
    """The list of the answer that is followed to its end."""
    size: int = 2
    """Entries of a page."""
    repeats: bool = False
    """Whether it is the call before it again, with the same token."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def call(operation: str, *, keep: Mapping[str, str] | None = None, **members: Any) -> ClientCall:
    return ClientCall(operation, members, keep or {})


def fails(code: str, operation: str, **members: Any) -> ClientCall:
    return ClientCall(operation, members, code=code)


def listed(operation: str, pages: str, **members: Any) -> ClientCall:
    return ClientCall(operation, members, pages=pages, size=40 if members.get("owner") == "Amazon" else 2)


def twice(made: ClientCall, token: str) -> Iterator[ClientCall]:
    """A call, the same again under its token, and the token with other members."""
    first = ClientCall(made.operation, {**made.members, "clientToken": token}, made.keep)
    yield first
    yield ClientCall(first.operation, first.members, repeats=True)


def changed(made: ClientCall, **members: Any) -> Iterator[ClientCall]:
    """Both of `twice`, and the refusal of the token with other members."""
    token = f"token-{made.operation.lower()}"[:36]
    yield from twice(made, token)
    other = {**made.members, "clientToken": token, **members}
    yield ClientCall(made.operation, other, code="IdempotentParameterMismatchException")


def dry(made: ClientCall) -> Iterator[ClientCall]:
    """A dry run, and then all of `changed` with another description."""
    yield ClientCall(made.operation, {**made.members, "dryRun": True}, code="DryRunOperationException")
    yield from changed(made, description="another")


def shared(kind: str, member: str, reference: str, action: str) -> Iterator[ClientCall]:
    """A policy is refused, put and read."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow", "Principal": {"AWS": ["210987654321"]}, "Action": [f"imagebuilder:{action}"],
                "Resource": [reference],
            }
        ],
    }  # fmt: skip
    named: dict[str, Any] = {member: reference}
    yield call(f"Get{kind}Policy", **named)
    yield fails("InvalidParameterValueException", f"Put{kind}Policy", **named, policy="not a policy")
    yield call(f"Put{kind}Policy", **named, policy=policy)
    yield call(f"Get{kind}Policy", **named)
    yield call(f"Put{kind}Policy", **named, policy={**policy, "Statement": []})


TAGS: Final = {"team": "web"}
AMI_DISTRIBUTION: Final = {
    "region": "us-east-1",
    "amiDistributionConfiguration": {
        "name": "golden-{{ imagebuilder:buildDate }}", "description": "d", "amiTags": {"a": "b"},
        "launchPermission": {"userIds": ["210987654321"]},
    },
}  # fmt: skip
CONTAINER_DISTRIBUTION: Final = {
    "region": "us-east-1",
    "containerDistributionConfiguration": {
        "targetRepository": {"service": "ECR", "repositoryName": "web"}, "containerTags": ["latest"],
    },
}  # fmt: skip
RULE: Final = {
    "action": {"type": "DELETE", "includeResources": {"amis": True, "snapshots": True, "containers": False}},
    "filter": {"type": "AGE", "value": 6, "unit": "MONTHS", "retainAtLeast": 3},
    "exclusionRules": {"tagMap": {"keep": "yes"}},
}  # fmt: skip
HELLO: Final = {"componentArn": f"{OWNED}:component/hello-world-linux/x.x.x"}


PLAIN: Final = {"semanticVersion": "1.0.0", "platform": "Linux"}


def calls() -> list[ClientCall]:
    """The whole script; every call depends on those before it only."""
    parts = (
        _components, _recipes, _configurations, _workflows, _pipelines, _images, _executions, _imports, _lifecycle,
        _policies, _tags, _removals,
    )  # fmt: skip
    return [item for part in parts for item in part()]


def _components() -> Iterator[ClientCall]:
    made = call(
        "CreateComponent", keep={"component": "componentBuildVersionArn"}, name="Hello You",
        semanticVersion="1.0.0", description="d", changeDescription="first", platform="Linux",
        supportedOsVersions=["Debian 12", "Debian 13"], data=PARAMETER_DOCUMENT, tags=TAGS,
    )  # fmt: skip
    yield from dry(made)
    yield call("GetComponent", componentBuildVersionArn="@component")
    yield call(
        "ImportComponent", keep={"imported": "componentBuildVersionArn"}, name="script", semanticVersion="1.0.0",
        type="BUILD", format="SHELL", platform="Linux", data="echo {{ mustache }}\n", tags=TAGS,
    )  # fmt: skip
    for number in range(3):
        yield call(
            "CreateComponent", name=f"more {number}", semanticVersion="1.0.0", platform="Linux", data=DOCUMENT
        )
    yield listed("ListComponents", "componentVersionList", owner="Self")
    yield listed("ListComponents", "componentVersionList", owner="Amazon")
    yield call("ListComponents", filters=[{"name": "name", "values": ["more*"]}], byName=True)
    yield listed("ListComponentBuildVersions", "componentSummaryList")
    yield fails(MISSING, "GetComponent", componentBuildVersionArn="@none:component/none/1.0.0/1")
    yield call("DeleteComponent", componentBuildVersionArn="@imported")
    yield fails(MISSING, "DeleteComponent", componentBuildVersionArn="@imported")


def _recipes() -> Iterator[ClientCall]:
    parameters = [{"name": "Name", "value": ["you"]}]
    image = call(
        "CreateImageRecipe", keep={"imageRecipe": "imageRecipeArn"}, name="box", semanticVersion="1.0.0",
        description="d", parentImage=f"{OWNED}:image/amazon-linux-2023-x86/x.x.x",
        components=[HELLO], tags=TAGS, workingDirectory="/var/tmp", amiTags={"golden": "yes"},
        blockDeviceMappings=[
            {"deviceName": "/dev/xvda", "ebs": {"volumeSize": 10, "volumeType": "gp3", "encrypted": False}},
            {"deviceName": "/dev/sdb", "noDevice": ""},
        ],
        additionalInstanceConfiguration={"userDataOverride": "IyEvYmluL3NoCg=="},
    )  # fmt: skip
    container = call(
        "CreateContainerRecipe", keep={"containerRecipe": "containerRecipeArn"}, containerType="DOCKER", name="web",
        semanticVersion="1.0.0", description="d", dockerfileTemplateData=TEMPLATE, tags=TAGS,
        parentImage=f"{OWNED}:image/debian-x86-12/x.x.x",
        components=[{"componentArn": "@component", "parameters": parameters}],
        targetRepository={"service": "ECR", "repositoryName": "web"},
    )  # fmt: skip
    yield from dry(image)
    yield from dry(container)
    yield call("GetImageRecipe", imageRecipeArn="@imageRecipe")
    yield call("GetContainerRecipe", containerRecipeArn="@containerRecipe")
    for number in range(3):
        yield call(image.operation, **{**image.members, "name": f"more {number}", "semanticVersion": "1.x.x"})
        yield call(container.operation, **{**container.members, "name": f"more {number}"})
    yield listed("ListImageRecipes", "imageRecipeSummaryList")
    yield listed("ListContainerRecipes", "containerRecipeSummaryList", owner="Self")
    yield fails(MISSING, "GetImageRecipe", imageRecipeArn="@none:image-recipe/none/1.0.0")
    yield fails(MISSING, "GetContainerRecipe", containerRecipeArn="@none:container-recipe/none/1.0.0")


def _configurations() -> Iterator[ClientCall]:
    infrastructure = call(
        "CreateInfrastructureConfiguration", keep={"infrastructure": "infrastructureConfigurationArn"},
        name="infra", description="d", instanceTypes=["t3.micro"], instanceProfileName="profile", tags=TAGS,
        securityGroupIds=["sg-1"], subnetId="subnet-1", keyPair="key", terminateInstanceOnFailure=False,
        logging={"s3Logs": {"s3BucketName": "logs", "s3KeyPrefix": "/builds/"}}, resourceTags={"a": "b"},
        instanceMetadataOptions={"httpTokens": "required", "httpPutResponseHopLimit": 2},
    )  # fmt: skip
    distribution = call(
        "CreateDistributionConfiguration", keep={"distribution": "distributionConfigurationArn"}, name="dist",
        description="d", distributions=[AMI_DISTRIBUTION], tags=TAGS,
    )  # fmt: skip
    for made, get, listing, pages, arn in (
        (infrastructure, "InfrastructureConfiguration", "ListInfrastructureConfigurations",
         "infrastructureConfigurationSummaryList", "@infrastructure"),
        (distribution, "DistributionConfiguration", "ListDistributionConfigurations",
         "distributionConfigurationSummaryList", "@distribution"),
    ):  # fmt: skip
        member = f"{get[0].lower()}{get[1:]}Arn"
        kind = get.removesuffix("Configuration").lower()
        named: dict[str, Any] = {member: arn}
        yield from dry(made)
        yield fails("ResourceAlreadyExistsException", made.operation, **made.members)
        yield call(f"Get{get}", **named)
        kept = {name: value for name, value in made.members.items() if name not in {"name", "tags"}}
        yield from changed(call(f"Update{get}", **{**kept, member: arn, "description": "new"}), description="x")
        yield call(f"Get{get}", **named)
        for number in range(3):
            yield call(made.operation, **{**made.members, "name": f"more {number}"})
        yield listed(listing, pages)
        yield fails(
            MISSING,
            f"Get{get}",
            **{member: f"@none:{kind}-configuration/none"},
        )


def _workflows() -> Iterator[ClientCall]:
    made = call(
        "CreateWorkflow", keep={"workflow": "workflowBuildVersionArn"}, name="mine", semanticVersion="1.0.0",
        description="d", changeDescription="first", type="TEST", data=WORKFLOW, tags=TAGS,
    )  # fmt: skip
    yield from dry(made)
    yield call("GetWorkflow", workflowBuildVersionArn="@workflow")
    yield call("GetWorkflow", workflowBuildVersionArn=f"{OWNED}:workflow/build/build-image/x.x.x")
    for number in range(3):
        yield call(made.operation, **{**made.members, "name": f"more {number}"})
    yield listed("ListWorkflows", "workflowVersionList", owner="Self")
    yield listed("ListWorkflows", "workflowVersionList", owner="Amazon")
    yield listed("ListWorkflowBuildVersions", "workflowSummaryList")
    yield fails(MISSING, "GetWorkflow", workflowBuildVersionArn="@none:workflow/test/none/1.0.0/1")


def _pipelines() -> Iterator[ClientCall]:
    kept: Members = {
        "description": "d", "containerRecipeArn": "@containerRecipe",
        "infrastructureConfigurationArn": "@infrastructure",
        "imageTestsConfiguration": {"imageTestsEnabled": True, "timeoutMinutes": 60},
        "enhancedImageMetadataEnabled": False, "status": "DISABLED", "imageTags": {"built": "here"},
        "schedule": {
            "scheduleExpression": "cron(0 4 ? * MON *)", "timezone": "Europe/Berlin",
            "pipelineExecutionStartCondition": "EXPRESSION_MATCH_ONLY",
            "autoDisablePolicy": {"failureCount": 3},
        },
        "workflows": [{"workflowArn": "@workflow", "onFailure": "CONTINUE", "parallelGroup": "g"}],
        "executionRole": "builder", "loggingConfiguration": {"imageLogGroupName": "/aws/imagebuilder/x"},
        "imageScanningConfiguration": {
            "imageScanningEnabled": True,
            "ecrConfiguration": {"repositoryName": "scans", "containerTags": ["one"]},
        },
    }  # fmt: skip
    made = call("CreateImagePipeline", keep={"pipeline": "imagePipelineArn"}, name="pipe", tags=TAGS, **kept)
    yield from dry(made)
    yield fails("ResourceAlreadyExistsException", made.operation, **made.members)
    yield call("GetImagePipeline", imagePipelineArn="@pipeline")
    update = call("UpdateImagePipeline", **{**kept, "imagePipelineArn": "@pipeline", "status": "ENABLED"})
    yield from changed(update, description="x")
    yield call("GetImagePipeline", imagePipelineArn="@pipeline")
    for number in range(3):
        yield call(made.operation, **{**made.members, "name": f"more {number}"})
    yield listed("ListImagePipelines", "imagePipelineList")
    start = call("StartImagePipelineExecution", keep={"run": "imageBuildVersionArn"}, imagePipelineArn="@pipeline")
    yield from changed(start, tags={"another": "tag"})
    for _ in range(2):
        yield call("StartImagePipelineExecution", imagePipelineArn="@pipeline", tags=TAGS)
    yield listed("ListImagePipelineImages", "imageSummaryList", imagePipelineArn="@pipeline")
    yield fails(MISSING, "GetImagePipeline", imagePipelineArn="@none:image-pipeline/none")
    yield fails(MISSING, "StartImagePipelineExecution", imagePipelineArn="@none:image-pipeline/none")


def _images() -> Iterator[ClientCall]:
    made = call(
        "CreateImage", keep={"image": "imageBuildVersionArn"}, imageRecipeArn="@imageRecipe", tags=TAGS,
        infrastructureConfigurationArn="@infrastructure", distributionConfigurationArn="@distribution",
    )  # fmt: skip
    yield from changed(made, enhancedImageMetadataEnabled=False)
    yield call("GetImage", imageBuildVersionArn="@image")
    yield call("GetImage", imageBuildVersionArn="@available")
    yield listed("ListImages", "imageVersionList", owner="Self")
    yield listed("ListImages", "imageVersionList", owner="Amazon")
    yield listed("ListImageBuildVersions", "imageSummaryList")
    yield listed("ListImagePackages", "imagePackageList", imageBuildVersionArn="@available")
    yield listed("ListImageScanFindings", "findings")
    yield listed("ListImageScanFindingAggregations", "responses")
    by_image = {"name": "imageBuildVersionArn", "values": ["@available"]}
    yield listed("ListImageScanFindingAggregations", "responses", filter=by_image)
    yield fails("ResourceDependencyException", "DeleteImage", imageBuildVersionArn="@image")
    yield from changed(call("CancelImageCreation", imageBuildVersionArn="@image"), imageBuildVersionArn="@run")
    yield call("GetImage", imageBuildVersionArn="@image")
    yield call("DeleteImage", imageBuildVersionArn="@image")
    yield fails(MISSING, "GetImage", imageBuildVersionArn="@image")
    yield from changed(call("RetryImage", imageBuildVersionArn="@failed"), imageBuildVersionArn="@run")
    distributed = call(
        "DistributeImage", keep={"distributed": "imageBuildVersionArn"}, sourceImage="@ami",
        executionRole="builder", distributionConfigurationArn="@distribution", tags=TAGS,
    )  # fmt: skip
    yield from changed(distributed, tags={"other": "tag"})
    yield call("GetImage", imageBuildVersionArn="@distributed")
    yield fails(MISSING, "ListImagePackages", imageBuildVersionArn="@none:image/none/1.0.0/1")


def _executions() -> Iterator[ClientCall]:
    yield listed("ListWorkflowExecutions", "workflowExecutions", imageBuildVersionArn="@running")
    yield call("GetWorkflowExecution", workflowExecutionId="@execution")
    yield listed("ListWorkflowStepExecutions", "steps", workflowExecutionId="@execution")
    yield call("GetWorkflowStepExecution", stepExecutionId="@step")
    yield listed("ListWaitingWorkflowSteps", "steps")
    sent = call(
        "SendWorkflowStepAction", stepExecutionId="@step", imageBuildVersionArn="@running", action="RESUME",
        reason="looks good",
    )  # fmt: skip
    yield from changed(sent, action="STOP")
    yield call("GetWorkflowStepExecution", stepExecutionId="@step")
    unknown = "00000000-0000-0000-0000-000000000000"
    yield fails(MISSING, "GetWorkflowExecution", workflowExecutionId=f"wf-{unknown}")
    yield fails(MISSING, "GetWorkflowStepExecution", stepExecutionId=f"step-{unknown}")


def _imports() -> Iterator[ClientCall]:
    disk = call(
        "ImportVmImage", keep={"disk": "imageArn"}, name="disk", semanticVersion="1.0.0", platform="Linux",
        osVersion="Debian 12", vmImportTaskId="s3://disks/web.qcow2", tags=TAGS,
    )  # fmt: skip
    yield from changed(disk, description="another")
    yield call("GetImage", imageBuildVersionArn="@disk")
    yield call(
        "ImportDiskImage", name="windows", semanticVersion="1.0.0", platform="Windows", uri="s3://isos/win11.iso",
        osVersion="Microsoft Windows 11", infrastructureConfigurationArn="@infrastructure",
    )  # fmt: skip
    marketplace = f"{OWNED}-marketplace:component/monitor/1.0.0/1"
    yield fails(
        "ForbiddenException", "GetMarketplaceResource", resourceType="COMPONENT_DATA", resourceArn=marketplace
    )


def _lifecycle() -> Iterator[ClientCall]:
    kept: Members = {
        "description": "d", "status": "DISABLED", "executionRole": "builder", "resourceType": "AMI_IMAGE",
        "policyDetails": [RULE], "resourceSelection": {"recipes": [{"name": "box", "semanticVersion": "1.x.x"}]},
    }  # fmt: skip
    made = call(
        "CreateLifecyclePolicy", keep={"policy": "lifecyclePolicyArn"}, name="old images", tags=TAGS, **kept
    )
    yield from dry(made)
    yield fails("ResourceAlreadyExistsException", made.operation, **made.members)
    yield call("GetLifecyclePolicy", lifecyclePolicyArn="@policy")
    update = call("UpdateLifecyclePolicy", lifecyclePolicyArn="@policy", **{**kept, "status": "ENABLED"})
    yield from changed(update, description="x")
    yield call("GetLifecyclePolicy", lifecyclePolicyArn="@policy")
    for number in range(3):
        yield call(made.operation, **{**made.members, "name": f"more {number}"})
    yield listed("ListLifecyclePolicies", "lifecyclePolicySummaryList")
    yield listed("ListLifecycleExecutions", "lifecycleExecutions", resourceArn="@cleaned")
    yield call("GetLifecycleExecution", lifecycleExecutionId="@cleaning")
    yield listed("ListLifecycleExecutionResources", "resources", lifecycleExecutionId="@cleaning")
    cancel = call("CancelLifecycleExecution", lifecycleExecutionId="@cleaning")
    yield from twice(cancel, "token-cancellifecycle")
    deprecation = call(
        "StartResourceStateUpdate", keep={"update": "lifecycleExecutionId"}, resourceArn="@available",
        state={"status": "DEPRECATED"}, executionRole="builder", includeResources={"amis": True},
    )  # fmt: skip
    yield from changed(deprecation, state={"status": "DISABLED"})
    yield call("GetLifecycleExecution", lifecycleExecutionId="@update")
    yield fails(MISSING, "GetLifecyclePolicy", lifecyclePolicyArn="@none:lifecycle-policy/none")


def _policies() -> Iterator[ClientCall]:
    yield from shared("Component", "componentArn", "@component", "GetComponent")
    yield from shared("Image", "imageArn", "@available", "GetImage")
    yield from shared("ImageRecipe", "imageRecipeArn", "@imageRecipe", "GetImageRecipe")
    yield from shared("ContainerRecipe", "containerRecipeArn", "@containerRecipe", "GetContainerRecipe")


def _tags() -> Iterator[ClientCall]:
    for reference in ("@component", "@imageRecipe", "@containerRecipe", "@infrastructure", "@distribution",
                      "@workflow", "@pipeline", "@available", "@policy"):  # fmt: skip
        yield call("TagResource", resourceArn=reference, tags={"a/b c": "ü", "empty": ""})
        yield call("UntagResource", resourceArn=reference, tagKeys=["team", "empty"])
        yield call("ListTagsForResource", resourceArn=reference)
    yield fails(MISSING, "ListTagsForResource", resourceArn="@none:image-pipeline/none")
    yield fails("InvalidParameterException", "TagResource", resourceArn="@component", tags={"aws:x": "y"})


REMOVED: Final = (
    ("DeleteLifecyclePolicy", "lifecyclePolicyArn", "@policy", ""),
    ("DeleteContainerRecipe", "containerRecipeArn", "@containerRecipe", "pipeline"),
    ("DeleteInfrastructureConfiguration", "infrastructureConfigurationArn", "@infrastructure", "pipeline"),
    ("DeleteImagePipeline", "imagePipelineArn", "@pipeline", ""),
    ("DeleteImageRecipe", "imageRecipeArn", "@imageRecipe", ""),
    ("DeleteDistributionConfiguration", "distributionConfigurationArn", "@distribution", ""),
    ("DeleteWorkflow", "workflowBuildVersionArn", "@workflow", "pipeline"),
)
"""Operation, member, resource, and what keeps it from being deleted."""


def _removals() -> Iterator[ClientCall]:
    for operation, member, reference, kept in REMOVED:
        named: dict[str, Any] = {member: reference}
        if kept:
            yield fails("ResourceDependencyException", operation, **named)
            continue
        yield call(operation, **named)
        yield fails(MISSING, operation, **named)
    yield call("DeleteContainerRecipe", containerRecipeArn="@none:container-recipe/more-0/1.0.0")
    yield call("DeleteWorkflow", workflowBuildVersionArn="@none:workflow/test/more-0/1.0.0/1")
    yield call(
        "DeleteInfrastructureConfiguration",
        infrastructureConfigurationArn="@none:infrastructure-configuration/more-0",
    )


def resolved(value: Any, known: Mapping[str, str]) -> Any:
    """Members with the values that their references stand for; a policy becomes text."""
    if isinstance(value, str) and value.startswith("@"):
        name, colon, rest = value[1:].partition(":")
        return known.get(name, f"no-{name}") + colon + rest
    if isinstance(value, list):
        return [resolved(item, known) for item in value]
    if isinstance(value, Mapping):
        found = {key: resolved(item, known) for key, item in value.items()}
        return {k: _compact(v) if k == "policy" and isinstance(v, dict) else v for k, v in found.items()}
    return value


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def kept_values(item: ClientCall, answer: Mapping[str, Any]) -> dict[str, str]:
    """What later calls need of an answer."""
    found = {}
    for name, path in item.keep.items():
        value: Any = answer
        for part in path.split("."):
            value = value[part]
        found[name] = str(value)
    return found
