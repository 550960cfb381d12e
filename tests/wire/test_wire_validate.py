"""Every constraint of the model, on every member of every operation."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.resources.errors import ApiError
from imagesmith.wire.model import API_VERSION, SERVICE, Shape
from imagesmith.wire.validate import Validator, python_pattern
from testing.loaded import service_model
from testing.wire_samples import Break, breaks, put, request

API = service_model()
PATTERNS = sorted(
    {
        shape["pattern"]
        for shape in Loader().load_service_model(SERVICE, "service-2", API_VERSION)["shapes"].values()
        if "pattern" in shape
    }
)
TAG_OPERATIONS = {"TagResource", "UntagResource", "ListTagsForResource"}


def refusal(name: str, members: dict[str, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        Validator().check(API.operations[name], members)
    return caught.value


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", sorted(API.operations))
def test_valid_requests_pass(name: str, whole: bool) -> None:
    """The smallest and the largest valid request of every operation pass, with the same members."""
    operation = API.operations[name]
    members = request(operation.input, whole=whole)
    assert set(Validator().check(operation, members)) == set(members)


@pytest.mark.parametrize("name", sorted(API.operations))
def test_every_broken_member_is_named(name: str) -> None:
    """Breaking one constraint of one member, at any depth, gives the error that names that member and says why."""
    operation = API.operations[name]
    members = request(operation.input, whole=True)
    code = "InvalidParameterException" if name in TAG_OPERATIONS else "InvalidParameterValueException"
    found = list(breaks(operation.input))
    for broken in found:
        error = refusal(name, put(members, broken.path, broken.value))
        leaf = broken.path.rpartition(".")[2]
        expected = f"The value supplied for parameter '{broken.path}' is not valid. {leaf} {broken.detail}"
        assert error.code == code
        assert error.message.startswith(expected), broken
    assert found or not operation.input.members


def test_the_walk_of_the_samples_meets_every_kind_of_constraint() -> None:
    """The test above is not empty: it meets lengths, ranges, patterns, enumerations, types and required members."""
    met: list[Break] = [broken for item in API.operations.values() for broken in breaks(item.input)]
    for words in ("cannot be null", "length greater", "length less", "value greater", "value less", "match pattern",
                  "one of", "a string", "a boolean", "an integer", "an object", "a list", "seconds"):  # fmt: skip
        assert any(words in broken.detail for broken in met), words
    assert len(met) > 5000


def test_first_failure_is_in_the_order_of_the_model() -> None:
    """Of several bad members the one that the model lists first is reported, whatever the order of the request."""
    order = list(API.operations["UpdateImagePipeline"].input.members)
    members = request(API.operations["UpdateImagePipeline"].input)
    bad = {"status": "SLEEPING", "clientToken": "", "description": "", "schedule": {"timezone": "x"}}
    first = min(bad, key=order.index)
    assert f"'{first}" in refusal("UpdateImagePipeline", {**bad, **members, **bad}).message


def test_path_of_a_nested_member_has_dots_and_indexes() -> None:
    """The path of spec/api.md 2.3 comes out literally."""
    members = request(API.operations["UpdateDistributionConfiguration"].input)
    members["distributions"] = [
        {"region": "r"},
        {"region": "r", "amiDistributionConfiguration": {"targetAccountIds": []}},
    ]
    assert refusal("UpdateDistributionConfiguration", members).message == (
        "The value supplied for parameter 'distributions[1].amiDistributionConfiguration.targetAccountIds' is not "
        "valid. targetAccountIds must have length greater than or equal to 1."
    )


def test_bad_map_keys_are_named_and_shortened() -> None:
    """A tag's key is part of the path, dots and all, but a key of a thousand characters is not repeated whole."""
    arn = request(API.operations["TagResource"].input)["resourceArn"]
    error = refusal("TagResource", {"resourceArn": arn, "tags": {"a.b": 1}})
    assert error.message == "The value supplied for parameter 'tags.a.b' is not valid. a.b must be a string."
    long = refusal("TagResource", {"resourceArn": arn, "tags": {"k" * 1000: "v"}})
    assert len(long.message) < 500
    assert "length less than or equal to 128" in long.message
    assert "must match pattern" in refusal("TagResource", {"resourceArn": arn, "tags": {"aws:x": "v"}}).message


def test_client_tokens_have_at_most_36_characters() -> None:
    """The user's contract is narrower than the model on every operation that takes a token."""
    taking = [item for item in API.operations.values() if "clientToken" in item.input.members]
    assert len(taking) == 23
    for operation in taking:
        members = request(operation.input)
        Validator().check(operation, {**members, "clientToken": "t" * 36})
        assert "'clientToken'" in refusal(operation.name, {**members, "clientToken": "t" * 37}).message


