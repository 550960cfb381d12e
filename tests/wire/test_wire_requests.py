"""How requests are read: routes, paths, queries, JSON, and what cannot be read at all."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from testing.wire_samples import request
from testing.wire_support import PIPELINE_ARN, Wire

IMAGE_ARN = "arn:aws:imagebuilder:eu-west-1:123456789012:image/mine/1.0.0/1"
GET = f"/GetImagePipeline?imagePipelineArn={quote(PIPELINE_ARN, safe='')}"


def update(wire: Wire, **members: Any) -> dict[str, Any]:
    return {**request(wire.api.operations["UpdateImagePipeline"].input), **members}


@pytest.mark.parametrize(
    "label",
    [quote(IMAGE_ARN, safe=""), IMAGE_ARN, quote(IMAGE_ARN, safe=":"), quote(IMAGE_ARN, safe="/"),
     quote(IMAGE_ARN, safe="").lower()],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "operation", "query", "body", "more"),
    [
        ("GET", "ListTagsForResource", "", b"", {}),
        ("POST", "TagResource", "", {"tags": {"a": "b"}}, {"tags": {"a": "b"}}),
        ("DELETE", "UntagResource", "?tagKeys=a&tagKeys=b%2Fc", b"", {"tagKeys": ["a", "b/c"]}),
    ],
)
def test_tag_paths_take_the_arn_in_every_spelling(
    wire: Wire, label: str, method: str, operation: str, query: str, body: Any, more: dict[str, Any]
) -> None:
    """An ARN in the path may be encoded whole, in part or not at all; everything after `/tags/` is the label."""
    answer = wire.call(method, f"/tags/{label}{query}", body)
    assert (answer.status, answer.body) == (200, {})
    assert wire.dispatcher.operation == operation
    assert wire.dispatcher.request == {"resourceArn": IMAGE_ARN, **more}


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/Nothing"),
        ("POST", "/GetImagePipeline"),
        ("PUT", "/ListImagePipelines"),
        ("GET", "/GetImagePipeline/"),
        ("GET", "/getimagepipeline"),
        ("GET", "/%47etImagePipeline"),
        ("GET", "/tags/"),
        ("GET", "/tags"),
        ("PUT", "/tags/" + quote(IMAGE_ARN, safe="")),
        ("HEAD", "/GetImagePipeline"),
        ("OPTIONS", "/GetImagePipeline"),
        ("PATCH", "/UpdateImagePipeline"),
        ("TRACE", "/GetImagePipeline"),
        ("POST", "/healthz"),
    ],
)
def test_unknown_routes_and_methods_are_404(wire: Wire, method: str, target: str) -> None:
    """A path or method that names no operation is UnknownOperationException, also for HEAD and OPTIONS."""
    answer = wire.call(method, target)
    assert (answer.status, answer.error) == (404, "UnknownOperationException")
    assert wire.dispatcher.operation == ""
    if method != "HEAD":
        assert answer.message == f"No operation of this service is at {method} {target}."


def test_unknown_members_parameters_and_nulls_are_ignored(wire: Wire) -> None:
    """Newer clients keep working: what the model does not know is dropped from body and query; null is absent."""
    body = update(wire, description=None, shoeSize=43, schedule={"timezone": "UTC", "phase": {"deep": [1, None]}})
    assert wire.call("PUT", "/UpdateImagePipeline?x=1", body).status == 200
    assert wire.dispatcher.request == update(wire, schedule={"timezone": "UTC"})
    assert wire.call("GET", GET + "&x=1&x=2&y").status == 200
    assert wire.dispatcher.request == {"imagePipelineArn": PIPELINE_ARN}


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-amz-json-1.1", "text/plain"])
def test_any_content_type_will_do(wire: Wire, content_type: str | None) -> None:
    """The body is JSON whatever the header says."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert wire.call("PUT", "/UpdateImagePipeline", update(wire), headers=headers).status == 200


