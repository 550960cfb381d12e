"""64 clients at one name, version and token: exactly one request takes effect (spec/api.md 2.5, 3.5, 3.7)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from testing.api import DOCUMENT, REGION, TEMPLATE, WORKFLOW, Api
from testing.inhabited import POLICY
from testing.signed import SignedAnswer, send_signed

CLIENTS: Final = 64
_VERSION: Final = {"name": "same", "semanticVersion": "1.0.0"}
_CREATES: Final[Mapping[str, Mapping[str, Any]]] = {
    "CreateComponent": {**_VERSION, "platform": "Linux", "data": DOCUMENT},
    "CreateWorkflow": {**_VERSION, "type": "TEST", "data": WORKFLOW},
    "CreateImageRecipe": {**_VERSION, "parentImage": "ami-0123456789abcdef0"},
    "CreateContainerRecipe": {
        **_VERSION, "containerType": "DOCKER", "dockerfileTemplateData": TEMPLATE, "parentImage": "debian:12",
        "targetRepository": {"service": "ECR", "repositoryName": "same"},
    },
    "CreateInfrastructureConfiguration": {"name": "same", "instanceProfileName": "p"},
    "CreateDistributionConfiguration": {
        "name": "same", "distributions": [{"region": REGION, "amiDistributionConfiguration": {}}],
    },
    "CreateLifecyclePolicy": {**POLICY, "name": "same"},
}  # fmt: skip
"""Operation -> a request."""


def at_once(api: Api, operation: str, requests: Sequence[Mapping[str, Any]]) -> list[SignedAnswer]:
    """Send all requests at the same time, each from a client of its own."""
    answers: list[SignedAnswer] = []
    start = threading.Barrier(len(requests))

    def send(members: Mapping[str, Any]) -> None:
        start.wait()
        answers.append(send_signed(api, operation, members))

    threads = [threading.Thread(target=send, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def arn_of(answer: SignedAnswer) -> str:
    [arn] = [value for name, value in answer.body.items() if name.endswith("Arn")]
    return str(arn)


@pytest.mark.parametrize("operation", sorted(_CREATES))
def test_of_64_clients_one_makes_the_resource(api: Api, operation: str) -> None:
    """Each has its own token: one succeeds, the others are told that it exists, and it is stored once."""
    members = _CREATES[operation]
    requests = [{**members, "clientToken": f"client-{number}"} for number in range(CLIENTS)]
    answers = at_once(api, operation, requests)
    assert Counter(answer.error for answer in answers) == {"": 1, "ResourceAlreadyExistsException": CLIENTS - 1}
    assert api.rows() == 1


@pytest.mark.parametrize("operation", sorted(_CREATES))
def test_one_token_of_64_clients_has_one_effect(api: Api, operation: str) -> None:
    """Those who come while it executes are told so, the others get the first answer; one resource is stored."""
    members = _CREATES[operation]
    answers = at_once(api, operation, [{**members, "clientToken": "one"}] * CLIENTS)
    assert {answer.error for answer in answers} <= {"", "ResourceInUseException"}
    made = [answer.body for answer in answers if not answer.error]
    assert made and all(body == made[0] for body in made)
    assert api.rows() == 1
    assert send_signed(api, operation, {**members, "clientToken": "one"}).body == made[0]


def test_one_token_with_64_requests_takes_one(api: Api) -> None:
    """Of different requests under a token one wins; the others are a mismatch, or come while it executes."""
    shared = {"instanceProfileName": "p", "clientToken": "one"}
    requests = [{"name": f"name {number}", **shared} for number in range(CLIENTS)]
    answers = at_once(api, "CreateInfrastructureConfiguration", requests)
    codes = Counter(answer.error for answer in answers)
    assert codes[""] == 1 and api.rows() == 1
    assert set(codes) <= {"", "IdempotentParameterMismatchException", "ResourceInUseException"}


def test_64_automatic_versions_are_64_versions(api: Api) -> None:
    """No number is taken twice, and none is left out."""
    members = _CREATES["CreateContainerRecipe"]
    requests = [
        {**members, "semanticVersion": "1.x.x", "clientToken": f"client-{number}"} for number in range(CLIENTS)
    ]
    answers = at_once(api, "CreateContainerRecipe", requests)
    assert {answer.error for answer in answers} == {""}
    expected = {api.arn("container-recipe", f"same/1.{number}.0") for number in range(CLIENTS)}
    assert {arn_of(answer) for answer in answers} == expected