def test_nulls_and_unknown_members_are_dropped_at_any_depth() -> None:
    """Null means absent, and what the model does not know never reaches the dispatcher."""
    operation = API.operations["CreateImagePipeline"]
    members = request(operation.input)
    given = {
        **members,
        "description": None,
        "shoeSize": 43,
        "schedule": {"timezone": "Europe/Berlin", "scheduleExpression": None, "moon": {"phase": [None]}},
        "imageScanningConfiguration": {"ecrConfiguration": {"repositoryName": "r", "x": 1}},
    }
    assert Validator().check(operation, given) == {
        **members,
        "schedule": {"timezone": "Europe/Berlin"},
        "imageScanningConfiguration": {"ecrConfiguration": {"repositoryName": "r"}},
    }


def test_no_device_accepts_only_the_empty_text() -> None:
    """`noDevice` is the one member whose only value is an empty string (spec/api.md 2.1)."""
    operation = API.operations["CreateImageRecipe"]
    members = request(operation.input)
    Validator().check(operation, {**members, "blockDeviceMappings": [{"noDevice": ""}]})
    error = refusal("CreateImageRecipe", {**members, "blockDeviceMappings": [{"noDevice": "x"}]})
    assert "'blockDeviceMappings[0].noDevice'" in error.message


def test_timestamps_become_moments_in_utc() -> None:
    """A number of seconds, with or without a fraction, becomes a datetime in UTC."""
    operation = API.operations["StartResourceStateUpdate"]
    members = {**request(operation.input), "updateAt": 1893456000.25}
    assert Validator().check(operation, members)["updateAt"] == datetime(2030, 1, 1, 0, 0, 0, 250000, tzinfo=UTC)


def test_the_null_character_is_refused_everywhere() -> None:
    """U+0000 can be stored in no database, so no text of a request may hold it."""
    members = {**request(API.operations["CreateImagePipeline"].input), "description": "a\0b"}
    assert refusal("CreateImagePipeline", members).message.endswith("must not contain the character U+0000.")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_of_the_model_compiles(pattern: str) -> None:
    """No pattern of the installed model needs what Python's expressions lack, and none draws a warning."""
    assert r"\p" not in pattern
    re.compile(python_pattern(pattern), re.ASCII)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_pattern_takes_long(pattern: str) -> None:
    """No text of the longest body, however made, keeps a pattern busy: its time grows with its length only."""
    compiled = re.compile(python_pattern(pattern), re.ASCII)
    length = _longest(pattern)
    pieces = (
        "a",
        "0",
        "-",
        "/",
        ".",
        "a-",
        "0.",
        " ",
        "+",
        "arn:aws",
        "arn:aws-a",
        "s3://a/",
        "\n",
        "A=",
        "\\",
        ":",
    )
    prefixes = ("", "arn:aws:imagebuilder:us-east-1:123456789012:image/", "arn:aws:imagebuilder:", "s3://", "[a-z]")
    for prefix in prefixes:
        for piece in pieces:
            text = (prefix + piece * (length // len(piece)))[:length] + "\x01"
            started = time.perf_counter()
            compiled.search(text)
            assert time.perf_counter() - started < 2, (prefix, piece)


def _longest(pattern: str) -> int:
    """Characters of the longest text that is matched: the length is checked first."""
    longest = 0
    seen: set[Shape] = set()

    def walk(shape: Shape | None) -> None:
        nonlocal longest
        if shape is None or shape in seen:
            return
        seen.add(shape)
        if shape.pattern == pattern:
            longest = max(longest, 1_000_000 if shape.maximum is None else shape.maximum)
        for member in shape.members.values():
            walk(member.shape)
        walk(shape.item)
        walk(shape.key)

    for operation in API.operations.values():
        walk(operation.input)
    return longest


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^[0-9]{12}$", "123456789012\n", False),
        ("^[0-9]{12}$", "123456789012", True),
        ("^A|B|C$", "Bx", True),
        ("^A|B|C$", "xC\n", False),
        (r"^\w+$", "é", False),
        (r"^[$]\$$", "$$", True),
        (r"^[]$]$", "$", True),
        ("optional|required", "is required here", True),
    ],
)
def test_patterns_mean_what_the_model_means(pattern: str, text: str, matches: bool) -> None:
    """Patterns are searched, classes are ASCII, and `$` is the very end, also before a line feed."""
    assert (re.search(python_pattern(pattern), text, re.ASCII) is not None) is matches


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(sorted(API.operations)), data=st.data())
def test_any_json_is_judged_without_another_exception(name: str, data: st.DataObject) -> None:
    """Whatever stands in the members, the outcome is a clean request or an ApiError."""
    operation = API.operations[name]
    members = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(operation.input.members, JSON)))
    base = request(operation.input) if data.draw(st.booleans()) else {}
    try:
        Validator().check(operation, {**base, **members})
    except ApiError as error:
        assert error.code == operation.invalid_code