def test_an_empty_body_is_an_empty_object(wire: Wire) -> None:
    """A list operation without arguments may have no body; a required member is still named as missing."""
    assert wire.call("POST", "/ListImagePipelines").status == 200
    assert wire.dispatcher.request == {}
    answer = wire.call("PUT", "/StartImagePipelineExecution")
    assert (answer.status, answer.error) == (400, "InvalidParameterValueException")
    assert answer.message == (
        "The value supplied for parameter 'imagePipelineArn' is not valid. imagePipelineArn cannot be null."
    )


def test_a_token_that_a_raw_caller_omits_is_missing(wire: Wire) -> None:
    """Only SDKs fill the client token in; without one the member is reported as missing."""
    answer = wire.call("PUT", "/UpdateImagePipeline", update(wire, clientToken=None))
    assert answer.message == (
        "The value supplied for parameter 'clientToken' is not valid. clientToken cannot be null."
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "at character 1"),
        (b"nonsense", "at character 0"),
        (b'{"a": 1} x', "at character 9"),
        (b"{'a': 1}", "at character 1"),
        (b'{"a": 1,}', "at character"),
        (b"   ", "at character"),
        (b"[]", "must be an object"),
        (b'"text"', "must be an object"),
        (b"null", "must be an object"),
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        (b'{"description": "\xe4"}', "not UTF-8 at byte 17"),
        ("\ufeff{}".encode(), "at character 0"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'{"x": {"' + b"y" * 500 + b'": 1, "' + b"y" * 500 + b'": 1}}', "occurs twice"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
        (b'{"\\udc00": 1}', "half of a surrogate pair"),
        (b'{"a": ' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": "tab\there"}', "at character"),
        (b'{"a": 0x10}', "at character"),
        (b'{"a": 01}', "at character"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(wire: Wire, body: bytes, why: str) -> None:
    """Everything that cannot be read with certainty is a SerializationException that says why and where."""
    for method, path in (("PUT", "/UpdateImagePipeline"), ("POST", "/ListImagePipelines")):
        answer = wire.call(method, path, body)
        assert (answer.status, answer.error) == (400, "SerializationException")
        assert answer.message.startswith("The request body cannot be read as JSON: ")
        assert why in answer.message
        assert len(answer.message) < 400
    assert wire.dispatcher.operation == ""


@pytest.mark.parametrize(
    "body",
    [
        "{" + ",".join(f'"{index:x}":1' for index in range(90_000)) + ',"0":1}',
        '{"a":' + "1" * 1_000_000 + ".5}",
        '{"a":0.' + "1" * 1_000_000 + "e-400}",
        '{"a":[' + ",".join(["1" * 4000] * 240) + "]}",
        '{"filters":[' + ",".join(["{}"] * 300_000) + "]}",
        '{"nextToken":"' + "\\\\u0061" * 150_000 + '"}',
        "{" + '"a":{' * 900 + "}" * 901,
    ],
)
def test_no_body_takes_long(wire: Wire, body: str) -> None:
    """The longest bodies, made to be slow to read, are judged at once."""
    signed = wire.sign("POST", "/ListImagePipelines", body.encode())
    started = time.perf_counter()
    answer = wire.send("POST", "/ListImagePipelines", body.encode(), headers=signed)
    assert time.perf_counter() - started < 5
    assert answer.status in (200, 400)


def test_whole_surrogate_pairs_are_text(wire: Wire) -> None:
    """An escaped pair of surrogates is one ordinary character."""
    body = json.dumps(update(wire, description="\U0001f9f0 ü")).encode()
    assert b"\\ud83e\\uddf0" in body
    assert wire.call("PUT", "/UpdateImagePipeline", body).status == 200
    assert (wire.dispatcher.request or {})["description"] == "\U0001f9f0 ü"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (GET + "&imagePipelineArn=x", "'imagePipelineArn' occurs twice"),
        ("/GetImagePipeline?imagePipelineArn=%ff", "not UTF-8"),
        ("/GetImagePipeline?" + "a=1&" * 1500, "more than 1000 parameters"),
        ("/tags/%ff", "The path cannot be read"),
    ],
)
def test_a_query_or_path_that_cannot_be_read_is_refused(wire: Wire, target: str, why: str) -> None:
    """Bytes that are no UTF-8, a scalar given twice and too many parameters are SerializationException."""
    answer = wire.call("GET", target)
    assert (answer.status, answer.error) == (400, "SerializationException")
    assert why in answer.message


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("/GetImagePipeline", "imagePipelineArn cannot be null."),
        ("/GetImagePipeline?imagePipelineArn=", "imagePipelineArn must match pattern ^arn:aws"),
        ("/GetImagePipeline?imagePipelineArn=mine", "imagePipelineArn must match pattern ^arn:aws"),
        (GET + "%0A", "imagePipelineArn must match pattern ^arn:aws"),
        (GET.replace("imagePipelineArn", "imagepipelinearn"), "imagePipelineArn cannot be null."),
    ],
)
def test_query_members_are_held_to_the_model(wire: Wire, target: str, detail: str) -> None:
    """A missing, empty or malformed query member is named."""
    answer = wire.call("GET", target)
    assert (answer.status, answer.error) == (400, "InvalidParameterValueException")
    assert answer.message.startswith("The value supplied for parameter 'imagePipelineArn' is not valid. " + detail)


