"""Log groups: a second name of a log, and the bucket it may go to."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.build_logs.log_groups import group_folder, pipeline_group
from imagesmith.build_logs.log_shipping import LogShipper, NotShipped
from imagesmith.build_logs.logs import BuildLog
from imagesmith.build_logs.pipeline_log import append_lines, pipeline_log_path
from imagesmith.components.services import S3Config
from imagesmith.settings import Role, Settings, SettingsError
from imagesmith.settings_loader import load_settings
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn
from testing.network import free_port
from testing.object_store import object_store

ARN = "arn:aws:imagebuilder:eu-west-1:123456789012:image-pipeline/web"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GROUPS = st.text("abAB01-_/.", min_size=1, max_size=512)


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, Any]]:
    """The endpoint of an S3 server with the bucket `logs`, and a client of it."""
    with object_store("logs") as client:
        yield client.meta.endpoint_url, client


def record(**members: Any) -> Record:
    return Record(
        arn=ARN, account="123456789012", region="eu-west-1", kind="image-pipeline", slug="web", name="web",
        created=NOW, document={"name": "web", **members},
    )  # fmt: skip


def day_in(folder: Path, group: str) -> Path:
    return group_folder(folder, Arn.parse(ARN), group) / "2026-11-23.web.log"


@given(group=GROUPS)
def test_no_name_of_a_group_leads_out_of_the_tree(group: str) -> None:
    """Whatever the model accepts, its folder is below that of the account and region, and can be made."""
    root = Path("/data/log-groups/123456789012/eu-west-1")
    folder = group_folder(Path("/data"), Arn.parse(ARN), group)
    assert folder.resolve().is_relative_to(root) and folder == folder.resolve()
    assert all(len(part) <= 255 for part in folder.parts)


def test_a_pipeline_has_its_own_group_or_the_one_it_names() -> None:
    """The default carries the name as it was given, not the slug."""
    assert pipeline_group({"name": "My Web"}) == "/aws/imagebuilder/pipeline/My Web"
    assert pipeline_group({"name": "w", "loggingConfiguration": {"pipelineLogGroupName": "/mine"}}) == "/mine"


def test_the_log_of_a_pipeline_is_in_its_group(tmp_path: Path) -> None:
    """The day's file has a second name, which shows what is written later as well."""
    settings = Settings(data_dir=tmp_path)
    pipeline = record(loggingConfiguration={"pipelineLogGroupName": "/mine/nightly"}, executionRole="builder")
    for text in ("one", "two"):
        append_lines(settings, pipeline, ("tick", text), now=NOW)
    log = pipeline_log_path(tmp_path / "logs", ARN, NOW)
    assert day_in(tmp_path, "/mine/nightly").samefile(log)
    assert [line.split(" | ")[1] for line in log.read_text().splitlines()] == ["one", "two"]


@pytest.mark.parametrize(
    ("role", "there"), [("builder", True), ("arn:aws:iam::123456789012:role/builder", True), ("other", False)]
)
def test_a_group_needs_a_role_that_may_write_to_it(tmp_path: Path, role: str, there: bool) -> None:
    """The log itself is written in any case."""
    roles = {"builder": Role(log_groups=("/mine/*",)), "other": Role(log_groups=("/yours",))}
    pipeline = record(loggingConfiguration={"pipelineLogGroupName": "/mine/a"}, executionRole=role)
    append_lines(Settings(data_dir=tmp_path, roles=roles), pipeline, ("tick", "one"), now=NOW)
    assert day_in(tmp_path, "/mine/a").exists() is there
    assert pipeline_log_path(tmp_path / "logs", ARN, NOW).exists()


def test_a_group_that_cannot_be_made_costs_no_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server's own log says so."""
    (tmp_path / "log-groups").write_text("in the way")
    append_lines(Settings(data_dir=tmp_path), record(), ("tick", "one"), now=NOW)
    assert pipeline_log_path(tmp_path / "logs", ARN, NOW).read_text().endswith(" tick | one\n")
    assert "not into its group" in caplog.text


