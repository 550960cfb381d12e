"""What comes back: headers, bodies, error codes and their statuses, and faults of our own."""

from __future__ import annotations

import json
import logging
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from imagesmith.resources import errors
from imagesmith.wire.model import Shape
from imagesmith.wire.serialize import success_body
from testing.loaded import service_model
from testing.wire_samples import request
from testing.wire_support import PIPELINE_ARN, Wire

API = service_model()
GET = f"/GetImagePipeline?imagePipelineArn={quote(PIPELINE_ARN, safe='')}"

STATUSES = {
    "ServiceException": 500, "ClientException": 400, "ServiceUnavailableException": 503,
    "InvalidRequestException": 400, "ForbiddenException": 403, "CallRateLimitExceededException": 429,
    "IdempotentParameterMismatchException": 400, "ResourceInUseException": 400,
    "ResourceAlreadyExistsException": 400, "ResourceDependencyException": 400, "ResourceNotFoundException": 404,
    "InvalidVersionNumberException": 400, "InvalidParameterCombinationException": 400,
    "InvalidParameterValueException": 400, "InvalidParameterException": 400,
    "InvalidPaginationTokenException": 400, "ServiceQuotaExceededException": 402, "DryRunOperationException": 412,
    "AccessDeniedException": 403, "TooManyRequestsException": 429,
    "MissingAuthenticationTokenException": 403, "IncompleteSignatureException": 400,
    "UnrecognizedClientException": 403, "InvalidSignatureException": 403, "ExpiredTokenException": 403,
    "ThrottlingException": 429, "ValidationException": 400, "SerializationException": 400, "InternalFailure": 500,
    "ServiceUnavailable": 503, "UnknownOperationException": 404, "NotImplementedException": 501,
    "SomethingNobodyDeclared": 400,
}  # fmt: skip
"""Code -> HTTP status, as written in spec/api.md 1 and 2.4."""


def failing(error: BaseException) -> Any:
    def answer(*_: Any) -> NoReturn:
        raise error

    return answer


@pytest.mark.parametrize("code", STATUSES)
def test_errors_have_the_status_of_their_code(wire: Wire, code: str) -> None:
    """An error of the dispatcher has its code in the header, its text in `message`, and the documented status."""
    wire.dispatcher.answer = failing(errors.ApiError(code, "Because of this."))
    answer = wire.call("GET", GET)
    assert (answer.status, answer.error, answer.body) == (STATUSES[code], code, {"message": "Because of this."})
    assert answer.headers["content-type"] == "application/json"
    assert uuid.UUID(answer.request_id)


def test_boto3_raises_the_typed_exception(wire: Wire, client: Any) -> None:
    """boto3 maps a code to its exception, also on an operation that does not declare it."""
    wire.dispatcher.answer = failing(errors.not_found("image-pipeline", PIPELINE_ARN))
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_image_pipeline(imagePipelineArn=PIPELINE_ARN)
    assert caught.value.response["Error"]["Message"] == (
        f"The following required resource 'ImagePipeline' cannot be found: '{PIPELINE_ARN}'."
    )


def test_success_has_the_documented_headers(wire: Wire) -> None:
    """200, JSON, and a request id that is a UUID and equals the one in the body."""
    answer = wire.call("GET", GET)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert str(uuid.UUID(answer.request_id)) == answer.request_id == answer.body["requestId"]
    assert answer.error == ""
    assert wire.dispatcher.caller is not None
    assert wire.dispatcher.caller.request_id == answer.request_id


def test_replayed_answers_keep_their_request_id(wire: Wire, client: Any) -> None:
    """The stored answer to a repeated token keeps the request id of the first call in its body."""
    wire.dispatcher.answer = lambda *_: {
        "requestId": "the first",
        "clientToken": "t",
        "imagePipelineArn": PIPELINE_ARN,
    }
    answer = client.update_image_pipeline(**request(API.operations["UpdateImagePipeline"].input))
    assert (answer["requestId"], answer["clientToken"]) == ("the first", "t")
    assert answer["ResponseMetadata"]["RequestId"] != "the first"