def test_the_tag_operations_have_their_own_code(wire: Wire) -> None:
    """A malformed ARN in a tag path is InvalidParameterException, the only code those operations declare."""
    for method, query, body in (
        ("GET", "", b""),
        ("POST", "", {"tags": {"a": "b"}}),
        ("DELETE", "?tagKeys=a", b""),
    ):
        answer = wire.call(method, f"/tags/nothing{query}", body)
        assert (answer.status, answer.error) == (400, "InvalidParameterException")
        assert answer.message.startswith("The value supplied for parameter 'resourceArn' is not valid. resourceArn")
    assert "'tagKeys'" in wire.call("DELETE", f"/tags/{quote(IMAGE_ARN, safe='')}").message


@pytest.mark.parametrize(
    ("member", "value", "detail"),
    [
        ("clientToken", "", "clientToken must have length greater than or equal to 1."),
        ("clientToken", "t" * 37, "clientToken must have length less than or equal to 36."),
        ("description", "d" * 1025, "description must have length less than or equal to 1024."),
        ("description", 7, "description must be a string."),
        ("enhancedImageMetadataEnabled", "true", "enhancedImageMetadataEnabled must be a boolean."),
        ("status", "enabled", "status must be one of DISABLED, ENABLED."),
        ("executionRole", "a b", "executionRole must match pattern ^(?:arn:aws"),
        ("imageRecipeArn", "x" * 500_000, "imageRecipeArn must match pattern ^arn:aws"),
        ("workflows", {}, "workflows must be a list."),
        ("schedule", [], "schedule must be an object."),
    ],
)
def test_members_of_update_image_pipeline_are_held_to_the_contract(
    wire: Wire, member: str, value: Any, detail: str
) -> None:
    """Over HTTP, a member that breaks the contract gives the documented code, path and text."""
    answer = wire.call("PUT", "/UpdateImagePipeline", update(wire, **{member: value}))
    assert (answer.status, answer.error) == (400, "InvalidParameterValueException")
    assert answer.message.startswith(f"The value supplied for parameter '{member}' is not valid. {detail}")
    assert wire.dispatcher.operation == ""


@pytest.mark.parametrize("value", [59, 1441, 60.0, "60", True, 2**80])
def test_timeout_minutes_is_an_integer_in_its_range(wire: Wire, value: Any) -> None:
    """60 to 1440, as a JSON integer."""
    answer = wire.call(
        "PUT", "/UpdateImagePipeline", update(wire, imageTestsConfiguration={"timeoutMinutes": value})
    )
    assert "parameter 'imageTestsConfiguration.timeoutMinutes' is not valid. timeoutMinutes must" in answer.message
