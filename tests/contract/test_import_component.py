"""ImportComponent and GetMarketplaceResource over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from imagesmith.components.grammar import parse_component
from testing.api import ACCOUNT, Api
from testing.refusals import refused

SCRIPT = "#!/bin/bash\nset -e\necho '{{ .Go }}' {{ Undeclared }}\n"


def imported(api: Api, **members: Any) -> dict[str, Any]:
    request = {
        "name": "My Script", "semanticVersion": "1.0.0", "type": "BUILD", "format": "SHELL", "platform": "Linux",
        "data": SCRIPT, **members,
    }  # fmt: skip
    request = {name: value for name, value in request.items() if value is not None}
    return dict(api.client.import_component(**request))


def get(api: Api, arn: str) -> dict[str, Any]:
    return dict(api.client.get_component(componentBuildVersionArn=arn)["component"])


def test_a_script_becomes_a_component_with_one_step(api: Api) -> None:
    """The answer has ARN, token and request id; the component reads back with a document that runs the script."""
    answer = imported(api, description="d", changeDescription="c", tags={"a": "b"}, kmsKeyId="k", clientToken="t-1")
    arn = answer["componentBuildVersionArn"]
    assert arn == api.arn("component", "my-script/1.0.0/1")
    assert answer["clientToken"] == "t-1" and answer["requestId"]
    assert "latestVersionReferences" not in answer
    component = get(api, arn)
    assert component.pop("dateCreated").endswith("Z")
    document = parse_component(component.pop("data"), platform="Linux").document
    assert document is not None
    [phase] = document.phases
    assert (phase.name, [step.action for step in phase.steps]) == ("build", ["ExecuteBash"])
    assert [constant.value for constant in document.constants] == [SCRIPT]
    assert component == {
        "arn": arn, "name": "My Script", "version": "1.0.0", "description": "d", "changeDescription": "c",
        "type": "BUILD", "platform": "Linux", "kmsKeyId": "k", "state": {"status": "ACTIVE"}, "parameters": [],
        "owner": ACCOUNT, "encrypted": True, "tags": {"a": "b"},
    }  # fmt: skip


def test_the_request_chooses_type_and_platform(api: Api) -> None:
    """A TEST component of Windows runs PowerShell in its phase test; one version has one type."""
    component = get(
        api, imported(api, type="TEST", platform="Windows", data="Write-Host 1")["componentBuildVersionArn"]
    )
    assert (component["type"], component["platform"]) == ("TEST", "Windows")
    assert "ExecutePowerShell" in component["data"]
    with refused("InvalidParameterValueException"):
        imported(api)


def test_a_repeated_token_returns_the_first_answer(api: Api) -> None:
    """Nothing is stored twice, and another request with the token is a mismatch."""
    first = imported(api, clientToken="t-1")
    again = imported(api, clientToken="t-1")
    assert again["componentBuildVersionArn"] == first["componentBuildVersionArn"]
    assert api.rows() == 1
    with refused("IdempotentParameterMismatchException"):
        imported(api, clientToken="t-1", description="other")


def test_changed_scripts_are_builds_and_equal_ones_are_refused(api: Api) -> None:
    """As for CreateComponent: the content decides."""
    imported(api)
    with refused("ResourceAlreadyExistsException"):
        imported(api, changeDescription="again")
    assert imported(api, data="echo 2")["componentBuildVersionArn"].endswith("/1.0.0/2")


def test_a_script_may_come_from_s3(api: Api) -> None:
    """It is read once; its size is not bound to the 1024 characters of an inline script."""
    api.sources["s3://bucket/long.sh"] = "echo long\n" * 500
    api.sources["s3://bucket/empty.sh"] = ""
    arn = imported(api, data=None, uri="s3://bucket/long.sh")["componentBuildVersionArn"]
    assert get(api, arn)["data"].count("echo long") == 500
    with refused("InvalidParameterValueException") as refusal:
        imported(api, data=None, uri="s3://bucket/empty.sh", name="empty")
    assert "'uri'" in refusal.message and "empty" in refusal.message
    with refused("InvalidParameterValueException"):
        imported(api, data="x" * 1025)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"uri": "s3://bucket/hello.sh"}, "InvalidParameterCombinationException"),
        ({"data": None}, "InvalidParameterCombinationException"),
        ({"format": "PYTHON"}, "InvalidParameterValueException"),
        ({"type": "OTHER"}, "InvalidParameterValueException"),
        ({"platform": "BeOS"}, "InvalidParameterValueException"),
        ({"semanticVersion": "1.0.x"}, "InvalidParameterValueException"),
        ({"semanticVersion": "1.0.1073741824"}, "InvalidVersionNumberException"),
        ({"data": "#!/usr/bin/perl\nprint 1;"}, "InvalidParameterValueException"),
    ],
)
def test_what_cannot_be_imported_is_refused(api: Api, members: dict[str, Any], code: str) -> None:
    """With the code of the member's rule; nothing is stored."""
    api.sources["s3://bucket/hello.sh"] = SCRIPT
    with refused(code):
        imported(api, **members)
    assert api.rows() == 0


@pytest.mark.parametrize("kind", ["COMPONENT_DATA", "COMPONENT_ARTIFACT"])
@pytest.mark.parametrize("owner", ["third-party", "aws", ACCOUNT])
def test_no_account_is_entitled_to_a_marketplace_resource(api: Api, kind: str, owner: str) -> None:
    """ForbiddenException that names the ARN, whoever owns it."""
    arn = api.arn("component", "agent/1.0.0/1", owner=owner)
    with refused("ForbiddenException") as refusal:
        api.client.get_marketplace_resource(
            resourceType=kind, resourceArn=arn, resourceLocation="s3://bucket/agent.deb"
        )
    assert refusal.status == 403 and arn in refusal.message
