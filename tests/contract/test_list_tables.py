"""Tables over the List operations: filters, owners, absent versions, what was withdrawn (spec/api.md 4.6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from imagesmith.store import queries
from testing.api import DOCUMENT, Api, MakeApi
from testing.inhabited import Inhabited, inhabit, unknown_arn
from testing.loaded import service_model
from testing.refusals import refused
from testing.signed import SignedAnswer, send_signed


@pytest.fixture
def database_kind() -> str:
    """The store makes no difference to what is asserted here."""
    return "sqlite"


@pytest.fixture
def filled(make_api: MakeApi) -> Iterator[tuple[Api, Inhabited]]:
    api = make_api()
    yield api, inhabit(api)


_FILTERS: Final[dict[str, tuple[str, ...]]] = {
    "ListComponents": (
        "description", "name", "platform", "productCodes", "status", "supportedOsVersion", "type", "version",
    ),
    "ListContainerRecipes": ("containerType", "name", "parentImage", "platform"),
    "ListImageRecipes": ("name", "parentImage", "platform"),
    "ListImagePipelines": (
        "containerRecipeArn", "description", "distributionConfigurationArn", "imageRecipeArn",
        "infrastructureConfigurationArn", "name", "status",
    ),
    "ListImagePipelineImages": ("name", "version"),
    "ListImages": ("name", "osVersion", "platform", "type", "version"),
    "ListImageBuildVersions": ("name", "osVersion", "platform", "type", "version"),
    "ListInfrastructureConfigurations": ("name",),
    "ListDistributionConfigurations": ("name",),
    "ListWorkflows": ("description", "name", "type", "version"),
    "ListLifecyclePolicies": ("name", "resourceType", "status"),
    "ListImageScanFindings": ("imageBuildVersionArn", "imagePipelineArn", "severity", "vulnerabilityId"),
}  # fmt: skip


def listed(answer: SignedAnswer) -> list[Any]:
    assert answer.status == 200, answer.message
    [found] = [value for value in answer.body.values() if isinstance(value, list)]
    return list(found)


def test_each_list_takes_its_filters_and_no_others(filled: tuple[Api, Inhabited]) -> None:
    """A value that nothing has leaves nothing; another name, or one in other letters, is refused with its path."""
    api, stored = filled
    with_filters = {name for name, it in service_model().operations.items() if "filters" in it.input.members}
    assert with_filters == set(_FILTERS)
    for operation, names in _FILTERS.items():
        pipeline = {"imagePipelineArn": stored["image-pipeline"]} if operation == "ListImagePipelineImages" else {}
        for name in names:
            request = {**pipeline, "filters": [{"name": name, "values": ["nothing-has-this"]}]}
            assert listed(send_signed(api, operation, request)) == [], (operation, name)
        for name in ("nonsense", names[-1].upper()):
            request = {**pipeline, "filters": [{"name": name, "values": ["x"]}]}
            answer = send_signed(api, operation, request)
            assert answer.error == "InvalidParameterValueException", (operation, name)
            assert "'filters[0].name'" in answer.message


def test_each_filter_finds_what_has_its_value(filled: tuple[Api, Inhabited]) -> None:
    """By the values that Get shows of what was made."""
    api, stored = filled
    api.component(name="described", description="d", supportedOsVersions=["Debian 12", "Ubuntu 22"])
    for operation, name, value in (
        ("ListComponents", "name", "Known One"), ("ListComponents", "platform", "Linux"),
        ("ListComponents", "type", "BUILD"), ("ListComponents", "version", "1.0.0"),
        ("ListComponents", "version", "1.x.x"), ("ListComponents", "status", "ACTIVE"),
        ("ListComponents", "description", "d"), ("ListComponents", "supportedOsVersion", "Ubuntu 22"),
        ("ListContainerRecipes", "containerType", "DOCKER"), ("ListContainerRecipes", "platform", "Linux"),
        ("ListContainerRecipes", "parentImage", api.arn("image", "debian-x86-12/x.x.x", owner="aws")),
        ("ListImageRecipes", "parentImage", "ami-0123456789abcdef0"), ("ListImageRecipes", "name", "Known One"),
        ("ListImagePipelines", "containerRecipeArn", stored["container-recipe"]),
        ("ListImagePipelines", "infrastructureConfigurationArn", stored["infrastructure-configuration"]),
        ("ListImagePipelines", "distributionConfigurationArn", stored["distribution-configuration"]),
        ("ListImagePipelines", "status", "ENABLED"), ("ListImagePipelines", "name", "Known One"),
        ("ListImages", "name", "Known One"), ("ListImages", "osVersion", "Debian 12"),
        ("ListImages", "platform", "Linux"), ("ListImages", "type", "DOCKER"), ("ListImages", "version", "1.0.0"),
        ("ListImageBuildVersions", "type", "DOCKER"), ("ListImageBuildVersions", "version", "x.x.x"),
        ("ListInfrastructureConfigurations", "name", "Known One"),
        ("ListDistributionConfigurations", "name", "*One"), ("ListDistributionConfigurations", "name", "*now*"),
        ("ListWorkflows", "type", "TEST"), ("ListWorkflows", "version", "1.0.x"),
        ("ListLifecyclePolicies", "resourceType", "CONTAINER_IMAGE"),
        ("ListLifecyclePolicies", "status", "ENABLED"),
    ):  # fmt: skip
        found = listed(send_signed(api, operation, {"filters": [{"name": name, "values": [value]}]}))
        # a star at the beginning alone is no wildcard
        assert bool(found) is not (value == "*One"), (operation, name, value)


def test_absent_versions_have_empty_lists(filled: tuple[Api, Inhabited]) -> None:
    """Well-formed ARNs of what does not exist are no errors, as the service has it."""
    api, _ = filled
    for operation, member, arn in (
        ("ListComponentBuildVersions", "componentVersionArn", unknown_arn("component").rpartition("/")[0]),
        ("ListImageBuildVersions", "imageVersionArn", unknown_arn("image").rpartition("/")[0]),
        ("ListImagePipelineImages", "imagePipelineArn", unknown_arn("image-pipeline")),
        ("ListWorkflowBuildVersions", "workflowVersionArn", unknown_arn("workflow").rpartition("/")[0]),
    ):
        assert listed(send_signed(api, operation, {member: arn})) == [], operation


def test_owners_are_listed_empty_or_refused(filled: tuple[Api, Inhabited]) -> None:
    """One's own by default; the service's where it has some; kinds that take fewer owners refuse the others."""
    api, stored = filled
    for operation, owner, expected in (
        *((name, None, True) for name in ("ListComponents", "ListImages", "ListImageRecipes", "ListWorkflows")),
        ("ListContainerRecipes", None, True), ("ListContainerRecipes", "Self", True),
        ("ListContainerRecipes", "Amazon", False), ("ListContainerRecipes", "Shared", False),
        ("ListContainerRecipes", "ThirdParty", None), ("ListContainerRecipes", "AWSMarketplace", None),
        ("ListImageRecipes", "Amazon", False), ("ListImageRecipes", "ThirdParty", False),
        ("ListComponents", "Amazon", True), ("ListComponents", "ThirdParty", False),
        ("ListComponents", "AWSMarketplace", False), ("ListImages", "Amazon", True),
        ("ListWorkflows", "Amazon", True), ("ListWorkflows", "AWSMarketplace", False),
        ("ListWorkflows", "Shared", None), ("ListWorkflows", "ThirdParty", None),
    ):  # fmt: skip
        answer = send_signed(api, operation, {} if owner is None else {"owner": owner})
        if expected is None:
            assert answer.error == "InvalidParameterValueException" and "'owner'" in answer.message
            continue
        found = listed(answer)
        assert bool(found) is expected, (operation, owner)
        own = any(item.get("name") == "Known One" for item in found)
        assert own is (expected and owner in (None, "Self"))
    assert stored["component"]


def set_status(api: Api, arn: str, status: str) -> None:
    """What a lifecycle, or the service, does to a resource."""
    with api.database.write("status") as tx:
        record = queries.get(tx, arn)
        assert record is not None
        document = {**record.document, "state": {"status": status}}
        queries.replace(tx, replace(record, document=document, status=status))


def names(answer: Any, key: str) -> set[str]:
    return {item["arn"].partition("/")[2] for item in answer[key]}


@pytest.mark.parametrize("status", ["DEPRECATED", "DISABLED"])
def test_a_withdrawn_component_is_for_no_new_recipe(api: Api, status: str) -> None:
    """It does not resolve either; a DEPRECATED one leaves the lists until the status filter asks for it."""
    first = api.component()
    second = api.component(version="1.1.0", data=DOCUMENT.replace("hello", "two"))
    set_status(api, second, status)
    for create in (api.recipe, api.image_recipe):
        with refused("InvalidRequestException") as refusal:
            create(components=[{"componentArn": second}])
        assert status in refusal.message
    read = api.client.get_component(componentBuildVersionArn=api.arn("component", "hello/x.x.x"))["component"]
    assert read["arn"] == first
    hidden = set() if status == "DEPRECATED" else {"hello/1.1.0"}
    assert names(api.client.list_components(), "componentVersionList") == {"hello/1.0.0"} | hidden
    builds = api.client.list_component_build_versions()
    assert names(builds, "componentSummaryList") == {"hello/1.0.0/1"} | {f"{name}/1" for name in hidden}
    asked = api.client.list_components(filters=[{"name": "status", "values": [status]}])
    assert names(asked, "componentVersionList") == {"hello/1.1.0"}


@pytest.mark.parametrize("status", ["DEPRECATED", "DISABLED", "FAILED", "BUILDING", "CANCELLED"])
def test_an_image_that_is_not_available_does_not_resolve(api: Api, status: str) -> None:
    """The build before it is what a version means; by its own ARN it is read, and one's own lists have it."""
    recipe, infrastructure = api.recipe(), api.infrastructure()
    made = [
        api.client.create_image(containerRecipeArn=recipe, infrastructureConfigurationArn=infrastructure)
        for _ in range(2)
    ]
    first, second = (item["imageBuildVersionArn"] for item in made)
    for arn in (first, second):
        api.set_state(arn, "AVAILABLE", digest="sha256:" + "1" * 64)
    set_status(api, second, status)
    for path in ("web/1.0.0", "web/1.0.x", "web/x.x.x"):
        read = api.client.get_image(imageBuildVersionArn=api.arn("image", path))["image"]
        assert read["arn"] == first
    assert api.client.get_image(imageBuildVersionArn=second)["image"]["state"]["status"] == status
    builds = api.client.list_image_build_versions()
    assert names(builds, "imageSummaryList") == {"web/1.0.0/1", "web/1.0.0/2"}
    assert names(api.client.list_images(), "imageVersionList") == {"web/1.0.0"}
