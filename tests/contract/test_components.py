"""Components over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from testing.api import ACCOUNT, DOCUMENT, PARAMETER_DOCUMENT, Api
from testing.refusals import refused


def get(api: Api, arn: str) -> dict[str, Any]:
    return dict(api.client.get_component(componentBuildVersionArn=arn)["component"])


def test_a_component_reads_back_with_what_its_document_says(api: Api) -> None:
    """Type and parameters come from the document, the data byte for byte."""
    arn = api.component(
        name="My Hello", data=PARAMETER_DOCUMENT, supportedOsVersions=["Debian 12"], tags={"a": "b"}
    )
    component = get(api, arn)
    assert arn == api.arn("component", "my-hello/1.0.0/1")
    assert component.pop("dateCreated").endswith("Z")
    assert component == {
        "arn": arn, "name": "My Hello", "version": "1.0.0", "platform": "Linux", "type": "TEST",
        "supportedOsVersions": ["Debian 12"], "state": {"status": "ACTIVE"}, "owner": ACCOUNT,
        "data": PARAMETER_DOCUMENT, "encrypted": True, "tags": {"a": "b"},
        "parameters": [
            {"name": "Greeting", "type": "string", "defaultValue": ["hello"], "description": "What to say"},
            {"name": "Name", "type": "string"},
        ],
    }  # fmt: skip


def test_changed_content_is_the_next_build_and_identical_content_is_refused(api: Api) -> None:
    """The build number rises with the content; change description and tags do not count."""
    first = api.component()
    with refused("ResourceAlreadyExistsException"):
        api.component(changeDescription="again", tags={"x": "y"})
    second = api.component(data=DOCUMENT.replace("echo hello", "echo two"))
    assert (first[-1], second[-1]) == ("1", "2")
    assert get(api, api.arn("component", "hello/1.0.0"))["arn"] == second
    with refused("InvalidParameterValueException"):
        api.component(data=PARAMETER_DOCUMENT)


def test_wildcards_resolve_to_the_highest_version(api: Api) -> None:
    """1.10.0 is higher than 1.9.0, and a wildcard left of a number is an error."""
    for version in ("1.9.0", "1.10.0", "2.0.0"):
        api.component(version=version)
    for pattern, expected in (("x.x.x", "2.0.0"), ("1.x.x", "1.10.0"), ("1.9.x", "1.9.0")):
        assert get(api, api.arn("component", f"hello/{pattern}"))["version"] == expected
    with refused("InvalidVersionNumberException"):
        get(api, api.arn("component", "hello/x.9.x"))
    with refused("ResourceNotFoundException"):
        get(api, api.arn("component", "hello/3.x.x"))


def test_latest_version_references_name_all_four_levels(api: Api) -> None:
    """Create and get both return them."""
    answer = api.client.create_component(name="hello", semanticVersion="1.2.3", platform="Linux", data=DOCUMENT)
    expected = {
        "latestVersionArn": api.arn("component", "hello/x.x.x"),
        "latestMajorVersionArn": api.arn("component", "hello/1.x.x"),
        "latestMinorVersionArn": api.arn("component", "hello/1.2.x"),
        "latestPatchVersionArn": api.arn("component", "hello/1.2.3"),
    }
    assert answer["latestVersionReferences"] == expected
    got = api.client.get_component(componentBuildVersionArn=answer["componentBuildVersionArn"])
    assert got["latestVersionReferences"] == expected


def test_two_spellings_of_a_version_are_one(api: Api) -> None:
    """2021.01.01 and 2021.1.1 are builds of the same version; the first spelling stays."""
    first = api.component(version="2021.01.01")
    assert "/2021.01.01/1" in first
    second = api.component(version="2021.1.1", data=DOCUMENT.replace("hello", "other"))
    assert second == first[:-1] + "2"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("name: [", ""),
        ("schemaVersion: 1.0\nphases: []\n", "phases"),
        (DOCUMENT.replace("ExecuteBash", "RunMagic"), "RunMagic"),
        (DOCUMENT.replace("echo hello", "echo {{ Undeclared }}"), "Undeclared"),
        (DOCUMENT.replace("Hello", "H"), "name"),
    ],
)
def test_a_broken_document_is_refused_with_its_fault(api: Api, data: str, expected: str) -> None:
    """The message names the parameter `data` and what is wrong; nothing is stored."""
    with refused("InvalidParameterValueException") as refusal:
        api.component(data=data)
    assert refusal.message.startswith("The value supplied for parameter 'data' is not valid. ")
    assert expected in refusal.message
    assert api.rows() == 0


def test_a_document_may_come_from_s3_once(api: Api) -> None:
    """The object is read at create; a fault in it names `uri`; data and uri exclude each other."""
    api.sources["s3://bucket/hello.yml"] = DOCUMENT
    api.sources["s3://bucket/bad.yml"] = "phases: 1"
    arn = api.client.create_component(
        name="hello", semanticVersion="1.0.0", platform="Linux", uri="s3://bucket/hello.yml"
    )["componentBuildVersionArn"]
    assert get(api, arn)["data"] == DOCUMENT
    with refused("InvalidParameterValueException") as refusal:
        api.client.create_component(
            name="bad", semanticVersion="1.0.0", platform="Linux", uri="s3://bucket/bad.yml"
        )
    assert "'uri'" in refusal.message
    with refused("InvalidParameterCombinationException"):
        api.component(name="both", uri="s3://bucket/hello.yml")
    with refused("InvalidParameterCombinationException"):
        api.client.create_component(name="none", semanticVersion="1.0.0", platform="Linux")


def test_a_component_in_use_cannot_be_deleted(api: Api) -> None:
    """Exact references protect, wildcards do not; the number of a deleted build never comes back."""
    arn = api.component()
    recipe = api.recipe(components=[{"componentArn": arn}])
    with refused("ResourceDependencyException"):
        api.client.delete_component(componentBuildVersionArn=arn)
    api.client.delete_container_recipe(containerRecipeArn=recipe)
    api.recipe(name="loose", components=[{"componentArn": api.arn("component", "hello/x.x.x")}])
    api.client.delete_component(componentBuildVersionArn=arn)
    with refused("ResourceNotFoundException"):
        api.client.delete_component(componentBuildVersionArn=arn)
    assert api.component().endswith("/1.0.0/2")


def test_an_exact_version_protects_its_last_build(api: Api) -> None:
    """A recipe that names a version without build keeps one build of it alive."""
    first = api.component()
    second = api.component(data=DOCUMENT.replace("hello", "two"))
    api.recipe(components=[{"componentArn": api.arn("component", "hello/1.0.0")}])
    api.client.delete_component(componentBuildVersionArn=first)
    with refused("ResourceDependencyException"):
        api.client.delete_component(componentBuildVersionArn=second)


def test_components_are_listed_by_version_by_name_and_by_build(api: Api) -> None:
    """Version lists show ARNs without build, byName one x.x.x entry per name."""
    api.component()
    api.component(data=DOCUMENT.replace("hello", "two"))
    api.component(version="1.1.0")
    api.component(name="other")
    versions = api.client.list_components()["componentVersionList"]
    assert sorted(item["arn"].split(":component/")[1] for item in versions) == [
        "hello/1.0.0", "hello/1.1.0", "other/1.0.0",
    ]  # fmt: skip
    names = api.client.list_components(byName=True)["componentVersionList"]
    assert sorted(item["arn"].split(":component/")[1] for item in names) == ["hello/x.x.x", "other/x.x.x"]
    builds = api.client.list_component_build_versions(componentVersionArn=api.arn("component", "hello/1.0.0"))
    assert [item["arn"][-1] for item in builds["componentSummaryList"]] == ["2", "1"]
    unknown = api.client.list_component_build_versions(componentVersionArn=api.arn("component", "none/1.0.0"))
    assert unknown["componentSummaryList"] == []
    assert len(api.client.list_component_build_versions()["componentSummaryList"]) == 4
    with refused("InvalidParameterCombinationException"):
        api.client.list_components(byName=True, filters=[{"name": "version", "values": ["1.0.0"]}])


def test_managed_components_are_listed_and_readable(api: Api) -> None:
    """Owner Amazon lists them; every stock ARN with wildcard resolves."""
    pages = api.client.get_paginator("list_components").paginate(owner="Amazon")
    listed = [item for page in pages for item in page["componentVersionList"]]
    names = {item["name"] for item in listed}
    assert {"update-linux", "hello-world-linux", "simple-boot-test-linux"} <= names
    component = get(api, api.arn("component", "update-linux/x.x.x", owner="aws"))
    assert component["owner"] == "Amazon" and "phases" in component["data"]
    with refused("ResourceNotFoundException"):
        api.client.delete_component(componentBuildVersionArn=component["arn"])