@pytest.mark.parametrize(
    "error", [RuntimeError("secret detail /etc/x"), KeyError("k"), AssertionError(), RecursionError()]
)
def test_a_fault_of_ours_shows_nothing_but_the_request_id(
    wire: Wire, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """An unexpected exception is a ServiceException without details; the log has the traceback under the id."""
    wire.dispatcher.answer = failing(error)
    with caplog.at_level(logging.ERROR):
        answer = wire.call("GET", GET)
    assert (answer.status, answer.error) == (500, "ServiceException")
    assert answer.message == (
        f"The service could not complete the request because of an internal error: {answer.request_id}"
    )
    [record] = caplog.records
    assert answer.request_id in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_an_answer_that_is_no_json_is_a_fault_of_ours(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that answers what JSON cannot say gives a clean 500, not a broken body."""
    wire.dispatcher.answer = lambda *_: {"imagePipeline": {"name": object(), "consecutiveFailures": float("nan")}}
    assert wire.call("GET", GET).status == 500
    assert len(caplog.records) == 1


def test_operations_that_are_not_built_name_themselves(wire: Wire, client: Any) -> None:
    """Every operation outside the dispatcher's set is 501 NotImplementedException with its name."""
    wire.dispatcher.operations = frozenset()
    for name, operation in API.operations.items():
        with pytest.raises(ClientError) as caught:
            getattr(client, client_method(client, name))(**request(operation.input))
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 501
        assert response["Error"]["Code"] == "NotImplementedException"
        assert f" {name} " in response["Error"]["Message"]
    assert wire.dispatcher.operation == ""


def client_method(client: Any, name: str) -> str:
    names: dict[str, str] = client.meta.method_to_api_mapping
    return next(method for method, operation in names.items() if operation == name)


def test_checks_come_in_the_documented_order(wire: Wire) -> None:
    """Authentication, route, JSON, model, and only then whether the operation is built."""
    wire.dispatcher.operations = frozenset()
    unsigned = wire.send("GET", "/Nothing", headers={})
    assert unsigned.error == "MissingAuthenticationTokenException"
    assert wire.send("PUT", "/UpdateImagePipeline", b"{", headers={}).error == "MissingAuthenticationTokenException"
    assert wire.call("PUT", "/Nothing", b"{").error == "UnknownOperationException"
    assert wire.call("PUT", "/UpdateImagePipeline", b"{").error == "SerializationException"
    assert wire.call("PUT", "/UpdateImagePipeline", {}).error == "InvalidParameterValueException"
    whole = request(API.operations["UpdateImagePipeline"].input)
    assert wire.call("PUT", "/UpdateImagePipeline", whole).error == "NotImplementedException"


def test_health_needs_no_signature(wire: Wire) -> None:
    """GET /healthz answers 200 with JSON to anybody."""
    with urllib.request.urlopen(wire.url + "/healthz") as answer:
        assert (answer.status, json.load(answer)) == (200, {"status": "ok"})


def body_of(name: str, answer: dict[str, Any]) -> Any:
    return json.loads(success_body(API.operations[name], answer, request_id="r", client_token=None))


def test_absent_and_unknown_members_are_left_out() -> None:
    """None never becomes null, at any depth, and members that the shape lacks are dropped."""
    pipeline = {"name": "n", "description": None, "unknown": 1, "schedule": {"timezone": None}, "tags": {"a": None}}
    answer = {"imagePipeline": pipeline, "nonsense": True}
    expected = {"name": "n", "schedule": {}, "tags": {}}
    assert body_of("GetImagePipeline", answer) == {"requestId": "r", "imagePipeline": expected}


def test_empty_descriptions_are_absent() -> None:
    """At any depth, and whatever the model says of the least length; other empty texts stay where they may be."""
    detail = {"name": "n", "type": "string", "description": "", "defaultValue": [""]}
    answer = {
        "component": {"name": "n", "description": "", "changeDescription": "", "data": "", "parameters": [detail]}
    }
    shown = body_of("GetComponent", answer)["component"]
    assert shown["parameters"] == [{"name": "n", "type": "string", "defaultValue": [""]}]
    assert not {"description", "changeDescription"} & set(shown)
    step = body_of("GetWorkflowStepExecution", {"name": "n", "description": "", "outputs": ""})
    assert "description" not in step
    image = {"outputResources": {"amis": [{"region": "r", "description": ""}]}, "imageRecipe": {"description": ""}}
    shown = body_of("GetImage", {"image": image})["image"]
    assert shown == {"outputResources": {"amis": [{"region": "r"}]}, "imageRecipe": {}}


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (datetime(2030, 1, 1, tzinfo=UTC), 1893456000),
        (datetime(2030, 1, 1, 0, 0, 0, 253_999, tzinfo=UTC), 1893456000.254),
        (datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 1893456000),
        (datetime(2030, 1, 1), 1893456000),
    ],
)
def test_timestamps_are_numbers_and_dates_are_texts(moment: datetime, number: float) -> None:
    """A timestamp goes out as seconds since the epoch; a date of type string stays the text it is."""
    execution = {"startTime": moment, "lifecycleExecutionId": "i"}
    given = body_of("GetLifecycleExecution", {"lifecycleExecution": execution})["lifecycleExecution"]
    assert given == {"startTime": number, "lifecycleExecutionId": "i"}
    assert type(given["startTime"]) is type(number)
    text = {"imagePipeline": {"dateCreated": "2020-02-19T19:04:01.253Z"}}
    assert body_of("GetImagePipeline", text)["imagePipeline"] == text["imagePipeline"]


def test_only_timestamp_shapes_are_timestamps() -> None:
    """The model has one timestamp shape; every other date is a string."""
    found: set[str] = set()

    def walk(shape: Shape | None) -> None:
        if shape is None:
            return
        if shape.type == "timestamp":
            found.add(shape.name)
        for member in shape.members.values():
            walk(member.shape)
        walk(shape.item)

    for operation in API.operations.values():
        walk(operation.output)
    assert found == {"DateTimeTimestamp"}
