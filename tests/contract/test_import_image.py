"""ImportVmImage and ImportDiskImage over HTTP; import and installation are in tests/pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from testing.api import Api
from testing.refusals import refused

DISK = "s3://disks/debian 12/disk.qcow2"


def imported(api: Api, **members: Any) -> dict[str, Any]:
    request = {
        "name": "My Disk", "semanticVersion": "1.2.3", "platform": "Linux", "vmImportTaskId": DISK, **members,
    }  # fmt: skip
    return dict(api.client.import_vm_image(**request))


def installed(api: Api, **members: Any) -> dict[str, Any]:
    request = {
        "name": "My Windows", "semanticVersion": "1.0.0", "platform": "Windows", "uri": "s3://isos/win11.iso",
        "osVersion": "Microsoft Windows 11", **members,
    }  # fmt: skip
    if "infrastructureConfigurationArn" not in request:
        request["infrastructureConfigurationArn"] = api.infrastructure()
    return dict(api.client.import_disk_image(**request))


def shown(api: Api, arn: str) -> dict[str, Any]:
    return dict(api.client.get_image(imageBuildVersionArn=arn)["image"])


def test_a_disk_becomes_a_pending_image_of_its_own(api: Api) -> None:
    """Without a recipe, marked as imported; the engine is notified and the answer has the ARN of the build."""
    group = {"logGroupName": "/aws/imagebuilder/imports"}
    answer = imported(
        api, osVersion="Debian 12", description="d", tags={"a": "b"}, loggingConfiguration=group, clientToken="t-1"
    )
    arn = answer["imageArn"]
    assert arn == api.arn("image", "my-disk/1.2.3/1")
    assert answer["clientToken"] == "t-1" and answer["requestId"]
    found = shown(api, arn)
    assert found.pop("dateCreated").endswith("Z")
    assert found == {
        "arn": arn, "type": "AMI", "name": "My Disk", "version": "1.2.3/1", "platform": "Linux",
        "osVersion": "Debian 12", "enhancedImageMetadataEnabled": True, "state": {"status": "PENDING"},
        "outputResources": {"amis": []}, "buildType": "IMPORT", "imageSource": "IMPORTED", "tags": {"a": "b"},
        "loggingConfiguration": group,
    }  # fmt: skip
    assert api.builds.started == [arn]
    plan = api.records.plan(arn)
    assert plan is not None and plan.machine is not None
    assert (plan.purpose, plan.parent.kind, plan.parent.reference) == ("import", "object", DISK)
    assert plan.machine.description == "d"
    [listed] = api.client.list_images(filters=[{"name": "osVersion", "values": ["Debian 12"]}])["imageVersionList"]
    assert (listed["imageSource"], listed["buildType"]) == ("IMPORTED", "IMPORT")


def test_an_import_of_a_known_version_is_its_next_build(api: Api) -> None:
    """In any spelling of the version, whose first one stays; a repeated token returns the first answer."""
    first = imported(api, semanticVersion="2021.01.01", clientToken="t-1")
    assert imported(api, semanticVersion="2021.01.01", clientToken="t-1")["imageArn"] == first["imageArn"]
    second = imported(api, semanticVersion="2021.1.1")
    assert second["imageArn"] == first["imageArn"][:-1] + "2"
    with refused("IdempotentParameterMismatchException"):
        imported(api, semanticVersion="2021.01.02", clientToken="t-1")
    assert len(api.builds.started) == 2


def test_an_available_import_is_a_parent_for_recipes(api: Api) -> None:
    """By its exact build and by a wildcard; before that it does not resolve."""
    arn = imported(api, osVersion="Debian 12")["imageArn"]
    wildcard = api.arn("image", "my-disk/x.x.x")
    with refused("ResourceNotFoundException"):
        api.image_recipe(parentImage=wildcard)
    api.set_state(arn, "AVAILABLE", digest="sha256:" + "1" * 64)
    recipe = api.image_recipe(parentImage=wildcard)
    made = api.client.create_image(imageRecipeArn=recipe, infrastructureConfigurationArn=api.infrastructure())
    plan = api.records.plan(made["imageBuildVersionArn"])
    assert plan is not None
    assert (plan.parent.reference, plan.parent.digest) == (arn, "sha256:" + "1" * 64)
    assert shown(api, made["imageBuildVersionArn"])["osVersion"] == "Debian 12"


@pytest.mark.parametrize(
    ("members", "code", "told"),
    [
        ({"vmImportTaskId": "import-ami-0123456789abcdef0"}, "InvalidParameterValueException", "'vmImportTaskId'"),
        ({"vmImportTaskId": "file:/etc/shadow"}, "InvalidParameterValueException", "s3://bucket/key"),
        ({"vmImportTaskId": "s3://bucket"}, "InvalidParameterValueException", "s3://bucket/key"),
        ({"vmImportTaskId": "s3://bucket/a\nb"}, "InvalidParameterValueException", "s3://bucket/key"),
        ({"name": "../x"}, "InvalidParameterValueException", "'name'"),
        ({"name": "a" * 129}, "InvalidParameterValueException", "'name'"),
        ({"platform": "macOS"}, "InvalidParameterValueException", "'platform'"),
        ({"platform": "BeOS"}, "InvalidParameterValueException", "'platform'"),
        ({"semanticVersion": "1.x.0"}, "InvalidParameterValueException", "'semanticVersion'"),
        ({"semanticVersion": "1.0.1073741824"}, "InvalidVersionNumberException", "1073741824"),
        (
            {"loggingConfiguration": {"logGroupName": "/mine"}}, "InvalidParameterCombinationException",
            "'loggingConfiguration.logGroupName'",
        ),
    ],
)  # fmt: skip
def test_an_import_that_cannot_work_is_refused(api: Api, members: dict[str, Any], code: str, told: str) -> None:
    """With the member and what to write; nothing is stored or started."""
    with refused(code) as refusal:
        imported(api, **members)
    assert told in refusal.message
    assert api.rows() == 0 and api.builds.started == []


@pytest.mark.parametrize(
    ("members", "code", "told"),
    [
        ({"platform": "Linux"}, "InvalidParameterValueException", "'platform'"),
        ({"osVersion": "Microsoft Windows 10"}, "InvalidParameterValueException", "'osVersion'"),
        ({"uri": "s3://isos/win11.img"}, "InvalidParameterValueException", "'uri'"),
        ({"uri": "s3://isos/win11.ISo"}, "InvalidParameterValueException", "'uri'"),
        ({"uri": "https://isos/win11.iso"}, "InvalidParameterValueException", "'uri'"),
        ({"semanticVersion": "1.0.1073741824"}, "InvalidVersionNumberException", "1073741824"),
        (
            {"registerImageOptions": {"secureBootEnabled": False, "uefiData": "x"}},
            "InvalidParameterCombinationException", "uefiData",
        ),
        (
            {"loggingConfiguration": {"logGroupName": "/mine"}}, "InvalidParameterCombinationException",
            "'loggingConfiguration.logGroupName'",
        ),
        ({"infrastructureConfigurationArn": "GONE"}, "ResourceNotFoundException", "configuration/gone"),
        ({"registerImageOptions": {"uefiData": "x"}}, "ClientException", "uefiData cannot be obeyed"),
    ],
)  # fmt: skip
def test_an_iso_that_cannot_be_installed_is_refused(
    api: Api, members: dict[str, Any], code: str, told: str
) -> None:
    """With the member and what to write; nothing is stored or started."""
    if members.get("infrastructureConfigurationArn") == "GONE":
        members = {"infrastructureConfigurationArn": api.arn("infrastructure-configuration", "gone")}
    with refused(code) as refusal:
        installed(api, **members)
    assert told in refusal.message
    assert api.client.list_images()["imageVersionList"] == [] and api.builds.started == []


def test_an_iso_becomes_a_pending_image_of_its_own(api: Api) -> None:
    """With the hardware of the infrastructure, the edition and the options of the request in its plan."""
    infrastructure = api.infrastructure(instanceTypes=["m5.large"])
    answer = installed(
        api, infrastructureConfigurationArn=infrastructure, uri="s3://isos/win11.ISO", description="d",
        windowsConfiguration={"imageIndex": 3}, registerImageOptions={"secureBootEnabled": False},
        executionRole="importer", tags={"a": "b"}, clientToken="t-1",
    )  # fmt: skip
    arn = answer["imageBuildVersionArn"]
    assert arn == api.arn("image", "my-windows/1.0.0/1") and answer["clientToken"] == "t-1"
    found = shown(api, arn)
    assert (found["buildType"], found["imageSource"], found["platform"], found["osVersion"]) == (
        "IMPORT_ISO", "IMPORTED", "Windows", "Microsoft Windows 11",
    )  # fmt: skip
    assert found["executionRole"] == "importer" and found["tags"] == {"a": "b"}
    assert api.builds.started == [arn]
    plan = api.records.plan(arn)
    assert plan is not None and plan.machine is not None
    assert (plan.purpose, plan.parent.reference) == ("install", "s3://isos/win11.ISO")
    assert (plan.machine.instance_types, plan.machine.image_index, plan.machine.secure_boot) == (
        ("m5.large",), 3, False,
    )  # fmt: skip


def test_an_iso_without_options_installs_the_first_edition_for_secure_boot(api: Api) -> None:
    """The defaults of the service."""
    plan = api.records.plan(installed(api)["imageBuildVersionArn"])
    assert plan is not None and plan.machine is not None
    assert (plan.machine.image_index, plan.machine.secure_boot) == (1, True)
