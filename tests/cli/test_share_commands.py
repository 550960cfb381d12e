"""`imagesmith share`: which resources are shared, and with whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imagesmith.cli.context import CommandFailed, settings_of
from imagesmith.cli.share import share
from imagesmith.store import queries
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.store.policies import StoredPolicy, put_policy
from imagesmith.store.records import Record

OTHER = "444455556666"
Call = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with three components: shared, shared no more, private."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    settings = settings_of(data)
    database = Database(settings.store_url)
    upgrade(database)
    with database.write() as tx:
        for name in ("shared", "ended", "private"):
            queries.insert(
                tx,
                Record(
                    arn=arn(data, name), account=settings.account, region=settings.region, kind="component",
                    slug=name, name=name, created=datetime(2026, 1, 1, tzinfo=UTC), document={}, build=1,
                ),
            )  # fmt: skip
        for name, statements in (("shared", [grant(arn(data, "shared"))]), ("ended", [])):
            text = json.dumps({"Version": "2012-10-17", "Statement": statements})
            put_policy(tx, StoredPolicy(arn(data, name), text))
    database.close()
    return data


def arn(data: Path, name: str) -> str:
    settings = settings_of(data)
    return f"arn:aws:imagebuilder:{settings.region}:{settings.account}:component/{name}/0.0.0/1"


def grant(resource: str) -> dict[str, object]:
    return {
        "Effect": "Allow", "Principal": {"AWS": [OTHER, f"arn:aws:iam::{OTHER}:root"]}, "Resource": resource,
        "Action": "imagebuilder:GetComponent",
    }  # fmt: skip


@pytest.fixture
def call(folder: Path) -> Call:
    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(share, [*arguments, "--data-dir", str(folder)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_shared_resources_are_listed_with_their_principals(call: Call, folder: Path) -> None:
    """What has no statement is not shared; each principal is named once."""
    shared = arn(folder, "shared")
    assert json.loads(call("list", "--json").output) == [{"arn": shared, "principals": [OTHER], "promoted": False}]
    assert call("promote", shared).output == f"lists with owner Shared show {shared}\n"
    [found] = json.loads(call("list", "--json").output)
    assert found["promoted"] is True
    assert "yes" in call("list").output


@pytest.mark.parametrize("name", ["ended", "private", "unknown"])
def test_what_is_not_shared_cannot_be_promoted(call: Call, folder: Path, name: str) -> None:
    """The command fails with the ARN and what to do first."""
    with pytest.raises(CommandFailed) as failure:
        call("promote", arn(folder, name))
    assert arn(folder, name) in str(failure.value) and "share list" in str(failure.value.hint)
