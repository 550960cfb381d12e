"""Real clients of four makers take the same calls through every operation, and read the same answers.

boto3, the AWS CLI, the JavaScript SDK and capo-imagebuilder: all but the first two sign, write and read by code of
their own. The models of the AWS CLI and of the JavaScript SDK are older than botocore's: members that they do not
know are left out of the comparison, and so are dry runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from aws_resource_validator.pydantic_models.imagebuilder import imagebuilder_classes as validator
from pydantic import BaseModel, ValidationError

from testing.api import Api
from testing.client_calls import ClientCall, calls
from testing.client_runs import (
    Answers,
    awscli_answers,
    awscli_model,
    boto3_answers,
    capo_answers,
    comparable,
    differences,
    javascript_answers,
    javascript_model,
    member_names,
    unknown_members,
)
from testing.client_world import Account, furnish
from testing.loaded import service_model

CALLS = calls()
Ask = Callable[..., Answers]
CLIENTS: dict[str, tuple[int, Ask, Callable[[], str] | None]] = {
    "awscli": (1, awscli_answers, awscli_model),
    "javascript": (2, javascript_answers, javascript_model),
    "capo": (3, capo_answers, None),
}
"""The number of its account, what runs it, and its model if that is older."""


@dataclass
class Boto3Run:
    """What boto3 read: an answer for each call, and every page of it with the name of its operation."""

    answers: Answers
    pages: list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def boto3_run(api: Api, accounts: list[Account]) -> Boto3Run:
    pages: list[tuple[str, dict[str, Any]]] = []
    api.client.meta.events.register(
        "after-call.imagebuilder", lambda parsed, model, **_: pages.append((model.name, dict(parsed)))
    )
    return Boto3Run(boto3_answers(api.client, CALLS, dict(furnish(api, accounts[0]))), pages)


def test_every_operation_is_called() -> None:
    """A new operation of the model gets a call."""
    assert {item.operation for item in CALLS} == set(service_model().operations)


def test_boto3_gets_what_was_expected(boto3_run: Boto3Run) -> None:
    """An answer or the error of each call; a repeated one gets the answer of the first."""
    wrong = [
        f"{number} {item.operation}: {item.code or 'an answer'}, not {found}"
        for number, (item, found) in enumerate(zip(CALLS, boto3_run.answers, strict=True))
        if found.get("code", "") != item.code
    ]
    assert not wrong, "\n".join(wrong)
    repeats = [number for number, item in enumerate(CALLS) if item.repeats]
    assert len(repeats) > 20
    for number in repeats:
        assert plain(boto3_run.answers[number]) == plain(boto3_run.answers[number - 1]), CALLS[number]


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    hidden = {"ResponseMetadata", "requestId"}
    return {name: value for name, value in answer["answer"].items() if name not in hidden}


def test_a_validator_finds_every_answer_right(boto3_run: Boto3Run) -> None:
    """The models of aws-resource-validator know every member, its type, its pattern and its values."""
    answered = [(name, page) for name, page in boto3_run.pages if "Error" not in page]
    wrong = [f"{name}: {line}" for name, page in answered for line in faults(name, page)]
    assert not wrong, "\n".join(wrong)
    refused = {"GetMarketplaceResource"}
    assert {name for name, _ in answered} == set(service_model().operations) - refused


def faults(operation: str, page: dict[str, Any]) -> Iterator[str]:
    model = getattr(validator, f"{operation}ResponseTypeDef", None)
    if model is None:  # the two that change tags answer nothing
        yield from (f"{name} is unknown" for name in page if name != "ResponseMetadata")
        return
    try:
        read = model.model_validate(page)
    except ValidationError as error:
        yield from (f"{item['loc']}: {item['msg']}" for item in error.errors() if not too_strict(item))
    else:
        yield from unknown(read)


def too_strict(error: Any) -> bool:
    """The validator requires every member of an answer's first level, and its model lacks a state of steps."""
    missing = error["type"] == "missing" and len(error["loc"]) == 1
    return missing or (error["type"] == "literal_error" and error["input"] == "WAITING")


@cache
def newer() -> frozenset[str]:
    """What botocore knows and the validator does not: its model is older."""
    known = {
        name
        for item in vars(validator).values()
        if isinstance(item, type) and issubclass(item, BaseModel)
        for name in item.model_fields
    }
    return member_names() - known | {"MaxAttemptsReached"}


def unknown(value: Any, path: str = "") -> Iterator[str]:
    """Members that a model of the validator does not have."""
    if isinstance(value, BaseModel):
        yield from (f"{path}.{name} is unknown" for name in value.model_extra or () if name not in newer())
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name, None), f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from unknown(item, f"{path}[]")


@pytest.mark.parametrize("client", CLIENTS)
def test_every_client_reads_the_same(api: Api, accounts: list[Account], boto3_run: Boto3Run, client: str) -> None:
    """Answer for answer, code for code, message for message."""
    number, ask, model = CLIENTS[client]
    asked = [
        (item, found) for item, found in zip(CALLS, boto3_run.answers, strict=True) if not model or not dry(item)
    ]
    theirs = ask(api.url, accounts[number], [item for item, _ in asked], dict(furnish(api, accounts[number])))
    unknown = unknown_members(model()) if model else frozenset()
    pairs = zip(
        comparable(theirs, account=accounts[number], without=unknown),
        comparable([found for _, found in asked], account=accounts[0], without=unknown),
        strict=True,
    )
    wrong = [
        f"{item.operation}{line}"
        for (item, _), pair in zip(asked, pairs, strict=True)
        for line in differences(*pair)
    ]
    assert not wrong, "\n".join(wrong)


def dry(item: ClientCall) -> bool:
    return "dryRun" in item.members
