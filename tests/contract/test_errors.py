"""Every error that UpdateImagePipeline declares, reached over HTTP (update-image-pipeline.txt, Errors)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError

from imagesmith.builds.records import ImageRecords
from imagesmith.resources.service import TURN_SECONDS, Service
from imagesmith.settings import RateLimit, Role, Settings
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.wire.server import running
from testing.api import (
    ACCOUNT,
    DOCUMENT,
    REGION,
    Api,
    MakeApi,
    RecordingBuilder,
    as_key,
    client_for,
    raw_update,
    required,
    write_keys,
)
from testing.applications import application
from testing.clocks import MovingClock
from testing.keys import followed_keys
from testing.loaded import managed_content
from testing.network import free_port
from testing.pipeline_support import eventually
from testing.postgresql import OwnPostgresql
from testing.refusals import refused

SCOPE = f"{ACCOUNT}/{REGION}"
ADMIN = {"accessKeyId": "AKIAADMIN00000000000", "secretAccessKey": "a" * 40, "account": ACCOUNT}
READER = {
    "accessKeyId": "AKIAREADER0000000000", "secretAccessKey": "r" * 40, "account": ACCOUNT, "user": "reader",
    "policy": {"allow": ["imagebuilder:Get*", "imagebuilder:List*"], "deny": ["imagebuilder:getcomponent"]},
}  # fmt: skip


@contextmanager
def serving(
    database: Database, clock: MovingClock, data_dir: Path, read_source: Any = None, **changes: Any
) -> Iterator[Api]:
    """The real service on any database, with the real reader of sources unless another is given."""
    settings = Settings(data_dir=data_dir, account=ACCOUNT, region=REGION, **changes)
    keys = followed_keys(settings, database).ring
    builds = RecordingBuilder()
    service = Service(
        database,
        settings,
        clock=clock,
        managed=managed_content(settings.managed_images),
        builds=builds,
        read_source=read_source,
    )
    app = application(service, settings, keys)
    try:
        with running(app) as url:
            client = client_for(url, keys.keys[0].access_key_id, keys.keys[0].secret)
            yield Api(client, url, keys, database, clock, builds, ImageRecords(database, clock), {})
    finally:
        app.close()


class InBackground:
    """A call that runs while the test goes on; `result()` waits for its answer or raises its error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: list[Any] = []
        self._error: list[BaseException] = []
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as error:
            self._error.append(error)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(60)
        if self._error:
            raise self._error[0]
        return self._outcome[0]


# CallRateLimitExceededException


def test_calls_over_the_rate_are_told_when_to_come_back(make_api: MakeApi) -> None:
    """429 with Retry-After once the burst is used; other operations are not limited by it."""
    api = make_api(rate_limits={"UpdateImagePipeline": RateLimit(rate=0.01, burst=2)})
    arn = api.pipeline()
    members = required(api, arn)
    for _ in range(2):
        api.client.update_image_pipeline(**members)
    with refused("CallRateLimitExceededException") as refusal:
        api.client.update_image_pipeline(**members, description="too fast")
    assert refusal.status == 429
    assert "description" not in api.get_pipeline(arn)
    status, headers, _ = raw_update(api, {**members, "clientToken": "t"})
    assert (status, headers["x-amzn-ErrorType"]) == (429, "CallRateLimitExceededException")
    assert 90 <= int(headers["Retry-After"]) <= 100


# AccessDeniedException and ForbiddenException


def test_the_policy_of_a_key_decides_what_it_may_call(make_api: MakeApi, tmp_path: Path) -> None:
    """A key that may only read is denied with IAM's words, before its members are judged, and changes nothing."""
    write_keys(tmp_path / "data", ADMIN, READER)
    api = make_api()
    arn = api.pipeline()
    before = api.get_pipeline(arn)
    reader = as_key(api, READER)
    assert reader.get_pipeline(arn) == before
    with refused("AccessDeniedException") as refusal:
        reader.client.update_image_pipeline(**required(api, arn), status="PAUSED")
    assert refusal.status == 403
    assert refusal.message == (
        f"User: arn:aws:iam::{ACCOUNT}:user/reader is not authorized to perform: imagebuilder:UpdateImagePipeline "
        f"on resource: {arn}"
    )
    assert api.get_pipeline(arn) == before
    with refused("AccessDeniedException"):  # deny wins over allow, whatever the case of its letters
        reader.client.get_component(componentBuildVersionArn=api.component())
    with refused("AccessDeniedException") as refusal:
        reader.client.create_image_pipeline(name="x", infrastructureConfigurationArn="x")
    assert refusal.message.endswith(f"on resource: arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image-pipeline/x")


