"""Accounts and keys of running servers, their policies, and the audit log, asked by boto3 and raw HTTP."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imagesmith.accounts.audit_outbox import AuditOutbox
from imagesmith.accounts.audit_reader import AuditQuery, audit_lines
from imagesmith.accounts.key_follower import KeyFollower
from imagesmith.accounts.key_store import CreatedKey
from imagesmith.accounts.secret_box import FILE_NAME
from imagesmith.resources.service import Service
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.wire.server import running
from testing.api import ACCOUNT, DOCUMENT, REGION, RecordingBuilder, client_for
from testing.applications import application
from testing.clocks import MovingClock
from testing.keys import followed_keys
from testing.loaded import managed_content
from testing.pipeline_support import eventually
from testing.refusals import Refused
from testing.small_disk import fill, small_disk_at

OTHER = "444455556666"
OWN = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}"
MANAGED = f"arn:aws:imagebuilder:{REGION}:aws"


@dataclass
class Served:
    """A server with its keys and its audit log."""

    url: str
    keys: KeyFollower
    data_dir: Path

    def client(self, made: CreatedKey | None = None) -> Any:
        """A client with a new key, or with the first one."""
        if made is not None:
            return client_for(self.url, made.key.id, made.secret)
        key = self.keys.ring.keys[0]
        return client_for(self.url, key.access_key_id, key.secret)

    def audit(self, **query: Any) -> list[Mapping[str, Any]]:
        return list(audit_lines(self.data_dir, AuditQuery(**query)))


@pytest.fixture
def stack(database: Database) -> Iterator[ExitStack]:
    """Servers end before their database is closed."""
    with ExitStack() as entered:
        yield entered


def serve(stack: ExitStack, database: Database, clock: MovingClock, data_dir: Path) -> Served:
    settings = Settings(data_dir=data_dir, account=ACCOUNT, region=REGION)
    keys = followed_keys(settings, database)
    keys.start()
    stack.callback(keys.close)
    service = Service(database, settings, clock=clock, managed=managed_content({}), builds=RecordingBuilder())
    audit = AuditOutbox(data_dir, database, lambda: datetime.now(UTC))
    app = application(service, settings, keys.ring, audit=audit)
    stack.callback(app.close)
    return Served(stack.enter_context(running(app)), keys, data_dir)


@pytest.fixture
def server(stack: ExitStack, database: Database, clock: MovingClock, tmp_path: Path) -> Served:
    return serve(stack, database, clock, tmp_path / "data")


def component(client: Any, name: str, **members: Any) -> str:
    made = client.create_component(name=name, semanticVersion="1.0.0", platform="Linux", data=DOCUMENT, **members)
    return str(made["componentBuildVersionArn"])


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions: str, on: str | list[str] = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": [f"imagebuilder:{action}" for action in actions], "Resource": on}


def deny(*actions: str, on: str | list[str] = "*") -> dict[str, Any]:
    return {**allow(*actions, on=on), "Effect": "Deny"}


def refusal(operation: str, resource: str, user: str = "user/ci") -> str:
    """The text of docs/spec/api.md 2.3."""
    principal = f"arn:aws:iam::{ACCOUNT}:{user}"
    return f"User: {principal} is not authorized to perform: imagebuilder:{operation} on resource: {resource}"


def test_keys_change_under_two_running_servers(
    stack: ExitStack, database: Database, clock: MovingClock, tmp_path: Path, server: Served
) -> None:
    """A new key works on both, a rotated one beside its replacement, a revoked one on neither."""
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / FILE_NAME).write_bytes((server.data_dir / FILE_NAME).read_bytes())
    (tmp_path / "second" / FILE_NAME).chmod(0o600)
    second = serve(stack, database, clock, tmp_path / "second")
    server.keys.store.create_account(OTHER, "web")
    made = server.keys.store.create(OTHER)

    def works(server: Served, key: CreatedKey) -> bool:
        try:
            server.client(key).list_image_pipelines()
        except server.client(key).exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "UnrecognizedClientException"
            return False
        return True

    def refuses(server: Served, key: CreatedKey) -> bool:
        return not works(server, key)

    for one in (server, second):
        eventually(partial(works, one, made), "the new key works")
    new = second.keys.store.rotate(made.key.id, grace=timedelta(hours=1))
    for one in (server, second):
        eventually(partial(works, one, new), "the replacement works")
        assert works(one, made)
    server.keys.store.revoke(made.key.id, force=False)
    for one in (server, second):
        eventually(partial(refuses, one, made), "the revoked key is refused")
        assert works(one, new)


def test_a_key_that_is_revoked_while_a_body_arrives_is_refused(server: Served) -> None:
    """The head was authentic; the request is judged again before it does anything."""
    made = server.keys.store.create(ACCOUNT)
    server.keys.refresh()
    body = json.dumps({"name": "late", "instanceProfileName": "profile", "clientToken": str(uuid.uuid4())}).encode()
    target = "/CreateInfrastructureConfiguration"
    request = AWSRequest("PUT", server.url + target, data=body)
    SigV4Auth(Credentials(made.key.id, made.secret), "imagebuilder", REGION).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.putrequest("PUT", target, skip_host=True)
    for name, value in {
        "Host": urlsplit(server.url).netloc,
        **request.headers,
        "Content-Length": str(len(body)),
    }.items():
        connection.putheader(name, value)
    connection.endheaders(body[:20])
    server.keys.store.revoke(made.key.id, force=False)
    server.keys.refresh()
    connection.send(body[20:])
    answer = connection.getresponse()
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "UnrecognizedClientException")
    connection.close()
    assert server.client().list_infrastructure_configurations()["infrastructureConfigurationSummaryList"] == []


def test_policies_judge_the_resource_of_a_request(server: Served) -> None:
    """By its ARN, with the explicit denial first; the text names user, operation and resource."""
    admin = server.client()
    web, secret = component(admin, "web-one"), component(admin, "secret")
    policy = document(
        allow("*", on=f"{OWN}:component/web-*"), allow("List*"), deny("Delete*"), deny("TagResource", on=web)
    )
    ci = server.client(server.keys.store.create(ACCOUNT, user="ci", policy=policy))
    eventually(lambda: _answers(ci), "the key is known")
    assert ci.get_component(componentBuildVersionArn=web)["component"]["arn"] == web
    made = component(ci, "web-two")
    for operation, resource, call in (
        ("GetComponent", secret, lambda: ci.get_component(componentBuildVersionArn=secret)),
        ("DeleteComponent", web, lambda: ci.delete_component(componentBuildVersionArn=web)),
        ("DeleteComponent", made, lambda: ci.delete_component(componentBuildVersionArn=made)),
        ("TagResource", web, lambda: ci.tag_resource(resourceArn=web, tags={"a": "b"})),
        ("CreateComponent", f"{OWN}:component/other/1.0.0", lambda: component(ci, "other")),
        ("GetImagePipeline", f"{OWN}:image-pipeline/x",
         lambda: ci.get_image_pipeline(imagePipelineArn=f"{OWN}:image-pipeline/x")),
    ):  # fmt: skip
        with Refused("AccessDeniedException") as refused:
            call()
        assert (refused.status, refused.message) == (403, refusal(operation, resource))


def _answers(client: Any) -> bool:
    try:
        client.list_components()
    except client.exceptions.ClientError:
        return False
    return True


def test_what_a_request_only_names_is_judged_as_well(server: Served) -> None:
    """A key that may not read a component cannot take it into a recipe of its own, and so read it."""
    admin = server.client()
    web, secret = component(admin, "web-one"), component(admin, "secret")
    policy = document(
        allow("*", on=[f"{OWN}:component/web-*", f"{OWN}:image-recipe/*", f"{MANAGED}:*"]), allow("List*")
    )
    ci = server.client(server.keys.store.create(ACCOUNT, user="ci", policy=policy))
    eventually(lambda: _answers(ci), "the key is known")

    def recipe(arn: str) -> Any:
        return ci.create_image_recipe(
            name="box", semanticVersion="1.0.0", parentImage=f"{MANAGED}:image/debian-12-x86/x.x.x",
            components=[{"componentArn": arn}],
        )  # fmt: skip

    with Refused("AccessDeniedException") as refused:
        recipe(secret)
    assert refused.message == refusal("GetComponent", secret)
    assert recipe(web)["imageRecipeArn"] == f"{OWN}:image-recipe/box/1.0.0"


def test_a_policy_takes_effect_on_keys_in_use(server: Served) -> None:
    """Restricted and released again without a new key; conditions look at the address of the request."""
    made = server.keys.store.create(ACCOUNT, user="ci")
    ci = server.client(made)
    eventually(lambda: _answers(ci), "the key is known")
    elsewhere = {**deny("*"), "Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}
    server.keys.store.set_policy(made.key.id, document(allow("*"), elsewhere), force=False)
    eventually(lambda: not _answers(ci), "the policy holds")
    with Refused("AccessDeniedException") as refused:
        ci.list_components()
    assert refused.message == refusal("ListComponents", f"{OWN}:*")
    server.keys.store.set_policy(made.key.id, "", force=False)
    eventually(lambda: _answers(ci), "the policy is gone")


def test_the_audit_log_has_every_change_and_its_result(server: Served) -> None:
    """Made, refused by a check, denied by a policy; with who, from where and the request id, but no secret."""
    admin = server.client()
    ci = server.client(server.keys.store.create(ACCOUNT, user="ci", policy=document(allow("List*"))))
    eventually(lambda: _answers(ci), "the key is known")
    answer = admin.create_infrastructure_configuration(name="infra", instanceProfileName="profile-of-hunter2")
    arn = answer["infrastructureConfigurationArn"]
    made = component(admin, "web", description="hunter2")
    admin.get_component(componentBuildVersionArn=made)
    with Refused("ResourceNotFoundException"):
        admin.delete_image_pipeline(imagePipelineArn=f"{OWN}:image-pipeline/absent")
    with Refused("AccessDeniedException"):
        ci.delete_component(componentBuildVersionArn=made)
    with Refused("InvalidParameterException"):
        admin.tag_resource(resourceArn="nonsense", tags={"hunter2": "hunter2"})
    found = server.audit()
    assert [(line["operation"], line["resource"], line["result"]) for line in found] == [
        ("CreateInfrastructureConfiguration", arn, "OK"),
        ("CreateComponent", made, "OK"),
        ("DeleteImagePipeline", f"{OWN}:image-pipeline/absent", "ResourceNotFoundException"),
        ("DeleteComponent", made, "AccessDeniedException"),
        ("TagResource", f"{OWN}:*", "InvalidParameterException"),
    ]
    assert found[0]["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert {line["source"] for line in found} == {"127.0.0.1"}
    assert [line["principal"].partition("::")[2] for line in found][2:4] == [
        f"{ACCOUNT}:root",
        f"{ACCOUNT}:user/ci",
    ]
    assert found[0]["agent"].startswith("Boto3/")
    text = json.dumps(found)
    assert "hunter2" not in text and server.keys.ring.keys[0].secret not in text
    assert server.audit(operation="Delete*", result="AccessDeniedException") == [found[3]]


def test_what_no_known_key_signed_is_not_recorded(server: Served) -> None:
    """Strangers cannot fill the disk: an unknown key, a wrong secret."""
    key = server.keys.ring.keys[0]
    for key_id, secret in (("AKIANOBODYKNOWSME000", "x" * 40), (key.access_key_id, "x" * 40)):
        client = client_for(server.url, key_id, secret)
        with pytest.raises(client.exceptions.ClientError):
            client.create_infrastructure_configuration(name="infra", instanceProfileName="profile")
    assert server.audit() == []


@pytest.mark.tool
def test_no_change_is_made_that_cannot_be_recorded(
    stack: ExitStack, database: Database, clock: MovingClock, tmp_path: Path
) -> None:
    """On a full disk changes answer 503 and name the audit log; reads go on, and changes too once there is room."""
    place = stack.enter_context(small_disk_at(tmp_path / "small", megabytes=4))
    served = serve(stack, database, clock, place / "data")
    client = served.client()
    ballast = fill(place)
    with Refused("ServiceUnavailableException") as refused:
        client.create_infrastructure_configuration(name="infra", instanceProfileName="profile")
    assert "audit log" in refused.message
    assert client.list_infrastructure_configurations()["infrastructureConfigurationSummaryList"] == []
    ballast.unlink()
    client.create_infrastructure_configuration(name="infra", instanceProfileName="profile")
    assert [line["result"] for line in served.audit()] == ["OK"]
