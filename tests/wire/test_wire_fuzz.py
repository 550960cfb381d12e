"""Signed nonsense: whatever a caller with a good key sends, no answer is a fault of ours.

IMAGESMITH_FUZZ_EXAMPLES sets the number of requests (300; the full run is 10,000).
"""

from __future__ import annotations

import http.client
import json
import os
import uuid
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesmith.wire.model import Operation, Shape
from testing.loaded import service_model
from testing.wire_samples import request, sample
from testing.wire_support import Answer, Wire

API = service_model()
EXAMPLES = int(os.environ.get("IMAGESMITH_FUZZ_EXAMPLES", "300"))
LONGEST = 4 * 1024 * 1024
"""Bytes of a body; what is far longer is cut off with its connection, which is tested elsewhere."""

TEXTS = st.text(st.characters(), max_size=40) | st.sampled_from(
    ["", "x" * 70_000, "\0", "\ud800", "\n", "arn:aws:imagebuilder:", "../..", "%00", "{{", "null", "true", "1e5"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | TEXTS
    | st.floats()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 10**400, -1, 0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


@st.composite
def documents(draw: st.DrawFn, operation: Operation) -> Any:
    """A valid request with some of its values, at any depth, replaced, removed, repeated or added to."""
    document: Any = request(operation.input, whole=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        document = draw(mutated(document))
    return document


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(value)))
        changed = dict(value)
        match draw(st.sampled_from(["into", "into", "remove", "add"])):
            case "into":
                changed[name] = draw(mutated(value[name]))
            case "remove":
                del changed[name]
            case _:
                changed[draw(TEXTS)] = draw(JSON)
        return changed
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        inner = draw(mutated(value[index]))
        return [*value[:index], inner, *value[index + 1 :]] + value * draw(st.sampled_from([0, 0, 1, 8]))
    return draw(JSON)


@st.composite
def bodies(draw: st.DrawFn, operation: Operation) -> bytes:
    text = json.dumps(draw(documents(operation)), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    text = text[:LONGEST]
    if draw(st.integers(0, 4)):
        return text
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 10)))
    return text[:start] + draw(st.binary(max_size=8)) + text[end:]


@st.composite
def targets(draw: st.DrawFn, operation: Operation) -> str:
    """The path and query of an operation, as they should be or nearly so."""
    values = {member.wire_name: sample(member.shape, whole=False) for member in operation.input.members.values()}
    path = operation.path
    if operation.label is not None:
        label = draw(st.just(values[operation.label]) | TEXTS)
        path += quote(label.encode("utf-8", "surrogatepass")[:8000], safe=draw(st.sampled_from(["", ":/", "%:/"])))
    pairs = [
        (member.wire_name, text)
        for member in operation.input.members.values()
        if member.location == "query"
        for text in draw(st.just(texts(member.shape)) | st.lists(TEXTS, max_size=3))
    ]
    pairs += draw(st.lists(st.tuples(TEXTS, TEXTS), max_size=2))
    query = "&".join(f"{escape(name)}={escape(value)}" for name, value in pairs)
    path = draw(st.just(path) | st.just(path + "/") | st.just("/" + escape(draw(TEXTS))))
    return path + (f"?{query}" if query else "")


def texts(shape: Shape) -> list[str]:
    value = sample(shape, whole=False)
    return value if isinstance(value, list) else [value]


def escape(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass")[:8000], safe="-_.~")


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(name=st.sampled_from(sorted(API.operations)), data=st.data())
def test_no_request_makes_the_server_fail(wire: Wire, name: str, data: st.DataObject) -> None:
    """Mutated requests of all operations, correctly signed, get a well-formed answer, and none above 404."""
    operation = API.operations[name]
    method = data.draw(st.just(operation.method) | st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH"]))
    body = data.draw(bodies(operation)) if "body" in operation.locations else data.draw(st.binary(max_size=20))
    try:
        answer = wire.call(method, data.draw(targets(operation)), body)
    except (http.client.InvalidURL, http.client.CannotSendRequest):
        return
    assert_well_formed(answer)


def assert_well_formed(answer: Answer) -> None:
    assert answer.status in (200, 400, 404), answer.body
    assert answer.headers["content-type"] == "application/json"
    assert uuid.UUID(answer.request_id)
    assert isinstance(answer.body, dict)
    assert (answer.status == 200) is (answer.error == "")
    if answer.status != 200:
        assert list(answer.body) == ["message"]
        assert 0 < len(answer.message) < 20_000