def test_a_role_that_the_caller_may_not_pass_is_forbidden(make_api: MakeApi, tmp_path: Path) -> None:
    """403 for the key that is not named; the same request of the other key is taken."""
    ci = {**READER, "policy": {}, "user": "ci"}
    write_keys(tmp_path / "data", ADMIN, ci)
    roles = {
        "builder": Role(registries=("*",), passed_by=(ADMIN["accessKeyId"],)),
        "team/anyone": Role(passed_by=(f"arn:aws:iam::{ACCOUNT}:user/*",)),
    }
    api = make_api(roles=roles)
    arn = api.pipeline()
    members = required(api, arn)
    other = as_key(api, ci)
    with refused("ForbiddenException") as refusal:
        other.client.update_image_pipeline(**members, executionRole="builder")
    assert refusal.status == 403
    assert f"arn:aws:iam::{ACCOUNT}:user/ci" in refusal.message and "builder" in refusal.message
    assert "executionRole" not in api.get_pipeline(arn)
    api.client.update_image_pipeline(**members, executionRole="builder")
    other.client.update_image_pipeline(**members, executionRole=f"arn:aws:iam::{ACCOUNT}:role/team/anyone")
    with refused("ForbiddenException"):
        api.client.update_image_pipeline(**members, executionRole="arn:aws:iam::999999999999:role/builder")


def test_an_unknown_role_is_a_bad_value_once_roles_are_configured(make_api: MakeApi) -> None:
    """Without configured roles any well-formed name is taken; with them only theirs."""
    api = make_api(roles={"builder": Role()})
    arn = api.pipeline()
    with refused("InvalidParameterValueException") as refusal:
        api.client.update_image_pipeline(**required(api, arn), executionRole="nobody")
    assert "'executionRole'" in refusal.message and "[roles.nobody]" in refusal.message


def test_a_run_keeps_the_role_as_it_was_configured(make_api: MakeApi) -> None:
    """What the role may use is part of the plan that the run obeys."""
    role = Role(registries=("eu-west-1",), buckets=("b",), secrets=("s",), log_groups=("/mine",))
    api = make_api(roles={"builder": role})
    arn = api.pipeline(executionRole="builder", loggingConfiguration={"imageLogGroupName": "/mine"})
    image = api.client.start_image_pipeline_execution(imagePipelineArn=arn)["imageBuildVersionArn"]
    plan = api.records.plan(image)
    assert plan is not None and plan.role is not None
    assert (plan.role.name, plan.role.registries, plan.role.buckets) == ("builder", ("eu-west-1",), ("b",))
    assert (plan.role.secrets, plan.role.log_groups, plan.log_group) == (("s",), ("/mine",), "/mine")
    assert type(plan).from_json(json.loads(json.dumps(plan.to_json()))) == plan


# ClientException, InvalidRequestException, IdempotentParameterMismatchException


def test_a_pipeline_of_the_service_itself_cannot_be_changed(api: Api) -> None:
    """An identifier that no caller can use for an update is a ClientException."""
    members = required(api, api.pipeline())
    with refused("ClientException") as refusal:
        managed = api.arn("image-pipeline", "managed", owner="aws")
        api.client.update_image_pipeline(**{**members, "imagePipelineArn": managed})
    assert refusal.status == 400 and managed in refusal.message


