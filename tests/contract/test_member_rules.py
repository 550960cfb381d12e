"""Rules between members, and the order of checks, as tables over HTTP (spec/api.md 4.3 and 2.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from imagesmith.resources.operations import built_operations
from imagesmith.store import queries
from testing.api import ACCOUNT, DOCUMENT, REGION, TEMPLATE, WORKFLOW, Api, MakeApi
from testing.inhabited import POLICY, Inhabited, inhabit
from testing.loaded import service_model
from testing.signed import send_signed


@pytest.fixture
def database_kind() -> str:
    """The store makes no difference to what is asserted here."""
    return "sqlite"


Members = Mapping[str, Any]
VALUE, COMBINATION = "InvalidParameterValueException", "InvalidParameterCombinationException"
REQUEST: Final = "InvalidRequestException"
OUTSIDE: Final = {"loggingConfiguration": {"logGroupName": "/team/images"}}
CONTAINER: Final = {"targetRepository": {"service": "ECR", "repositoryName": "web"}}
SCAN: Final = {"imageScanningEnabled": True}
DISK: Final = {"type": "AGE", "value": 1, "unit": "DAYS"}


@dataclass(frozen=True)
class Broken:
    """One broken rule: what is wrong with an otherwise good request, and the answer."""

    operation: str
    change: Members
    code: str
    path: str = ""
    """The parameter that the message names; empty: the message has no parameter."""
    without: tuple[str, ...] = ()


def _entry(**members: Any) -> Members:
    return {"distributions": [{"region": REGION, **members}]}


def _launch(**members: Any) -> Members:
    return _entry(fastLaunchConfigurations=[{"enabled": True, "launchTemplate": members}])


def _rule(action: str, filter: Members, **members: Any) -> Members:
    return {"policyDetails": [{"action": {"type": action, **members}, "filter": filter}]}


def _update(status: str, **members: Any) -> Members:
    return {"state": {"status": status}, **members}


_RUN_RULES: Final[tuple[tuple[Members, str, str, tuple[str, ...]], ...]] = (
    ({"imageRecipeArn": "image-recipe"}, COMBINATION, "imageRecipeArn", ()),
    ({}, COMBINATION, "imageRecipeArn", ("containerRecipeArn",)),
    ({"workflows": [{"workflowArn": "workflow"}]}, COMBINATION, "executionRole", ()),
    (
        {"workflows": [{"workflowArn": "build-workflow", "onFailure": "CONTINUE"}], "executionRole": "r"},
        COMBINATION, "workflows[0].onFailure", (),
    ),
    (
        {"workflows": [{"workflowArn": "build-workflow", "parallelGroup": "g"}], "executionRole": "r"},
        COMBINATION, "workflows[0].parallelGroup", (),
    ),
    (
        {"imageScanningConfiguration": {"imageScanningTypes": ["ON_DEMAND_AMI_CVE"]}},
        COMBINATION, "imageScanningConfiguration.imageScanningTypes", (),
    ),
    (
        {"imageScanningConfiguration": {"scanResultCondition": {"maximumSeverityLabel": "HIGH"}}},
        COMBINATION, "imageScanningConfiguration.scanResultCondition", (),
    ),
    (
        {"imageScanningConfiguration": SCAN, "imageTestsConfiguration": {"imageTestsEnabled": False}},
        COMBINATION, "imageScanningConfiguration", (),
    ),
)  # fmt: skip
_RUNS: Final = tuple(
    Broken(operation, change, code, path, without)
    for operation in ("CreateImagePipeline", "UpdateImagePipeline", "CreateImage")
    for change, code, path, without in _RUN_RULES
)
_CONFIGURATION_RULES: Final[tuple[tuple[str, Members, str, str], ...]] = (
    ("InfrastructureConfiguration", {"subnetId": "subnet-1"}, COMBINATION, "subnetId"),
    (
        "InfrastructureConfiguration", {"placement": {"tenancy": "default", "hostId": "h"}},
        COMBINATION, "placement.tenancy",
    ),
    (
        "InfrastructureConfiguration", {"placement": {"hostResourceGroupArn": "g"}},
        COMBINATION, "placement.tenancy",
    ),
    (
        "InfrastructureConfiguration",
        {"placement": {"tenancy": "host", "hostId": "h", "hostResourceGroupArn": "g"}},
        COMBINATION, "placement",
    ),
    *(
        ("InfrastructureConfiguration", {"resourceTags": {key: "v"}}, VALUE, "resourceTags")
        for key in ("CreatedBy", "Ec2ImageBuilderArn", "Name", "Tags")
    ),
    (
        "InfrastructureConfiguration", {"snsTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:x.fifo"},
        VALUE, "snsTopicArn",
    ),
    (
        "DistributionConfiguration",
        {"distributions": [{"region": REGION, "amiDistributionConfiguration": {}}] * 2},
        VALUE, "distributions[1].region",
    ),
    ("DistributionConfiguration", _entry(), VALUE, "distributions[0]"),
    (
        "DistributionConfiguration", _entry(amiDistributionConfiguration={"name": "fixed"}),
        VALUE, "distributions[0].amiDistributionConfiguration.name",
    ),
    (
        "DistributionConfiguration",
        _entry(amiDistributionConfiguration={"launchPermission": {"userGroups": ["some"]}}),
        VALUE, "distributions[0].amiDistributionConfiguration.launchPermission.userGroups",
    ),
    (
        "DistributionConfiguration",
        _launch(launchTemplateId="lt-0123456789abcdef0", launchTemplateName="n"),
        COMBINATION, "distributions[0].fastLaunchConfigurations[0].launchTemplate",
    ),
    *(
        (
            "DistributionConfiguration",
            _entry(
                containerDistributionConfiguration={
                    "targetRepository": {"service": "ECR", "repositoryName": f"{host}/web"}
                }
            ),
            VALUE, "distributions[0].containerDistributionConfiguration.targetRepository.repositoryName",
        )
        for host in (f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com", "public.ecr.aws", "localhost:5000")
    ),
    ("LifecyclePolicy", {"resourceSelection": {}}, COMBINATION, "resourceSelection"),
    (
        "LifecyclePolicy",
        {"resourceSelection": {"tagMap": {"a": "b"}, "recipes": [{"name": "web", "semanticVersion": "x.x.x"}]}},
        COMBINATION, "resourceSelection",
    ),
    ("LifecyclePolicy", {"policyDetails": [*POLICY["policyDetails"]] * 2}, COMBINATION,
     "policyDetails[1].action.type"),
    ("LifecyclePolicy", _rule("DISABLE", DISK), COMBINATION, "policyDetails[0].action.type"),
    ("LifecyclePolicy", {"resourceType": "AMI_IMAGE", **_rule("DISABLE", {"type": "COUNT", "value": 2})},
     COMBINATION, "policyDetails[0].filter.type"),
    ("LifecyclePolicy", _rule("DELETE", {"type": "AGE", "value": 2}), COMBINATION,
     "policyDetails[0].filter.unit"),
    ("LifecyclePolicy", _rule("DELETE", DISK, includeResources={"amis": True}), COMBINATION,
     "policyDetails[0].action.includeResources"),
    *(
        ("LifecyclePolicy", {"resourceType": "AMI_IMAGE", **_rule(action, DISK, includeResources=include)},
         COMBINATION, "policyDetails[0].action.includeResources")
        for action, include in (
            ("DELETE", {"containers": True}), ("DELETE", {"snapshots": True}),
            ("DEPRECATE", {"amis": True, "snapshots": True}), ("DISABLE", {"amis": True, "snapshots": True}),
        )
    ),
)  # fmt: skip
_CONFIGURATIONS: Final = tuple(
    Broken(f"{verb}{operation}", change, code, path)
    for verb in ("Create", "Update")
    for operation, change, code, path in _CONFIGURATION_RULES
)
_DOCUMENTS: Final = (
    *(Broken(name, {"uri": "s3://b/k"}, COMBINATION, "data")
      for name in ("CreateComponent", "CreateWorkflow", "ImportComponent")),
    *(Broken(name, {}, COMBINATION, "data", ("data",))
      for name in ("CreateComponent", "CreateWorkflow", "ImportComponent")),
    Broken("CreateContainerRecipe", {"dockerfileTemplateUri": "s3://b/k"}, COMBINATION, "dockerfileTemplateData"),
    Broken("CreateContainerRecipe", {}, COMBINATION, "dockerfileTemplateData", ("dockerfileTemplateData",)),
    Broken("CreateContainerRecipe", {"platformOverride": "macOS"}, VALUE, "platformOverride"),
    Broken("CreateContainerRecipe", {"imageOsVersionOverride": "Debian 12"}, COMBINATION, "imageOsVersionOverride"),
    Broken("CreateContainerRecipe", {"parentImage": "public.ecr.aws/debian/debian:12"}, COMBINATION, "parentImage"),
    Broken("CreateContainerRecipe", {"parentImage": "win:1", "platformOverride": "Windows"}, COMBINATION,
           "parentImage"),
    Broken("CreateImageRecipe", {"amiWatermarks": ["one", "one"]}, VALUE, "amiWatermarks"),
    Broken("CreateImageRecipe", {"additionalInstanceConfiguration": {"userDataOverride": "%"}}, VALUE,
           "additionalInstanceConfiguration.userDataOverride"),
    Broken(
        "CreateImageRecipe",
        {
            "parentImage": "windows",
            "additionalInstanceConfiguration": {"systemsManagerAgent": {"uninstallAfterBuild": True}},
        },
        COMBINATION, "additionalInstanceConfiguration.systemsManagerAgent", ("components",),
    ),
    Broken("CreateImageRecipe", {"components": [{"componentArn": "windows-component"}]}, COMBINATION,
           "components[0].componentArn"),
)  # fmt: skip
_OTHERS: Final = (
    Broken("CreateImage", OUTSIDE, COMBINATION, "loggingConfiguration.logGroupName"),
    *(Broken(f"{verb}ImagePipeline", {"loggingConfiguration": {name: "/team/images"}}, COMBINATION,
             f"loggingConfiguration.{name}")
      for verb in ("Create", "Update") for name in ("imageLogGroupName", "pipelineLogGroupName")),
    Broken("ImportVmImage", OUTSIDE, COMBINATION, "loggingConfiguration.logGroupName"),
    Broken("ImportVmImage", {"platform": "macOS"}, VALUE, "platform"),
    Broken("ImportVmImage", {"vmImportTaskId": "import-ami-1"}, VALUE, "vmImportTaskId"),
    *(Broken(name, {"byName": True, "filters": [{"name": "version", "values": ["1.0.0"]}]}, COMBINATION, "filters")
      for name in ("ListComponents", "ListImages", "ListWorkflows")),
    *(Broken("ListWorkflows", {"owner": owner}, VALUE, "owner") for owner in ("Shared", "ThirdParty")),
    *(Broken("ListContainerRecipes", {"owner": owner}, VALUE, "owner")
      for owner in ("ThirdParty", "AWSMarketplace")),
    *(Broken("ListLifecycleExecutions", {"resourceArn": kind}, VALUE, "resourceArn")
      for kind in ("component", "image-pipeline", "image-version")),
    Broken("StartResourceStateUpdate", _update("DEPRECATED", executionRole="r"), REQUEST),
    Broken("StartResourceStateUpdate", _update("DELETED", includeResources={"containers": True}), REQUEST),
    Broken("StartResourceStateUpdate", _update("DELETED"), REQUEST),
    Broken("StartResourceStateUpdate", _update("DISABLED", updateAt=4_000_000_000), REQUEST),
    Broken("StartResourceStateUpdate", _update("DEPRECATED", updateAt=1_000_000_000), REQUEST),
    Broken("StartResourceStateUpdate", _update("DEPRECATED"), REQUEST),  # a container image
    Broken("StartResourceStateUpdate",
           _update("DELETED", executionRole="r", includeResources={"amis": True}), REQUEST),
    Broken("UpdateLifecyclePolicy", {"resourceType": "AMI_IMAGE"}, COMBINATION, "resourceType"),
)  # fmt: skip
BROKEN: Final = (*_RUNS, *_CONFIGURATIONS, *_DOCUMENTS, *_OTHERS)


@pytest.fixture
def filled(make_api: MakeApi) -> Iterator[tuple[Api, Inhabited]]:
    api = make_api()
    stored = inhabit(api)
    more = {
        "build-workflow": api.arn("workflow", "build/build-container/x.x.x", owner="aws"),
        "windows": api.arn("image", "windows-server-2022-english-full-base-x86/x.x.x", owner="aws"),
        "windows-component": api.component(
            name="win", platform="Windows", data=DOCUMENT.replace("ExecuteBash", "ExecutePowerShell")
        ),
        "image-version": stored["image"].rpartition("/")[0],
        "base": api.arn("image", "debian-12-x86/x.x.x", owner="aws"),
    }
    yield api, Inhabited({**stored.arns, **more})


def good(operation: str, stored: Inhabited, *, name: str = "another") -> dict[str, Any]:
    """A request that succeeds, with ARN types for ARNs."""
    version = {"name": name, "semanticVersion": "1.0.0"}
    run = {
        "containerRecipeArn": "container-recipe",
        "infrastructureConfigurationArn": "infrastructure-configuration",
    }
    distributions = _entry(containerDistributionConfiguration=CONTAINER)
    requests: dict[str, Members] = {
        "CreateImagePipeline": {**run, "name": name},
        "UpdateImagePipeline": {**run, "imagePipelineArn": "image-pipeline"},
        "CreateImage": run,
        "CreateInfrastructureConfiguration": {"name": name, "instanceProfileName": "p"},
        "UpdateInfrastructureConfiguration": {
            "infrastructureConfigurationArn": "infrastructure-configuration", "instanceProfileName": "p"
        },
        "CreateDistributionConfiguration": {"name": name, **distributions},
        "UpdateDistributionConfiguration": {
            "distributionConfigurationArn": "distribution-configuration", **distributions
        },
        "CreateLifecyclePolicy": {**POLICY, "name": name},
        "UpdateLifecyclePolicy": {**POLICY, "lifecyclePolicyArn": "lifecycle-policy"},
        "CreateComponent": {**version, "platform": "Linux", "data": DOCUMENT},
        "ImportComponent": {
            **version, "platform": "Linux", "type": "BUILD", "format": "SHELL", "data": "echo hello"
        },
        "CreateWorkflow": {**version, "type": "TEST", "data": WORKFLOW},
        "CreateContainerRecipe": {
            **version, "containerType": "DOCKER", "dockerfileTemplateData": TEMPLATE, **CONTAINER,
            "parentImage": f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x",
            "components": [{"componentArn": "component"}],
        },
        "CreateImageRecipe": {**version, "parentImage": "base", "components": [{"componentArn": "component"}]},
        "ImportVmImage": {**version, "platform": "Linux", "vmImportTaskId": "s3://bucket/disk.qcow2"},
        "StartResourceStateUpdate": {"resourceArn": "image"},
    }  # fmt: skip
    request = dict(requests.get(operation, {}))
    if "clientToken" in service_model().operations[operation].input.members:
        request["clientToken"] = f"token-{operation[:20]}"
    return dict(filled_in(request, stored))


def filled_in(value: Any, stored: Inhabited) -> Any:
    """A request with ARNs in the place of ARN types."""
    if isinstance(value, dict):
        return {
            name: stored.arns.get(item, item)
            if isinstance(item, str) and (name.endswith("Arn") or name == "parentImage")
            else filled_in(item, stored)
            for name, item in value.items()
        }
    return [filled_in(item, stored) for item in value] if isinstance(value, list) else value


def request_of(broken: Broken, stored: Inhabited, *, name: str = "another") -> dict[str, Any]:
    request = {**good(broken.operation, stored, name=name), **filled_in(broken.change, stored)}
    return {member: value for member, value in request.items() if member not in broken.without}


def test_every_rule_between_members_is_told_with_its_code_and_path(filled: tuple[Api, Inhabited]) -> None:
    """On create and on update; nothing is stored and nothing changes."""
    api, stored = filled
    before = _state(api, stored)
    for broken in BROKEN:
        answer = send_signed(api, broken.operation, request_of(broken, stored))
        assert (answer.status, answer.error) == (400, broken.code), (broken, answer.message)
        if broken.path:
            beginning = f"The value supplied for parameter '{broken.path}' is not valid. "
            assert answer.message.startswith(beginning), (broken, answer.message)
    assert _state(api, stored) == before


def _state(api: Api, stored: Inhabited) -> tuple[int, list[Any]]:
    with api.database.read() as tx:
        return api.rows(), [queries.get(tx, arn) for arn in stored.arns.values()]


def test_the_requests_of_the_table_succeed_without_their_fault(filled: tuple[Api, Inhabited]) -> None:
    """So that it is the rule that was told, and nothing else."""
    api, stored = filled
    for operation in sorted({item.operation for item in BROKEN}):
        if operation.startswith(("List", "Start")):
            continue
        answer = send_signed(api, operation, good(operation, stored, name=operation))
        assert answer.status == 200, (operation, answer.message)


def test_every_operation_with_rules_is_in_the_table() -> None:
    """A new rule gets a row; what DistributeImage requires fulfils its rule, an ISO has a table of its own."""
    with_rules = {name for name, built in built_operations().items() if built.rules}
    assert with_rules - {item.operation for item in BROKEN} == {"ImportDiskImage", "DistributeImage"}


def test_checks_come_in_the_order_of_the_specification(filled: tuple[Api, Inhabited]) -> None:
    """Each request breaks its own check and all later ones, and hears of its own."""
    api, stored = filled
    token = {"clientToken": "in-order"}
    absent = {
        "containerRecipeArn": api.arn("container-recipe", "absent/1.0.0"),
        "infrastructureConfigurationArn": api.arn("infrastructure-configuration", "absent"),
    }
    pipeline = {"name": "Known One", **absent, **token}
    assert send_signed(api, "CreateImagePipeline", good("CreateImagePipeline", stored) | token).status == 200
    steps: tuple[tuple[str, Members, str], ...] = (
        ("CreateImagePipeline", {**pipeline, "status": "ON", "imageRecipeArn": 3}, VALUE),
        ("CreateImagePipeline", {**pipeline, **filled_in({"imageRecipeArn": "image-recipe"}, stored)}, COMBINATION),
        ("CreateImagePipeline", pipeline, "IdempotentParameterMismatchException"),
        ("CreateImagePipeline", {**pipeline, "clientToken": "new"}, "ResourceNotFoundException"),
        (
            "CreateImagePipeline",
            {**good("CreateImagePipeline", stored), "name": "known_one", "clientToken": "new"},
            "ResourceAlreadyExistsException",
        ),
        (
            "CreateImagePipeline",
            {**good("CreateImagePipeline", stored), "name": "fresh", "clientToken": "new", "dryRun": True},
            "DryRunOperationException",
        ),
    )
    for operation, members, code in steps:
        assert send_signed(api, operation, members).error == code, members


def test_the_source_of_a_document_is_read_after_the_rules_and_the_token(filled: tuple[Api, Inhabited]) -> None:
    """A request that breaks a rule, or repeats an answered one, reads nothing."""
    api, stored = filled
    request = good("CreateComponent", stored)
    del request["data"]
    api.sources["s3://bucket/once.yml"] = DOCUMENT
    first = send_signed(api, "CreateComponent", {**request, "uri": "s3://bucket/once.yml"})
    del api.sources["s3://bucket/once.yml"]
    again = send_signed(api, "CreateComponent", {**request, "uri": "s3://bucket/once.yml"})
    assert first.status == again.status == 200 and first.body == again.body
    both = {**request, "uri": "s3://bucket/gone.yml", "data": DOCUMENT, "clientToken": "both"}
    assert send_signed(api, "CreateComponent", both).error == COMBINATION
