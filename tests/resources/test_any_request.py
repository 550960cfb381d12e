"""Any request that the model allows is answered or refused by name: no operation fails in another way.

IMAGESMITH_FUZZ_EXAMPLES sets the number of requests (300; the full run is 10,000).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from imagesmith.builds.records import ImageRecords
from imagesmith.policies.sharing import shared_actions
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.errors import ApiError
from imagesmith.resources.service import Service
from imagesmith.settings import Settings
from imagesmith.store.amis import Ami, put_ami
from imagesmith.store.database import Database
from imagesmith.store.parameters import ParameterRecord, put_parameter
from imagesmith.values.arn import Arn
from imagesmith.wire.model import Shape
from imagesmith.wire.server import running
from imagesmith.wire.validate import Validator, python_pattern
from testing.api import ACCOUNT, DOCUMENT, REGION, TEMPLATE, WORKFLOW, Api, RecordingBuilder
from testing.applications import application
from testing.clocks import MovingClock
from testing.keys import followed_keys
from testing.loaded import managed_content, service_model
from testing.signed import send_signed
from testing.strategies import Values

API = service_model()
COUNT = itertools.count()
EXAMPLES = int(os.environ.get("IMAGESMITH_FUZZ_EXAMPLES", "300"))
CODES = frozenset(API.statuses)
AMI = "ami-0123456789abcdef0"
OTHER = "444455556666"
TEXTS = (
    AMI, "ssm:/golden", "s3://bucket/key", "s3://bucket/disk.iso", "debian:12", "cron(0 0 * * ? *)", "rate(1 day)",
    DOCUMENT, WORKFLOW, TEMPLATE, "#!/bin/sh\necho {{ x }}\n", "x.x.x", "1.0.0", "/aws/imagebuilder/x", "Self",
    '{"Version": "2012-10-17", "Statement": []}', '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]}',
    "name", "Microsoft Windows 11", "Linux", "eu-west-1", "a", "\u2028", "\U0001f600", "[" * 3000,
)  # fmt: skip
"""Texts that lead further into operations than random ones."""


@dataclass(frozen=True)
class Target:
    service: Service

    def call(self, operation: str, members: dict[str, Any]) -> Any:
        caller = Caller(ACCOUNT, REGION, f"arn:aws:iam::{ACCOUNT}:root", "11111111-1111-1111-1111-111111111111")
        return self.service.call(operation, caller, Validator().check(API.operations[operation], members))


@pytest.fixture
def target(sqlite_database: Database, clock: MovingClock, tmp_path: Path) -> Iterator[Target]:
    """A service with a resource of every kind."""
    service = Service(
        sqlite_database,
        Settings(data_dir=tmp_path, account=ACCOUNT, region=REGION),
        clock=clock,
        managed=managed_content(),
        builds=RecordingBuilder(),
        read_source=lambda _path, _uri: DOCUMENT,
    )
    with sqlite_database.write() as tx:
        put_ami(tx, Ami(AMI, ACCOUNT, REGION, "base", "sha256:" + "1" * 64, clock(), "", {"platform": "Linux"}))
        put_parameter(tx, ACCOUNT, REGION, ParameterRecord("/golden", AMI, clock()))
    made = Target(service)
    restore(made, next(COUNT))
    yield made


def restore(target: Target, number: int) -> None:
    """Make what earlier requests deleted."""
    for index, (name, members) in enumerate(CREATES):
        with contextlib.suppress(ApiError):
            target.call(name, {**members, "clientToken": f"restore-{number}-{index}"})


def arn(kind: str, path: str, *, owner: str = ACCOUNT) -> str:
    return f"arn:aws:imagebuilder:{REGION}:{owner}:{kind}/{path}"


COMPONENT, IMAGE = arn("component", "known/1.0.0/1"), arn("image", "known/1.0.0/1")
RECIPE, IMAGE_RECIPE = arn("container-recipe", "known/1.0.0"), arn("image-recipe", "known/1.0.0")
INFRASTRUCTURE = arn("infrastructure-configuration", "known")
DISTRIBUTION = arn("distribution-configuration", "known")
ARNS = (
    COMPONENT, IMAGE, RECIPE, IMAGE_RECIPE, INFRASTRUCTURE, DISTRIBUTION, arn("image-pipeline", "known"),
    arn("workflow", "test/known/1.0.0/1"), arn("image", "base/1.0.0/1"),
)  # fmt: skip
_VERSION = {"name": "known", "semanticVersion": "1.0.0"}
_RUN = {"containerRecipeArn": RECIPE, "infrastructureConfigurationArn": INFRASTRUCTURE}
CREATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("CreateComponent", {**_VERSION, "platform": "Linux", "data": DOCUMENT}),
    ("CreateWorkflow", {**_VERSION, "type": "TEST", "data": WORKFLOW}),
    ("CreateInfrastructureConfiguration", {"name": "known", "instanceProfileName": "p"}),
    (
        "CreateDistributionConfiguration",
        {"name": "known", "distributions": [{"region": REGION, "amiDistributionConfiguration": {}}]},
    ),
    (
        "CreateContainerRecipe",
        {
            **_VERSION, "containerType": "DOCKER", "dockerfileTemplateData": TEMPLATE,
            "components": [{"componentArn": COMPONENT}],
            "parentImage": arn("image", "debian-x86-12/x.x.x", owner="aws"),
            "targetRepository": {"service": "ECR", "repositoryName": "known"},
        },
    ),
    ("CreateImageRecipe", {**_VERSION, "parentImage": AMI, "components": [{"componentArn": COMPONENT}]}),
    ("CreateImagePipeline", {**_RUN, "name": "known"}),
    ("CreateImage", _RUN),
    ("DistributeImage", {"sourceImage": AMI, "distributionConfigurationArn": DISTRIBUTION, "executionRole": "r"}),
)  # fmt: skip
"""A resource of each kind, in the order of their references."""


def policy(resource: str) -> str:
    """A policy that shares a resource."""
    action = shared_actions(Arn.parse(resource).kind)[0]
    grant = {"Effect": "Allow", "Principal": {"AWS": OTHER}, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": grant})


_CHANGES = (
    (":" + ACCOUNT, ":" + OTHER), (":" + ACCOUNT, ":aws"), (REGION, "us-east-1"), ("/1.0.0", "/1.x.x"),
    ("/1.0.0/1", "/1.0.0"), ("known", "gone"), ("/1.0.0/1", "/1.0.0/9"), ("/1.0.0", "/01.0.00"),
)  # fmt: skip
NEAR = tuple(known.replace(old, new) for known in ARNS for old, new in _CHANGES)
"""The same ARNs with another owner, Region, version or name."""
POLICIES = tuple(policy(known) for known in (COMPONENT, IMAGE, RECIPE, IMAGE_RECIPE))
KNOWN = (*TEXTS, *(ARNS * 8), *NEAR, *POLICIES)


@st.composite
def requests(draw: st.DrawFn, shape: Shape) -> Any:
    """A valid value of a shape whose texts are often known ones."""
    if shape.type == "structure":
        members = {}
        for item in shape.members.values():
            if item.name == "clientToken":
                members[item.name] = str(draw(st.integers(0, 10**6)))
            elif item.required or draw(st.integers(0, 2)) == 0:
                members[item.name] = draw(requests(item.shape))
        return members
    if shape.type == "list":
        assert shape.item is not None
        least = shape.minimum or 0
        return [draw(requests(shape.item)) for _ in range(draw(st.integers(least, max(least, 2))))]
    if shape.type == "timestamp":
        return draw(st.integers(0, 5_000_000_000))
    if shape.type == "string" and not shape.choices and draw(st.integers(0, 5)):
        fitting = [text for text in KNOWN if fits(shape, text)]
        if fitting:
            return draw(st.sampled_from(fitting))
    return draw(VALUES.of(shape))


VALUES = Values(whole=True)


def fits(shape: Shape, text: str) -> bool:
    if not (shape.minimum or 0) <= len(text) <= (shape.maximum or len(text)):
        return False
    return shape.pattern is None or bool(re.fullmatch(python_pattern(shape.pattern), text, re.ASCII))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_every_operation_answers_or_refuses_by_name(target: Target, data: st.DataObject) -> None:
    """The answer has the members of the model; a refusal has one of its codes and a message."""
    name = data.draw(st.sampled_from(sorted(target.service.operations)))
    operation = API.operations[name]
    try:
        answer = target.call(name, data.draw(requests(operation.input)))
    except ApiError as error:
        assert error.code in CODES and 0 < len(error.message) < 20_000
        return
    # a repeated answer carries the id of its first request, which the protocol leaves out where the model has none
    assert set(answer) - {"requestId"} <= set(operation.output.members)
    if name.startswith("Delete"):
        restore(target, next(COUNT))


@pytest.fixture
def signed(target: Target, sqlite_database: Database, clock: MovingClock, tmp_path: Path) -> Iterator[Api]:
    """The same service behind a server that verifies signatures."""
    settings = Settings(data_dir=tmp_path, account=ACCOUNT, region=REGION)
    keys = followed_keys(settings, sqlite_database).ring
    app = application(target.service, settings, keys)
    with running(app) as url:
        records = ImageRecords(sqlite_database, clock)
        yield Api(None, url, keys, sqlite_database, clock, RecordingBuilder(), records, {})
    app.close()


@settings(
    max_examples=EXAMPLES // len(API.operations) + 1,
    deadline=None,
    phases=(Phase.generate,),  # a round has hundreds of choices: making a failing one smaller takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_every_operation_is_answered_over_a_signed_connection(
    target: Target, signed: Api, data: st.DataObject
) -> None:
    """All 77 in each round, some with a member too few or one of another type: no answer is a fault of ours."""
    for name, operation in sorted(API.operations.items()):
        members = dict(data.draw(requests(operation.input)))
        if members and data.draw(st.integers(0, 3)) == 0:
            member = data.draw(st.sampled_from(sorted(members)))
            wrong = data.draw(st.none() | st.integers() | st.text(max_size=5) | st.lists(st.booleans(), max_size=2))
            if operation.input.members[member].location == "body":
                members[member] = wrong
        answer = send_signed(signed, name, members)
        assert (answer.status == 200) is (answer.error == ""), (name, members)
        if answer.error:
            assert answer.error in CODES and answer.status == API.statuses[answer.error] < 500, (name, answer)
            assert 0 < len(answer.message) < 20_000
    restore(target, next(COUNT))
