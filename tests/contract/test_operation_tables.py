"""Tables over operations: literal texts, absent resources, wildcards, forms of answers (spec/api.md 2 and 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from imagesmith.wire.model import Shape
from testing.api import ACCOUNT, REGION, MakeApi
from testing.inhabited import UNKNOWN_ID, inhabit, unknown_arn
from testing.loaded import service_model
from testing.signed import send_signed


@pytest.fixture
def database_kind() -> str:
    """The store makes no difference to what is asserted here."""
    return "sqlite"


_KINDS: Final = {
    "Component": ("component", "componentBuildVersionArn"),
    "ContainerRecipe": ("container-recipe", "containerRecipeArn"),
    "ImageRecipe": ("image-recipe", "imageRecipeArn"),
    "InfrastructureConfiguration": ("infrastructure-configuration", "infrastructureConfigurationArn"),
    "DistributionConfiguration": ("distribution-configuration", "distributionConfigurationArn"),
    "ImagePipeline": ("image-pipeline", "imagePipelineArn"),
    "Image": ("image", "imageBuildVersionArn"),
    "Workflow": ("workflow", "workflowBuildVersionArn"),
    "LifecyclePolicy": ("lifecycle-policy", "lifecyclePolicyArn"),
}
"""Name in messages -> ARN type, member of Get and Delete."""
_TOKEN: Final = {"clientToken": "absent"}
_ABSENT: Final[tuple[tuple[str, str, Mapping[str, Any]], ...]] = (
    *(
        (f"{verb}{name}", name, {member: unknown_arn(kind)})
        for name, (kind, member) in _KINDS.items()
        for verb in ("Get", "Delete")
    ),
    *(
        (f"Get{name}Policy", name, {member: unknown_arn(kind)})
        for name, kind, member in (
            ("Component", "component", "componentArn"), ("Image", "image", "imageArn"),
            ("ImageRecipe", "image-recipe", "imageRecipeArn"),
            ("ContainerRecipe", "container-recipe", "containerRecipeArn"),
        )
    ),
    *((name, "Image", {"imageBuildVersionArn": unknown_arn("image"), **_TOKEN})
      for name in ("CancelImageCreation", "RetryImage")),
    *((name, "Image", {"imageBuildVersionArn": unknown_arn("image")})
      for name in ("ListImagePackages", "ListWorkflowExecutions")),
    ("StartImagePipelineExecution", "ImagePipeline", {"imagePipelineArn": unknown_arn("image-pipeline"), **_TOKEN}),
    *((name, "WorkflowExecution", {"workflowExecutionId": f"wf-{UNKNOWN_ID}"})
      for name in ("GetWorkflowExecution", "ListWorkflowStepExecutions")),
    ("GetWorkflowStepExecution", "WorkflowStepExecution", {"stepExecutionId": f"step-{UNKNOWN_ID}"}),
    (
        "SendWorkflowStepAction", "WorkflowStepExecution",
        {"stepExecutionId": f"step-{UNKNOWN_ID}", "imageBuildVersionArn": unknown_arn("image"), "action": "RESUME",
         **_TOKEN},
    ),
    *((name, "LifecycleExecution", {"lifecycleExecutionId": f"lce-{UNKNOWN_ID}"})
      for name in ("GetLifecycleExecution", "ListLifecycleExecutionResources")),
    ("CancelLifecycleExecution", "LifecycleExecution", {"lifecycleExecutionId": f"lce-{UNKNOWN_ID}", **_TOKEN}),
    ("ListLifecycleExecutions", "LifecyclePolicy", {"resourceArn": unknown_arn("lifecycle-policy")}),
    ("ListTagsForResource", "Component", {"resourceArn": unknown_arn("component")}),
    ("TagResource", "Component", {"resourceArn": unknown_arn("component"), "tags": {"a": "b"}}),
    ("UntagResource", "Component", {"resourceArn": unknown_arn("component"), "tagKeys": ["a"]}),
    (
        "StartResourceStateUpdate", "Image",
        {"resourceArn": unknown_arn("image"), "state": {"status": "DEPRECATED"}, **_TOKEN},
    ),
)  # fmt: skip
"""Operation, name of the kind, request for something that is not there."""


def test_what_is_not_there_is_named_in_the_words_of_the_service(make_api: MakeApi) -> None:
    """404, and the kind with the ARN or id as given; a second deletion is one of them."""
    api = make_api()
    for operation, kind, members in _ABSENT:
        answer = send_signed(api, operation, members)
        wanted = next(str(value) for name, value in members.items() if name.endswith(("Arn", "Id")))
        assert (answer.status, answer.error) == (404, "ResourceNotFoundException"), operation
        expected = f"The following required resource '{kind}' cannot be found: '{wanted}'."
        assert answer.message == expected, operation


_WILDCARDS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("DeleteImageRecipe", {"imageRecipeArn": "image-recipe/known-one/1.x.x"}),
    ("DeleteContainerRecipe", {"containerRecipeArn": "container-recipe/known-one/x.x.x"}),
    ("DeleteComponent", {"componentBuildVersionArn": "component/known-one/1.0.x"}),
    ("DeleteImage", {"imageBuildVersionArn": "image/known-one/x.x.x"}),
    ("DeleteWorkflow", {"workflowBuildVersionArn": "workflow/test/known-one/x.x.x"}),
    ("PutImageRecipePolicy", {"imageRecipeArn": "image-recipe/known-one/1.x.x", "policy": "{}"}),
    ("PutContainerRecipePolicy", {"containerRecipeArn": "container-recipe/known-one/1.x.x", "policy": "{}"}),
    ("PutComponentPolicy", {"componentArn": "component/known-one/x.x.x", "policy": "{}"}),
    ("PutImagePolicy", {"imageArn": "image/known-one/x.x.x", "policy": "{}"}),
    ("GetImageRecipePolicy", {"imageRecipeArn": "image-recipe/known-one/1.x.x"}),
    ("GetContainerRecipePolicy", {"containerRecipeArn": "container-recipe/known-one/1.x.x"}),
    ("GetComponentPolicy", {"componentArn": "component/known-one/x.x.x"}),
    ("GetImagePolicy", {"imageArn": "image/known-one/x.x.x"}),
    ("CancelImageCreation", {"imageBuildVersionArn": "image/known-one/x.x.x", **_TOKEN}),
    ("ListImagePackages", {"imageBuildVersionArn": "image/known-one/1.0.0"}),
    ("ListImageBuildVersions", {"imageVersionArn": "image/known-one/1.x.x"}),
    ("ListImageBuildVersions", {"imageVersionArn": "image/known-one/1.0.0/1"}),
    ("ListComponentBuildVersions", {"componentVersionArn": "component/known-one/1.x.x"}),
    ("ListComponentBuildVersions", {"componentVersionArn": "component/known-one/1.0.0/1"}),
    ("TagResource", {"resourceArn": "component/known-one/1.x.x", "tags": {"a": "b"}}),
    ("UntagResource", {"resourceArn": "image/known-one/x.x.x", "tagKeys": ["a"]}),
    ("ListTagsForResource", {"resourceArn": "image-recipe/known-one/1.x.x"}),
)
"""Operation, request with a path that names no exact resource."""


def test_what_names_one_resource_takes_no_wildcard(make_api: MakeApi) -> None:
    """Deletions, policies, tags and lists of builds: the member is named, and nothing is changed."""
    api = make_api()
    stored = inhabit(api)
    for operation, members in _WILDCARDS:
        request = {
            name: f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:{value}" if name.endswith("Arn") else value
            for name, value in members.items()
        }
        answer = send_signed(api, operation, request)
        code = "InvalidParameterException" if "resourceArn" in members else "InvalidParameterValueException"
        member = next(name for name in members if name.endswith("Arn"))
        assert (answer.status, answer.error) == (400, code), operation
        assert answer.message.startswith(f"The value supplied for parameter '{member}' is not valid. "), operation
    for name, (kind, member) in _KINDS.items():
        assert send_signed(api, f"Get{name}", {member: stored[kind]}).status == 200


@pytest.mark.parametrize("version", ["x.2.x", "1.x.8", "x.x.1"])
def test_a_number_behind_a_wildcard_is_no_version(make_api: MakeApi, version: str) -> None:
    """InvalidVersionNumberException, wherever an ARN is read."""
    api = make_api()
    inhabit(api)
    for operation, member, path in (
        ("GetComponent", "componentBuildVersionArn", "component/known-one"),
        ("GetImage", "imageBuildVersionArn", "image/known-one"),
        ("GetImageRecipe", "imageRecipeArn", "image-recipe/known-one"),
        ("GetContainerRecipe", "containerRecipeArn", "container-recipe/known-one"),
        ("GetWorkflow", "workflowBuildVersionArn", "workflow/test/known-one"),
        ("ListWorkflowBuildVersions", "workflowVersionArn", "workflow/test/known-one"),
    ):
        answer = send_signed(api, operation, {member: api.arn(*f"{path}/{version}".split("/", 1))})
        assert (answer.status, answer.error) == (400, "InvalidVersionNumberException"), operation


_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_every_read_has_the_form_of_the_model(make_api: MakeApi) -> None:
    """Required members are there, null never is, tags are maps, dates are texts, instants numbers."""
    api = make_api()
    arns = inhabit(api)
    seen: set[str] = set()
    for operation in service_model().operations.values():
        members = _read_request(operation.name, arns.arns)
        if members is None:
            continue
        answer = send_signed(api, operation.name, members)
        assert answer.status == 200, (operation.name, answer.message)
        problems = list(_problems(operation.output, answer.body, operation.name))
        assert not problems
        seen.add(operation.name)
    assert len(seen) >= 30


def _read_request(name: str, arns: Mapping[str, str]) -> dict[str, Any] | None:
    """A request for something that is there; None for an operation that changes something or needs a run."""
    members = {f"Get{kind}": {member: arns[path]} for kind, (path, member) in _KINDS.items()}
    members |= {
        "GetComponentPolicy": {"componentArn": arns["component"]}, "GetImagePolicy": {"imageArn": arns["image"]},
        "GetImageRecipePolicy": {"imageRecipeArn": arns["image-recipe"]},
        "GetContainerRecipePolicy": {"containerRecipeArn": arns["container-recipe"]},
        "ListTagsForResource": {"resourceArn": arns["image"]},
        "ListImagePipelineImages": {"imagePipelineArn": arns["image-pipeline"]},
        "ListImagePackages": {"imageBuildVersionArn": arns["image"]},
        "ListWorkflowExecutions": {"imageBuildVersionArn": arns["image"]},
        "ListLifecycleExecutions": {"resourceArn": arns["lifecycle-policy"]},
    }  # fmt: skip
    if name in ("ListWorkflowStepExecutions", "ListLifecycleExecutionResources"):
        return None
    return members.get(name, {} if name.startswith("List") else None)


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Where a value differs from its shape."""
    if value is None:
        yield f"{path} is null"
    elif shape.type == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from _problems(member.shape, value[name], f"{path}.{name}")
            elif member.required or name == "tags":
                yield f"{path}.{name} is absent"
        yield from (f"{path}.{name} is unknown" for name in value.keys() - shape.members.keys())
    elif shape.type == "list":
        assert shape.item is not None
        for index, item in enumerate(value):
            yield from _problems(shape.item, item, f"{path}[{index}]")
    elif shape.type == "timestamp" and not isinstance(value, (int, float)):
        yield f"{path} is no number of seconds"
    elif shape.name == "DateTime" and not _INSTANT.fullmatch(value):
        yield f"{path} is no instant: {value}"
