"""Errors that do not depend on what a request asks for, walked over every operation that may answer with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from botocore import xform_name
from botocore.exceptions import ClientError

from imagesmith.resources.operations import built_operations
from imagesmith.settings import Role
from imagesmith.store import client_tokens
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.store.tables import metadata
from testing.api import ACCOUNT, REGION, Api, MakeApi
from testing.client_calls import calls, resolved
from testing.loaded import service_model
from testing.network import free_port
from testing.postgresql import OwnPostgresql

MODEL = service_model()
OPERATIONS = tuple(built_operations())
TOKEN = tuple(name for name in OPERATIONS if "clientToken" in MODEL.operations[name].input.members)
ROLE = tuple(
    name
    for name in OPERATIONS
    if "executionRole" in MODEL.operations[name].input.members and name != "ImportVmImage"
)
SOURCES: Mapping[str, tuple[str, str]] = {
    "CreateComponent": ("data", "uri"), "CreateWorkflow": ("data", "uri"), "ImportComponent": ("data", "uri"),
    "CreateContainerRecipe": ("dockerfileTemplateData", "dockerfileTemplateUri"),
}  # fmt: skip
MARKETPLACE = "GetMarketplaceResource"
"""Refused before anything is read or written."""
_OWN = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}"
_IMAGE, _ID = f"{_OWN}:image/none/1.0.0/1", "11111111-2222-4333-8444-555555555555"
KNOWN = {
    "none": _OWN, "ami": "ami-0123456789abcdef0", "component": f"{_OWN}:component/none/1.0.0/1",
    "imported": f"{_OWN}:component/none/1.0.0/1",
    "containerRecipe": f"{_OWN}:container-recipe/none/1.0.0", "imageRecipe": f"{_OWN}:image-recipe/none/1.0.0",
    "infrastructure": f"{_OWN}:infrastructure-configuration/none", "pipeline": f"{_OWN}:image-pipeline/none",
    "distribution": f"{_OWN}:distribution-configuration/none", "workflow": f"{_OWN}:workflow/test/none/1.0.0/1",
    "policy": f"{_OWN}:lifecycle-policy/none", "cleaned": f"{_OWN}:lifecycle-policy/none",
    "cleaning": f"lce-{_ID}", "update": f"lce-{_ID}", "run": f"wf-{_ID}", "execution": f"wf-{_ID}",
    "step": f"step-{_ID}",
    **dict.fromkeys(("available", "disk", "distributed", "failed", "image", "running"), _IMAGE),
}  # fmt: skip
"""What calls refer to; none of it exists."""


def members(operation: str, **more: Any) -> dict[str, Any]:
    """Members that are as they should be; what they name does not exist."""
    found = [item for item in calls() if item.operation == operation]
    item = next((item for item in found if not item.code), found[0])
    return {**resolved(item.members, KNOWN), **more}


def answered(api: Api, operation: str, asked: Mapping[str, Any]) -> tuple[str, str]:
    """The code and the message of the answer; both empty after a success."""
    try:
        getattr(api.client, xform_name(operation))(**asked)
    except ClientError as error:
        return str(error.response["Error"]["Code"]), str(error.response["Error"]["Message"])
    return "", ""


def codes(api: Api, asked: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {operation: answered(api, operation, found)[0] for operation, found in asked.items()}


def test_a_token_of_another_request_is_a_mismatch(api: Api) -> None:
    """Every operation with a token, before what the request names is looked up."""
    with api.database.write("test") as tx:
        for operation in TOKEN:
            client_tokens.remember_token(
                tx, ACCOUNT, REGION, operation, "taken", fingerprint="of another request", response={},
                now=api.clock(),
            )  # fmt: skip
    found = codes(api, {operation: members(operation, clientToken="taken") for operation in TOKEN})
    assert set(found.values()) == {"IdempotentParameterMismatchException"}, found
    assert len(found) == 23


def test_what_another_change_holds_is_in_use(make_api: MakeApi) -> None:
    """Every change of an account and Region in which another change takes longer than a caller waits."""
    api = make_api(turn_seconds=0.01)
    changes = [name for name, built in built_operations().items() if built.writes]
    with api.database.write(f"{ACCOUNT}/{REGION}"):
        found = codes(api, {operation: members(operation) for operation in changes})
    assert set(found.values()) == {"ResourceInUseException"}, found


@pytest.mark.parametrize("operation", ROLE)
def test_a_role_that_the_caller_may_not_pass_is_forbidden(make_api: MakeApi, operation: str) -> None:
    """Every operation that names one and checks it; nothing else is looked up first."""
    api = make_api(roles={"builder": Role(passed_by=("AKIASOMEBODYELSE0000",))})
    role = f"arn:aws:iam::{ACCOUNT}:role/builder"
    assert answered(api, operation, members(operation, executionRole=role))[0] == "ForbiddenException"


def test_a_source_that_cannot_be_reached_is_a_client_error(make_api: MakeApi, tmp_path: Path) -> None:
    """Every operation that reads one; the address of the object is named."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 20)
    api = make_api(
        reads_s3=True, s3_endpoint_url=f"http://127.0.0.1:{free_port()}", s3_access_key_id="AKIA",
        s3_secret_key_file=str(secret),
    )  # fmt: skip
    for operation, (text, uri) in SOURCES.items():
        asked = members(operation, **{uri: "s3://bucket/key"})
        asked.pop(text, None)
        code, message = answered(api, operation, asked)
        assert code == "ClientException" and "s3://bucket/key" in message, (operation, code, message)


def test_a_fault_of_the_service_is_told_without_inner_words(make_api: MakeApi, sqlite_database: Database) -> None:
    """Every operation on a database whose tables are gone: 500, and the id of the request for the log."""
    api = make_api(database=sqlite_database)
    with sqlite_database.write("test") as tx:
        for table in metadata.sorted_tables:
            tx.execute(sa.text(f"ALTER TABLE {table.name} RENAME TO gone_{table.name}"))
    for operation in OPERATIONS:
        if operation != MARKETPLACE:
            code, message = answered(api, operation, members(operation))
            assert code == "ServiceException", (operation, code, message)
            assert "table" not in message and "internal error" in message


def test_without_its_database_every_operation_is_unavailable(
    make_api: MakeApi, own_postgresql: OwnPostgresql
) -> None:
    """PostgreSQL stops under a running server: 503, without its address."""
    database = Database(own_postgresql.url)
    upgrade(database)
    api = make_api(database=database)
    own_postgresql.stop()
    try:
        for operation in OPERATIONS:
            if operation != MARKETPLACE:
                code, message = answered(api, operation, members(operation))
                assert code == "ServiceUnavailableException", (operation, code, message)
                assert "127.0.0.1" not in message
    finally:
        database.close()
