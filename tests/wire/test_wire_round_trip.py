"""Every operation, from an ordinary boto3 client to the dispatcher and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testing.loaded import service_model
from testing.strategies import Values
from testing.wire_samples import request
from testing.wire_support import ACCOUNT, KEY, REGION, Wire

API = service_model()
REQUESTS = {"minimal": Values(whole=False), "maximal": Values(whole=True)}
ANSWERS = Values(whole=True, answers=True)

thorough = settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


@pytest.mark.parametrize("size", ["minimal", "maximal"])
@pytest.mark.parametrize("name", sorted(API.operations))
@thorough
@given(data=st.data())
def test_request_reaches_the_dispatcher_as_boto3_sent_it(
    wire: Wire, client: Any, name: str, size: str, data: st.DataObject
) -> None:
    """The dispatcher gets the operation, the caller and exactly the members that boto3 was given."""
    asked = data.draw(REQUESTS[size].of(API.operations[name].input))
    getattr(client, xform_name(name))(**asked)
    caller = wire.dispatcher.caller
    assert wire.dispatcher.operation == name
    assert wire.dispatcher.request == asked
    assert caller is not None
    assert (caller.account, caller.region, caller.principal) == (ACCOUNT, REGION, KEY.principal)


@pytest.mark.parametrize("name", sorted(API.operations))
@thorough
@given(data=st.data())
def test_answer_reaches_boto3_as_the_dispatcher_gave_it(
    wire: Wire, client: Any, name: str, data: st.DataObject
) -> None:
    """boto3 parses out of the answer exactly the members that the dispatcher gave."""
    asked = data.draw(REQUESTS["minimal"].of(API.operations[name].input))
    given = data.draw(ANSWERS.of(API.operations[name].output))
    wire.dispatcher.answer = lambda *_: given
    answer = getattr(client, xform_name(name))(**asked)
    assert without_metadata(answer) == given


@pytest.mark.parametrize("name", sorted(API.operations))
def test_answer_carries_the_request_id_and_the_client_token(wire: Wire, client: Any, name: str) -> None:
    """An empty answer gets requestId, equal to the header, and clientToken, exactly where the shape has them."""
    operation = API.operations[name]
    given = request(operation.input)
    answer = getattr(client, xform_name(name))(**given)
    expected = {}
    if "requestId" in operation.output.members:
        expected["requestId"] = answer["ResponseMetadata"]["RequestId"]
    if "clientToken" in operation.output.members:
        expected["clientToken"] = given["clientToken"]
    assert without_metadata(answer) == expected
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


PAGINATED = sorted(name for name, item in API.operations.items() if "nextToken" in item.output.members)


@pytest.mark.parametrize("name", PAGINATED)
def test_boto3_paginates(wire: Wire, client: Any, name: str) -> None:
    """boto3's own paginator of every paginated operation walks the pages and finds the results."""
    operation = API.operations[name]
    [results] = [member for member in operation.output.members.values() if member.shape.type == "list"]
    assert results.shape.item is not None
    entry: Any = "a" if results.shape.item.type == "string" else {}
    first: dict[str, Any] = {results.name: [entry] * 2, "nextToken": "more"}
    pages = {None: first, "more": {results.name: [entry]}}
    wire.dispatcher.answer = lambda _operation, _caller, asked: pages[asked.get("nextToken")]
    paginator = client.get_paginator(xform_name(name))
    found = paginator.paginate(**request(operation.input)).build_full_result()
    assert found[results.name] == [entry] * 3


def test_there_are_21_paginators() -> None:
    """The number of paginated operations of spec/api.md 1."""
    assert len(PAGINATED) == 21


def test_the_aws_cli_sends_exactly_the_members_of_its_input(wire: Wire, tmp_path: Path) -> None:
    """`aws imagebuilder ... --cli-input-json` arrives member by member, and its answer is printed."""
    asked = request(API.operations["UpdateImagePipeline"].input, whole=True)
    for newer in ("imageScanningTypes", "scanResultCondition"):  # than the model inside the CLI
        del asked["imageScanningConfiguration"][newer]
    wire.dispatcher.answer = lambda *_: {"imagePipelineArn": asked["imagePipelineArn"]}
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_ENDPOINT_URL_IMAGEBUILDER": wire.url,
        "AWS_ACCESS_KEY_ID": KEY.access_key_id, "AWS_SECRET_ACCESS_KEY": KEY.secret, "AWS_DEFAULT_REGION": REGION,
    }  # fmt: skip
    command = [str(Path(sys.executable).parent / "aws"), "imagebuilder", "update-image-pipeline"]
    command += ["--cli-input-json", json.dumps(asked)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert wire.dispatcher.request == asked
    assert json.loads(finished.stdout)["clientToken"] == asked["clientToken"]
