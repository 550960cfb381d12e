"""Which server and key pair a command uses, and what `imagesmith env` makes of a shell that had others."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from imagesmith.accounts.keys import KeyRing
from imagesmith.cli import context
from imagesmith.cli.context import ServerAddress, connect, data_dir_option
from imagesmith.cli.env import env
from imagesmith.wire.create import create_app
from imagesmith.wire.model import Api
from imagesmith.wire.server import running
from testing.keys import give_operator_key
from testing.wire_support import ACCOUNT, KEY, Clock, Recorder, settings_for

ELSEWHERE = {
    "AWS_ENDPOINT_URL_IMAGEBUILDER": "http://elsewhere:1", "AWS_ACCESS_KEY_ID": "OTHERKEY",
    "AWS_SECRET_ACCESS_KEY": "other", "AWS_REGION": "ap-south-1",
}  # fmt: skip


@click.command()
@data_dir_option
def told(data_dir: Path) -> None:
    client = connect(data_dir)
    credentials = client._request_signer._credentials.get_frozen_credentials()  # type: ignore[attr-defined]
    click.echo(f"{client.meta.endpoint_url} {credentials.access_key} {client.meta.region_name}")


@click.command()
@data_dir_option
def asked(data_dir: Path) -> None:
    connect(data_dir).list_images()


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a server and a key pair, which is the default one."""
    folder = tmp_path / "data"
    folder.mkdir()
    give_operator_key(folder, KEY)
    ServerAddress("http://here:2", os.getpid()).write(folder)
    monkeypatch.setattr(context, "default_data_dir", lambda: str(folder))
    for name in [*ELSEWHERE, "IMAGESMITH_DATA_DIR", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_PROFILE"]:
        monkeypatch.delenv(name, raising=False)
    return folder


def default_told(folder: Path) -> click.Command:
    command = click.Command("told", callback=told.callback, params=[*told.params])
    command.params[0].default = str(folder)
    return command


@pytest.mark.parametrize(
    ("variables", "named", "url", "own_key"),
    [
        ({}, False, "http://here:2", True),
        (ELSEWHERE, False, "http://elsewhere:1", False),
        (ELSEWHERE, True, "http://here:2", True),
        ({"AWS_ENDPOINT_URL_IMAGEBUILDER": "http://elsewhere:1"}, False, "http://elsewhere:1", True),
        ({**ELSEWHERE, "AWS_ENDPOINT_URL_IMAGEBUILDER": "", "AWS_ENDPOINT_URL": "http://all:3"}, False,
         "http://all:3", False),
        ({"AWS_ACCESS_KEY_ID": "OTHERKEY", "AWS_SECRET_ACCESS_KEY": "other"}, False, "http://here:2", True),
    ],
)  # fmt: skip
def test_the_environment_wins_over_a_default_data_directory_only(
    data_dir: Path, variables: dict[str, str], named: bool, url: str, own_key: bool
) -> None:
    """A data directory that is named wins; keys of the environment go with its endpoint, never with another."""
    options = ["--data-dir", str(data_dir)] if named else []
    answer = CliRunner().invoke(default_told(data_dir), options, env=variables, catch_exceptions=False)
    shown, key, region = answer.output.split()
    assert (shown, key == "OTHERKEY") == (url, not own_key)
    assert region == ("us-east-1" if own_key else "ap-south-1")


@pytest.mark.parametrize(("url", "own_key"), [("http://here:2", False), ("http://elsewhere:1", True)])
def test_keys_of_a_shell_go_with_its_data_directory_when_its_endpoint_does(
    data_dir: Path, url: str, own_key: bool
) -> None:
    """`imagesmith env` names both; a shell that then takes the keys of another account keeps them."""
    variables = {**ELSEWHERE, "AWS_ENDPOINT_URL_IMAGEBUILDER": url, "IMAGESMITH_DATA_DIR": str(data_dir)}
    answer = CliRunner().invoke(told, [], env=variables, catch_exceptions=False)
    shown, key, _ = answer.output.split()
    assert (shown, key != "OTHERKEY") == ("http://here:2", own_key)


def test_what_a_shell_had_is_unset(data_dir: Path) -> None:
    """A session token, its expiry, a profile: none is used with our key. Endpoints of other services are kept."""
    printed = CliRunner().invoke(env, ["--data-dir", str(data_dir)], catch_exceptions=False).output
    foreign = {"AWS_SESSION_TOKEN": "old", "AWS_PROFILE": "absent", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
               "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"}  # fmt: skip
    had = {**foreign, "AWS_ENDPOINT_URL_S3": "http://s3:9000", "AWS_ACCESS_KEY_ID": "old"}
    script = f"set -eu\n{printed}\nexec env -0"
    listed = subprocess.run(
        ["sh", "-c", script], env={"PATH": os.environ["PATH"], **had}, capture_output=True, check=True
    ).stdout
    after = dict(pair.split("=", 1) for pair in listed.decode().split("\0") if "=" in pair)
    wanted = json.loads(CliRunner().invoke(env, ["--json", "--data-dir", str(data_dir)]).output)
    assert {name: after.get(name) for name in wanted} == wanted
    assert after["IMAGESMITH_DATA_DIR"] == str(data_dir)
    assert after["AWS_ENDPOINT_URL_S3"] == "http://s3:9000"
    assert not foreign.keys() & after.keys()


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_PROFILE": "absent"}, {"AWS_DEFAULT_PROFILE": "absent"}, {"AWS_SESSION_TOKEN": "old"},
        {"AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"}, {"http_proxy": "http://127.0.0.1:9"},
    ],
    ids=lambda variables: next(iter(variables)),
)  # fmt: skip
def test_a_command_reaches_its_server_whatever_the_shell_has(data_dir: Path, variables: dict[str, str]) -> None:
    """Profiles, tokens and proxies for other places do not keep a command from the server of its data directory."""
    api = Api.load()
    recorder = Recorder(frozenset(api.operations))
    app = create_app(
        recorder,
        keys=KeyRing([KEY]),
        settings=settings_for(data_dir),
        clock=Clock(),
        ids=lambda: str(uuid.uuid4()),
        api=api,
    )
    with running(app) as url:
        ServerAddress(url, os.getpid()).write(data_dir)
        CliRunner().invoke(asked, ["--data-dir", str(data_dir)], env=variables, catch_exceptions=False)
    assert recorder.operation == "ListImages"
    assert recorder.caller is not None and recorder.caller.account == ACCOUNT


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"IMAGESMITH_HOST": "::1"}, "http://[::1]:8474"),
        ({"IMAGESMITH_HOST": "127.0.0.1", "IMAGESMITH_PORT": "80"}, "http://127.0.0.1:80"),
    ],
)
def test_a_server_that_does_not_run_is_at_the_address_of_the_settings(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str
) -> None:
    """An address of IPv6 stands in brackets."""
    ServerAddress.path(data_dir).unlink(missing_ok=True)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    printed = json.loads(CliRunner().invoke(env, ["--json", "--data-dir", str(data_dir)]).output)
    assert printed["AWS_ENDPOINT_URL_IMAGEBUILDER"] == url