def shipper(folder: Path, endpoint: str, target: str = "s3://logs/here") -> LogShipper:
    return LogShipper(folder, target, S3Config(endpoint, "us-east-1", "a", "b").client, time.time)


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / "log-groups" / name
    log = BuildLog(path, lambda: NOW)
    for line in lines:
        log.line("build", line)
    log.close()
    return path


def body(client: Any, key: str) -> str:
    return str(client.get_object(Bucket="logs", Key=key)["Body"].read().decode())


def test_what_changed_is_put_and_nothing_else(tmp_path: Path, bucket: tuple[str, Any]) -> None:
    """A log that grows is put again; another process knows what is there; a log that rests loses its name."""
    endpoint, client = bucket
    one = write(tmp_path, "a/one.log", "first")
    write(tmp_path, "a/two.log", "first")
    ship = shipper(tmp_path, endpoint)
    assert [ship.ship(), ship.ship()] == [2, 0]
    write(tmp_path, "a/one.log", "second")
    assert ship.ship() == 1
    assert body(client, "here/a/one.log") == one.read_text()
    assert client.head_object(Bucket="logs", Key="here/a/one.log")["ContentType"] == "text/plain; charset=utf-8"
    assert shipper(tmp_path, endpoint).ship() == 0
    os.utime(one, (0, 0))
    assert [ship.ship(), ship.ship()] == [1, 0]
    assert [path.name for path in (tmp_path / "log-groups/a").iterdir()] == ["two.log"]


def test_a_closing_shipper_puts_what_is_left(tmp_path: Path, bucket: tuple[str, Any]) -> None:
    """Lines that came just before the end of the server are in the bucket after it."""
    endpoint, client = bucket
    ship = shipper(tmp_path, endpoint, "s3://logs")
    ship.start()
    path = write(tmp_path, "late/x.log", "last words")
    ship.close()
    assert body(client, "late/x.log") == path.read_text()


def test_a_bucket_that_cannot_be_reached_is_told_and_forgets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; the log stays in the tree for the next process."""
    path = write(tmp_path, "a/x.log", "kept")
    with caplog.at_level(logging.WARNING):
        ship = shipper(tmp_path, f"http://127.0.0.1:{free_port()}", "s3://nowhere")
        ship.start()
        ship.close()
    assert path.exists()
    assert "logs cannot be written to s3://nowhere/" in caplog.text


class Refusing:
    """A client of a real bucket that refuses some keys, as a policy on a prefix does."""

    def __init__(self, client: Any, *keys: str) -> None:
        self.client, self.keys = client, keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def upload_file(self, path: str, bucket: str, key: str, **more: Any) -> None:
        if key in self.keys:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")
        self.client.upload_file(path, bucket, key, **more)


def test_a_log_that_is_refused_stops_no_other(
    tmp_path: Path, bucket: tuple[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each is put on its own; the warning counts those that are left, which are tried again."""
    _, client = bucket
    paths = {name: write(tmp_path, f"each/{name}.log", name) for name in "abcd"}
    refusing = Refusing(client, "each/a.log", "each/c.log")
    ship = LogShipper(tmp_path, "s3://logs", lambda: refusing, time.time)
    for _ in range(2):
        with pytest.raises(NotShipped, match=r"2 of them, each/a\.log first: .*AccessDenied"):
            ship.ship()
        assert [body(client, f"each/{name}.log") for name in "bd"] == [paths[name].read_text() for name in "bd"]
    refusing.keys = ("each/c.log",)
    with caplog.at_level(logging.WARNING):
        ship.start()
        ship.close()
    assert body(client, "each/a.log") == paths["a"].read_text()
    assert "1 of them, each/c.log: " in caplog.text


@pytest.mark.parametrize("text", ["/var/log", "s3://", "s3:///x", "https://bucket"])
def test_the_setting_must_be_a_bucket(tmp_path: Path, text: str) -> None:
    """The error names the key, what it is, and what was expected."""
    with pytest.raises(SettingsError, match=r"log_groups is .*expected s3://BUCKET"):
        load_settings(tmp_path, file=None, environment={}, overrides={"log_groups": text})