def test_a_source_that_cannot_be_reached_is_a_client_error(
    sqlite_database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """An S3 endpoint that nobody listens on: the call fails with its address and stores nothing."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 20)
    endpoint = {"s3_endpoint_url": f"http://127.0.0.1:{free_port()}", "s3_access_key_id": "AKIA",
                "s3_secret_key_file": str(secret)}  # fmt: skip
    with serving(sqlite_database, clock, tmp_path / "data", **endpoint) as api:
        with refused("ClientException") as refusal:
            api.client.create_component(
                name="hello", semanticVersion="1.0.0", platform="Linux", uri="s3://bucket/document.yml"
            )
        assert "s3://bucket/document.yml" in refusal.message
        assert api.rows() == 0


def test_an_update_to_the_other_kind_of_recipe_is_an_invalid_request(api: Api) -> None:
    """400, and the pipeline keeps its recipe."""
    arn = api.pipeline()
    members = required(api, arn)
    recipe = members.pop("containerRecipeArn")
    with refused("InvalidRequestException") as refusal:
        api.client.update_image_pipeline(**members, imageRecipeArn=api.image_recipe())
    assert refusal.status == 400
    assert api.get_pipeline(arn)["containerRecipeArn"] == recipe


def test_a_token_with_other_parameters_is_a_mismatch(api: Api) -> None:
    """400 that names the token; what the first call wrote stays."""
    arn = api.pipeline()
    members = required(api, arn)
    api.client.update_image_pipeline(**members, description="first", clientToken="token-1")
    with refused("IdempotentParameterMismatchException") as refusal:
        api.client.update_image_pipeline(**members, description="second", clientToken="token-1")
    assert refusal.status == 400 and "'token-1'" in refusal.message
    assert api.get_pipeline(arn)["description"] == "first"


# ResourceInUseException


def test_a_token_is_in_use_while_its_first_call_executes(
    sqlite_database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """Also while a source is read outside the unit of work; afterwards a replay reads nothing."""
    reading, go_on = threading.Event(), threading.Event()
    read: list[str] = []

    def slow(_path: str, uri: str) -> str:
        read.append(uri)
        reading.set()
        assert go_on.wait(30)
        return DOCUMENT

    members: dict[str, Any] = {
        "name": "hello", "semanticVersion": "1.0.0", "platform": "Linux", "uri": "s3://b/k", "clientToken": "t",
    }  # fmt: skip
    with serving(sqlite_database, clock, tmp_path / "data", slow) as api:
        first = InBackground(lambda: api.client.create_component(**members))
        assert reading.wait(30)
        with refused("ResourceInUseException") as refusal:
            api.client.create_component(**members)
        assert refusal.status == 400 and "'t'" in refusal.message
        go_on.set()
        made = first.result()["componentBuildVersionArn"]
        assert api.client.create_component(**members)["componentBuildVersionArn"] == made
        assert read == ["s3://b/k"]


def test_an_update_holds_its_token_while_it_waits(api: Api) -> None:
    """The same token is refused while the first update waits for its turn, which then comes."""
    arn = api.pipeline()
    members = {**required(api, arn), "description": "mine", "clientToken": "t"}
    with api.database.write(SCOPE):
        calls = [InBackground(lambda: api.client.update_image_pipeline(**members)) for _ in range(2)]
        eventually(lambda: any(call.ended for call in calls), "one of them is refused")
    codes = []
    for call in calls:
        try:
            codes.append(call.result()["clientToken"])
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    assert sorted(codes) == ["ResourceInUseException", "t"]
    assert api.get_pipeline(arn)["description"] == "mine"


def test_a_pipeline_that_is_held_too_long_is_in_use(database: Database, clock: MovingClock, tmp_path: Path) -> None:
    """After five seconds without its turn an update gives up, changes nothing and frees its token."""
    with serving(database, clock, tmp_path / "data") as api:
        arn = api.pipeline()
        before = api.get_pipeline(arn)
        members = {**required(api, arn), "description": "late", "clientToken": "t"}
        started = time.monotonic()
        with database.write(SCOPE), refused("ResourceInUseException") as refusal:
            api.client.update_image_pipeline(**members)
        assert TURN_SECONDS <= time.monotonic() - started < TURN_SECONDS + 10
        assert refusal.status == 400
        assert api.get_pipeline(arn) == before
        api.client.update_image_pipeline(**members)
        assert api.get_pipeline(arn)["description"] == "late"


# ServiceException, ServiceUnavailableException


@contextmanager
def injected_fault(database: Database, statement: str) -> Iterator[None]:
    """Within the context, a kind of statement fails, such as `UPDATE ON resources`."""
    table = statement.rpartition(" ")[2]
    make = [f"CREATE TRIGGER fault BEFORE {statement} BEGIN SELECT RAISE(ABORT, 'injected fault'); END"]
    drop = ["DROP TRIGGER fault"]
    if not database.is_sqlite:
        raising = "$$ BEGIN RAISE EXCEPTION 'injected fault'; END $$"
        make = [
            f"CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS {raising}",
            f"CREATE TRIGGER fault BEFORE {statement} EXECUTE FUNCTION fault()",
        ]
        drop = [f"DROP TRIGGER fault ON {table}", "DROP FUNCTION fault()"]
    _execute(database, make)
    try:
        yield
    finally:
        _execute(database, drop)


def _execute(database: Database, commands: Sequence[str]) -> None:
    with database.write() as tx:
        for command in commands:
            tx.execute(sa.text(command))


@pytest.mark.parametrize("statement", ["UPDATE ON resources", "INSERT ON links", "INSERT ON tokens"])
def test_a_fault_of_the_service_leaves_nothing_half_written(api: Api, statement: str) -> None:
    """A failing statement anywhere in an update: 500 without inner words, and nothing changed."""
    arn = api.pipeline(description="before")
    before = api.get_pipeline(arn)
    members = {**required(api, arn), "description": "after", "clientToken": "t"}
    members["containerRecipeArn"] = api.recipe(name="another")  # so that the links change as well
    with injected_fault(api.database, statement):
        with refused("ServiceException") as refusal:
            api.client.update_image_pipeline(**members)
        assert refusal.status == 500
        assert "injected" not in refusal.message and "request" in refusal.message
        assert api.get_pipeline(arn) == before
    answer = api.client.update_image_pipeline(**members)
    assert answer["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert api.get_pipeline(arn)["description"] == "after"


def test_without_its_database_the_service_is_unavailable_and_recovers(
    own_postgresql: OwnPostgresql, clock: MovingClock, tmp_path: Path
) -> None:
    """PostgreSQL stops under a running server: 503 without inner words; when it is back the next call succeeds."""
    database = Database(own_postgresql.url)
    upgrade(database)
    try:
        with serving(database, clock, tmp_path / "data") as api:
            arn = api.pipeline(description="before")
            members = {**required(api, arn), "description": "after", "clientToken": "t"}
            own_postgresql.stop()
            with refused("ServiceUnavailableException") as refusal:
                api.client.update_image_pipeline(**members)
            assert refusal.status == 503
            assert "127.0.0.1" not in refusal.message
            with refused("ServiceUnavailableException"):
                api.get_pipeline(arn)
            own_postgresql.start()
            assert api.get_pipeline(arn)["description"] == "before"
            api.client.update_image_pipeline(**members)
            assert api.get_pipeline(arn)["description"] == "after"
    finally:
        database.close()
