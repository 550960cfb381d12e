"""DistributeImage over HTTP; the run itself is in tests/pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Role
from imagesmith.store.amis import Ami, put_ami
from imagesmith.store.parameters import ParameterRecord, put_parameter
from testing.api import ACCOUNT, REGION, Api, MakeApi, as_key, write_keys
from testing.refusals import refused

AMI = "ami-0123456789abcdef0"
DIGEST = "sha256:" + "1" * 64
OTHER = "444455556666"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/distributor"


def put(api: Api, ami_id: str = AMI, **changes: Any) -> str:
    members = {
        "ami_id": ami_id, "account": ACCOUNT, "region": REGION, "name": f"Golden (v2) {ami_id[-2:]}",
        "digest": DIGEST, "created": api.clock(), "document": {"platform": "Linux"}, **changes,
    }  # fmt: skip
    with api.database.write("amis") as tx:
        put_ami(tx, Ami(**members))
    return ami_id


def parameter(api: Api, name: str, value: str, sealed: str = "") -> str:
    with api.database.write("parameters") as tx:
        put_parameter(tx, ACCOUNT, REGION, ParameterRecord(name, value, api.clock(), sealed))
    return name


def image(api: Api, **changes: Any) -> str:
    """An AVAILABLE image with an AMI."""
    recipe = api.image_recipe(name="Box", version="2.1.0", parentImage=AMI)
    made = api.client.create_image(imageRecipeArn=recipe, infrastructureConfigurationArn=api.infrastructure())
    arn = str(made["imageBuildVersionArn"])
    api.set_state(arn, "AVAILABLE", digest=DIGEST)
    put(api, "ami-" + "a" * 17, image_arn=arn, **changes)
    return arn


def distributed(api: Api, source: str = AMI, **members: Any) -> dict[str, Any]:
    request = {"sourceImage": source, "executionRole": ROLE, **members}
    if "distributionConfigurationArn" not in request:
        request["distributionConfigurationArn"] = configuration(api)
    return dict(api.client.distribute_image(**request))


def configuration(api: Api, name: str = "") -> str:
    entries = [{"region": region, "amiDistributionConfiguration": {}} for region in (REGION, "us-east-1")]
    return api.distribution(name=name or f"dist-{api.rows()}", distributions=entries)


def shown(api: Api, arn: str) -> dict[str, Any]:
    return dict(api.client.get_image(imageBuildVersionArn=arn)["image"])


def plan_of(api: Api, arn: str) -> BuildPlan:
    plan = api.records.plan(arn)
    assert plan is not None
    return plan


def test_an_ami_becomes_an_image_that_tracks_its_distribution(api: Api) -> None:
    """PENDING at once, named after the AMI, with role and configuration; the engine is notified."""
    put(api)
    dist = configuration(api)
    answer = distributed(api, distributionConfigurationArn=dist, tags={"a": "b"}, clientToken="t-1")
    arn = answer["imageBuildVersionArn"]
    assert arn == api.arn("image", "golden--v2--f0/1.0.0/1")
    assert answer["clientToken"] == "t-1" and "latestVersionReferences" not in answer
    found = shown(api, arn)
    assert found.pop("dateCreated").endswith("Z")
    copy = found.pop("distributionConfiguration")
    assert copy == api.client.get_distribution_configuration(distributionConfigurationArn=dist)[
        "distributionConfiguration"
    ]  # fmt: skip
    assert found == {
        "arn": arn, "type": "AMI", "name": "Golden (v2) f0", "version": "1.0.0/1", "platform": "Linux",
        "enhancedImageMetadataEnabled": False, "state": {"status": "PENDING"}, "outputResources": {"amis": []},
        "buildType": "USER_INITIATED", "imageSource": "CUSTOM", "executionRole": ROLE, "tags": {"a": "b"},
    }  # fmt: skip
    assert api.builds.started == [arn]
    plan = plan_of(api, arn)
    assert (plan.purpose, plan.parent.kind, plan.parent.reference) == ("distribute", "machine", AMI)
    assert plan.machine is not None and [item["region"] for item in plan.machine.distributions] == [
        REGION, "us-east-1",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["build", "version", "wildcard"])
def test_an_image_keeps_its_name_and_version_and_takes_the_next_build(api: Api, form: str) -> None:
    """An ARN without build means the newest AVAILABLE one."""
    put(api)
    source = image(api)
    asked = {"build": source, "version": source[:-2], "wildcard": source.replace("2.1.0/1", "2.x.x")}[form]
    arn = distributed(api, asked)["imageBuildVersionArn"]
    assert arn == api.arn("image", "box/2.1.0/2")
    found = shown(api, arn)
    assert (found["name"], found["version"], found["imageSource"]) == ("Box", "2.1.0/2", "CUSTOM")
    plan = plan_of(api, arn)
    assert (plan.parent.kind, plan.parent.reference, plan.parent.digest) == ("image", source, DIGEST)
    listed = api.client.list_image_build_versions(imageVersionArn=source[:-2])["imageSummaryList"]
    assert [item["arn"][-1] for item in listed] == ["2", "1"]


@pytest.mark.parametrize(
    "source", ["ssm:/golden/ami", f"ssm:arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/golden/ami", "ssm:golden"]
)
def test_a_parameter_stands_for_the_ami_that_it_holds_now(api: Api, source: str) -> None:
    """By name or ARN, read when the request arrives."""
    put(api)
    for name in ("/golden/ami", "golden"):
        parameter(api, name, AMI)
    arn = distributed(api, source)["imageBuildVersionArn"]
    assert plan_of(api, arn).parent.reference == AMI


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("ami-" + "f" * 17, "ResourceNotFoundException", "'Image' cannot be found: 'ami-"),
        ("ami-" + "b" * 17, "ResourceNotFoundException", "'ami-b"),
        ("ami-" + "c" * 17, "ResourceNotFoundException", "'ami-c"),
        ("ssm:/nothing", "ResourceNotFoundException", "'ssm:/nothing'"),
        ("ssm:arn:aws:ssm:us-east-1:1:parameter/x", "ResourceNotFoundException", "ssm:arn"),
        ("ssm:/text", "InvalidRequestException", "ssm:/text does not hold the id of an AMI"),
        ("ssm:/secret", "InvalidRequestException", "parameter /secret holds a secret, not an image id"),
        ("IMAGE:gone/1.0.0/1", "ResourceNotFoundException", "image/gone/1.0.0/1"),
        ("IMAGE:web/1.0.0/1", "InvalidRequestException", "is not an AMI"),
        ("debian:12", "InvalidParameterValueException", "'sourceImage'"),
        ("file:/etc/passwd", "InvalidParameterValueException", "'sourceImage'"),
        ("prod-abc", "InvalidParameterValueException", "'sourceImage'"),
    ],
)
def test_a_source_that_is_no_ami_of_this_region_is_refused(api: Api, source: str, code: str, told: str) -> None:
    """Missing, of another Region, of another account that did not permit it, a container image, another text."""
    put(api, "ami-" + "b" * 17, region="us-east-1")
    put(api, "ami-" + "c" * 17, account=OTHER)
    parameter(api, "/text", "debian")
    parameter(api, "/secret", "", sealed="1:key:text")
    if source == "IMAGE:web/1.0.0/1":
        made = api.client.create_image(
            containerRecipeArn=api.recipe(), infrastructureConfigurationArn=api.infrastructure()
        )
        api.set_state(made["imageBuildVersionArn"], "AVAILABLE", digest=DIGEST)
        api.builds.started.clear()
    source = source.replace("IMAGE:", api.arn("image", ""))
    with refused(code) as refusal:
        distributed(api, source)
    assert told in refusal.message
    assert api.builds.started == []


def test_an_image_that_is_not_available_or_lost_its_ami_is_refused(api: Api) -> None:
    """InvalidRequestException that names the image and what is missing."""
    put(api)
    recipe = api.image_recipe(parentImage=AMI)
    made = api.client.create_image(imageRecipeArn=recipe, infrastructureConfigurationArn=api.infrastructure())
    arn = made["imageBuildVersionArn"]
    with refused("InvalidRequestException") as refusal:
        distributed(api, arn)
    assert "is PENDING" in refusal.message
    api.set_state(arn, "AVAILABLE", digest=DIGEST)
    with refused("InvalidRequestException") as refusal:
        distributed(api, arn)
    assert f"{arn} has no AMI in {REGION}" in refusal.message


def test_the_configuration_must_exist(api: Api) -> None:
    """ResourceNotFoundException with its ARN."""
    put(api)
    gone = api.arn("distribution-configuration", "gone")
    with refused("ResourceNotFoundException") as refusal:
        distributed(api, distributionConfigurationArn=gone)
    assert gone in refusal.message


def test_a_repeated_token_starts_one_run(api: Api) -> None:
    """The first answer again; another request with the token is a mismatch; a failed one frees it."""
    put(api)
    dist = configuration(api)
    members = {"distributionConfigurationArn": dist, "clientToken": "t-1"}
    with refused("ResourceNotFoundException"):
        distributed(api, "ami-" + "f" * 17, **members)
    first = distributed(api, **members)
    assert distributed(api, **members)["imageBuildVersionArn"] == first["imageBuildVersionArn"]
    assert api.builds.started == [first["imageBuildVersionArn"]]
    with refused("IdempotentParameterMismatchException"):
        distributed(api, **members, tags={"a": "b"})


def test_the_execution_role_must_be_passable(make_api: MakeApi, tmp_path: Path) -> None:
    """ForbiddenException for a caller that is not named, InvalidParameterValueException for an unknown role."""
    ci = {"accessKeyId": "AKIACI00000000000000", "secretAccessKey": "c" * 40, "account": ACCOUNT, "user": "ci"}
    write_keys(tmp_path / "data", {**ci, "accessKeyId": "AKIAADMIN00000000000", "user": "admin"}, ci)
    api = make_api(roles={"distributor": Role(passed_by=("AKIAADMIN00000000000",), hosts=("*",))})
    put(api)
    dist = configuration(api)
    arn = distributed(api, distributionConfigurationArn=dist)["imageBuildVersionArn"]
    role = plan_of(api, arn).role
    assert role is not None and (role.name, role.hosts) == ("distributor", ("*",))
    with refused("ForbiddenException"):
        distributed(as_key(api, ci), distributionConfigurationArn=dist)
    with refused("InvalidParameterValueException") as refusal:
        distributed(api, distributionConfigurationArn=dist, executionRole="unknown")
    assert "'executionRole'" in refusal.message


def test_a_waiting_distribution_is_cancelled_and_deleted(api: Api) -> None:
    """As any image that has not started."""
    put(api)
    arn = distributed(api)["imageBuildVersionArn"]
    with refused("ResourceDependencyException"):
        api.client.delete_image(imageBuildVersionArn=arn)
    api.client.cancel_image_creation(imageBuildVersionArn=arn)
    assert shown(api, arn)["state"] == {"status": "CANCELLED"}
    api.client.delete_image(imageBuildVersionArn=arn)
    assert distributed(api)["imageBuildVersionArn"].endswith("/2")
