"""Errors that operations declare, reached on every operation that declares them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from imagesmith.resources.operations import built_operations
from imagesmith.settings import Quotas, RateLimit
from imagesmith.wire.model import builtin_model
from testing.api import ACCOUNT, PARAMETER_DOCUMENT, REGION, Api, MakeApi, as_key, write_keys
from testing.client_calls import ClientCall, calls, resolved
from testing.client_world import Account, furnish

MODEL = builtin_model()
DECLARED = {
    name: {shape.name for shape in MODEL.operation_model(name).error_shapes} for name in MODEL.operation_names
}
FIRST: Mapping[str, ClientCall] = {item.operation: item for item in reversed(calls()) if not item.code}
"""A call of each operation that would be answered if its resources existed."""
ADMIN = {"accessKeyId": "AKIAADMIN00000000000", "secretAccessKey": "a" * 40, "account": ACCOUNT}
NOBODY = {
    "accessKeyId": "AKIANOBODY0000000000", "secretAccessKey": "n" * 40, "account": ACCOUNT, "user": "nobody",
    "policy": {"allow": ["imagebuilder:Nothing"]},
}  # fmt: skip
TOO_HIGH = "1073741824.0.0"


def declaring(code: str) -> list[str]:
    found = sorted(name for name, codes in DECLARED.items() if code in codes)
    assert found
    return found


def members(operation: str) -> dict[str, Any]:
    """Members that are as they should be; what they name does not exist."""
    item = FIRST.get(operation) or next(item for item in calls() if item.operation == operation)
    none = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}"
    known = {
        "component": f"{none}:component/none/1.0.0/1", "imageRecipe": f"{none}:image-recipe/none/1.0.0",
        "pipeline": f"{none}:image-pipeline/none", "none": none,
    }  # fmt: skip
    return dict(resolved(item.members, known))


def members_of(operation: str, known: Mapping[str, str]) -> dict[str, Any]:
    """Members that name what is known."""
    return dict(resolved(FIRST[operation].members, known))


def code_of(api: Api, operation: str, asked: Mapping[str, Any]) -> str:
    try:
        getattr(api.client, xform_name(operation))(**asked)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_a_call_over_the_rate_is_refused(make_api: MakeApi) -> None:
    """Every operation; with a code that clients repeat, except the one whose contract names another."""
    limit = RateLimit(rate=0.001, burst=1)
    api = make_api(rate_limits=dict.fromkeys(built_operations(), limit))
    found = {}
    for operation in built_operations():
        asked = members(operation)
        code_of(api, operation, asked)
        found[operation] = code_of(api, operation, asked)
    assert found.pop("UpdateImagePipeline") == "CallRateLimitExceededException"
    assert set(found.values()) == {"ThrottlingException"}


def test_a_key_without_rights_is_denied(make_api: MakeApi, tmp_path: Path) -> None:
    """Every operation, before its members are judged."""
    write_keys(tmp_path / "data", ADMIN, NOBODY)
    api = as_key(make_api(), NOBODY)
    found = {operation: code_of(api, operation, members(operation)) for operation in built_operations()}
    assert set(found.values()) == {"AccessDeniedException"}


@pytest.mark.parametrize("token", ["x", "eyJhIjoxfQ==", "é" * 10])
def test_a_foreign_token_of_a_list_is_refused(api: Api, token: str) -> None:
    """Every list that declares it, on a resource that has entries."""
    known = furnish(api, Account(ACCOUNT, "", ""))
    pipeline = {"pipeline": api.pipeline()}
    found = {
        operation: code_of(api, operation, {**members_of(operation, {**known, **pipeline}), "nextToken": token})
        for operation in declaring("InvalidPaginationTokenException")
    }
    wrong = {name: code for name, code in found.items() if code != "InvalidPaginationTokenException"}
    assert wrong == {}


def test_a_version_that_is_too_high_is_refused(api: Api) -> None:
    """Every create and import that declares it."""
    known = {"component": api.component(data=PARAMETER_DOCUMENT)}
    found = {
        operation: code_of(
            api, operation, {**resolved(FIRST[operation].members, known), "semanticVersion": TOO_HIGH}
        )
        for operation in declaring("InvalidVersionNumberException")
    }
    assert set(found.values()) == {"InvalidVersionNumberException"}, found
    assert len(found) == 5


QUOTAS = {
    "CreateComponent": "components", "CreateImageRecipe": "image_recipes", "CreateWorkflow": "workflows",
    "CreateContainerRecipe": "container_recipes", "CreateDistributionConfiguration": "distribution_configurations",
    "CreateImagePipeline": "image_pipelines", "CreateLifecyclePolicy": "lifecycle_policies",
    "CreateInfrastructureConfiguration": "infrastructure_configurations",
}  # fmt: skip
"""Operation -> the quota of what it creates; CreateImage and DistributeImage have none here: runs wait."""


def test_a_quota_of_nothing_is_exceeded(make_api: MakeApi) -> None:
    """Every create that declares it and has a quota."""
    assert set(declaring("ServiceQuotaExceededException")) == {*QUOTAS, "CreateImage", "DistributeImage"}
    furnished = make_api()
    known = {
        "component": furnished.component(data=PARAMETER_DOCUMENT), "workflow": furnished.workflow(),
        "containerRecipe": furnished.recipe(), "infrastructure": furnished.infrastructure(),
    }  # fmt: skip
    api = make_api(quotas=Quotas(**dict.fromkeys(QUOTAS.values(), 0)))
    found = {
        operation: code_of(api, operation, {**members_of(operation, known), "name": "one too many"})
        for operation in QUOTAS
    }
    assert set(found.values()) == {"ServiceQuotaExceededException"}, found
