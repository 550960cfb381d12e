"""Every operation, from an ordinary boto3 client to the dispatcher and back."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import xform_name
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesmith.wire.model import Api, Shape
from wire.wire_strategies import Values
from wire.wire_support import ACCOUNT, KEY, REGION, Wire

API = Api.load()
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
    request = data.draw(REQUESTS[size].of(API.operations[name].input))
    getattr(client, xform_name(name))(**request)
    caller = wire.dispatcher.caller
    assert wire.dispatcher.operation == name
    assert wire.dispatcher.request == request
    assert caller is not None
    assert (caller.account, caller.region, caller.principal) == (ACCOUNT, REGION, KEY.principal)


@pytest.mark.parametrize("name", sorted(API.operations))
@thorough
@given(data=st.data())
def test_answer_reaches_boto3_as_the_dispatcher_gave_it(
    wire: Wire, client: Any, name: str, data: st.DataObject
) -> None:
    """boto3 parses out of the answer exactly the members that the dispatcher gave."""
    request = data.draw(REQUESTS["minimal"].of(API.operations[name].input))
    given = data.draw(ANSWERS.of(API.operations[name].output))
    wire.dispatcher.answer = lambda *_: given
    answer = getattr(client, xform_name(name))(**request)
    assert without_metadata(answer) == given


@pytest.mark.parametrize("name", sorted(API.operations))
def test_answer_carries_the_request_id_and_the_client_token(wire: Wire, client: Any, name: str) -> None:
    """An empty answer gets requestId, equal to the header, and clientToken, exactly where the shape has them."""
    operation = API.operations[name]
    request = example(operation.input)
    answer = getattr(client, xform_name(name))(**request)
    expected = {}
    if "requestId" in operation.output.members:
        expected["requestId"] = answer["ResponseMetadata"]["RequestId"]
    if "clientToken" in operation.output.members:
        expected["clientToken"] = request["clientToken"]
    assert without_metadata(answer) == expected
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


def example(shape: Shape) -> dict[str, Any]:
    """One fixed minimal request."""
    found: list[Any] = []

    @settings(max_examples=1, database=None, suppress_health_check=list(HealthCheck))
    @given(REQUESTS["minimal"].of(shape))
    def take(value: Any) -> None:
        found.append(value)

    take()
    return dict(found[0])
