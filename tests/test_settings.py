"""Settings from file, environment and command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from imagesmith import settings_sections as sections
from imagesmith.settings import (
    Registry,
    Settings,
    SettingsError,
)
from imagesmith.settings_loader import environment_names, load_settings, misspelt_variables
from imagesmith.settings_page import page
from imagesmith.values.declared import Keys, Range, Text, plain_type, rule_of


def load(tmp_path: Path, text: str = "", **environment: str) -> Settings:
    (tmp_path / "settings.toml").write_text(text)
    return load_settings(tmp_path, file=None, environment=environment, overrides={})


def test_nothing_given_gives_the_defaults(tmp_path: Path) -> None:
    """A data directory is all that is needed."""
    settings = load_settings(tmp_path, file=None, environment={}, overrides={"port": None})
    assert settings == Settings(data_dir=tmp_path)
    assert settings.store_url == f"sqlite:///{tmp_path}/imagesmith.sqlite"


def test_the_command_line_wins_over_environment_and_file(tmp_path: Path) -> None:
    """Precedence, and numbers from the environment."""
    (tmp_path / "settings.toml").write_text('region = "a"\nport = 1\nhost = "h"\n')
    settings = load_settings(
        tmp_path, file=None, environment={"IMAGESMITH_REGION": "b", "IMAGESMITH_PORT": "2"}, overrides={"port": 3}
    )
    assert (settings.host, settings.region, settings.port) == ("h", "b", 3)


def test_a_registry_of_account_and_region_wins_over_that_of_the_region(tmp_path: Path) -> None:
    """The more specific entry is used."""
    settings = load(
        tmp_path,
        '[registries."r"]\nurl = "one:5000"\n[registries."123456789012/r"]\nurl = "two"\ninsecure = true\n',
    )
    assert settings.registry_for("999999999999", "r") == Registry("one:5000")
    assert settings.registry_for("123456789012", "r") == Registry("two", insecure=True)
    assert settings.registry_for("123456789012", "other") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("colour = 1", "unknown key 'colour'"),
        ("port = 'x'", "expected int"),
        ("port = true", "expected int"),
        ("[builds]\nconcurrency = 'many'", "builds: concurrency is 'many', expected int"),
        ("builds = 1", "builds must be a table"),
        ("registries = 1", "registries must be a table"),
        ("local_image_folders = 'x'", "must be a list of strings"),
        ("account = '12'", "expected 12 digits"),
        ("auth = 'maybe'", "expected 'static' or 'none'"),
        ("[schedules]\noverlap = 'wait'", "schedules.overlap is 'wait', expected 'allow' or 'skip'"),
        ("[schedules]\nmisfire_grace_seconds = -1", "expected 0 or more seconds"),
        ("port = ", "settings.toml"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """File, key and what was expected are in the message."""
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    assert expected in str(error.value)


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    """The environment's mistakes too."""
    with pytest.raises(SettingsError, match="IMAGESMITH_PORT is 'x'"):
        load(tmp_path, IMAGESMITH_PORT="x")


NEEDED: dict[str, dict[str, Any]] = {
    "registries": {"url": "host:5000"},
    "rate_limits": {"rate": 1},
    "instance_types": {"cpus": 1, "memory_mb": 512},
    "machine_hosts": {"address": "h", "key_file": "/k", "host_key": "ssh-ed25519 AAAA"},
    "roles": {},
    "hooks": {"url": "http://h"},
}
KEY = {"rate_limits": "*", "instance_types": "t3.large"}


def members() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every member of every table: its keys, and its hint with what was declared."""
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        kind = plain_type(hint)
        if name == "data_dir":
            continue
        if isinstance(rule_of(hint), Keys):
            for member, of_member in get_type_hints(get_args(kind)[1], include_extras=True).items():
                yield (name, KEY.get(name, "eu-west-1"), member), of_member
        elif kind.__module__ == sections.__name__:
            for member, of_member in get_type_hints(kind, include_extras=True).items():
                yield (name, member), of_member
        else:
            yield (name,), hint


def without_meaning(hint: Any) -> list[Any]:
    """Values of the right type that a member must not have."""
    kind, rule = plain_type(hint), rule_of(hint)
    if get_origin(kind) is Literal:
        return ["", "neither"]
    if isinstance(rule, Range):
        below = rule.low if rule.above else rule.low - 1
        values: list[Any] = [below, rule.high + 1, -1, -(10**12), 10**30]
        return [float(value) for value in values] if kind is float else values
    assert isinstance(rule, Text), hint
    values = ["a\x00b", "a\nb", "a\x85b", " ", "a ", "a\u202eb", *([] if rule.optional else [""])]
    return [[value] for value in values] if get_origin(kind) is tuple else values


def toml(keys: tuple[str, ...], value: Any) -> str:
    *tables, name = keys
    if not tables:
        return f"{name} = {json.dumps(value)}\n"
    rest = {**NEEDED.get(tables[0], {}), name: value}
    lines = "".join(f"{key} = {json.dumps(item)}\n" for key, item in rest.items())
    return f"[{'.'.join(json.dumps(part) for part in tables)}]\n{lines}"


def test_every_member_declares_what_it_may_be() -> None:
    """A number has a range, a text a pattern; nothing is left to a check that somebody may forget."""
    for keys, hint in members():
        kind = plain_type(hint)
        if kind is bool or get_origin(kind) is Literal:
            continue
        assert isinstance(rule_of(hint), Range if kind in (int, float) else Text), keys


@pytest.mark.parametrize(
    ("keys", "value"),
    [pytest.param(keys, value, id=f"{'.'.join(keys)}={value!r:.20}") for keys, hint in members()
     if plain_type(hint) is not bool for value in without_meaning(hint)],
)  # fmt: skip
def test_a_value_without_meaning_is_refused(tmp_path: Path, keys: tuple[str, ...], value: Any) -> None:
    """For every member of every table: the error names the key, the value and what was expected."""
    with pytest.raises(SettingsError) as error:
        load(tmp_path, toml(keys, value))
    shown = value[0] if isinstance(value, list) else value
    told = str(error.value).replace(" ", "")
    assert f"{'.'.join(keys)}is{shown!r}".replace(" ", "")[:60] in told and "expected" in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[builds]\nconcurrency = 0", "builds.concurrency is 0, expected 1 or more builds, up to 1024"),
        ("port = 70000", "port is 70000, expected 0 or more, up to 65535"),
        ("[registries.eu-west-1]\nurl = 'https://h'", "without a scheme"),
        ("[registries.eu-west-1]\nurl = 'h:70000'", "HOST:PORT"),
        ("[registries.'Ireland 1']\nurl = 'h'", "registries has the key 'Ireland 1', expected a Region"),
        ("[rate_limits]\n'*' = {rate = nan}", "rate is nan, expected more than 0 requests a second"),
        ("[rate_limits]\n'*' = {rate = inf}", "rate is inf"),
        ("[instance_types.large]\ncpus = 1\nmemory_mb = 512", "the key 'large'"),
        ("[machine_hosts.eu-west-1]\naddress = 'h'\nkey_file = '/k'\nhost_key = 'none'", "a public key"),
        ("s3_endpoint_url = 'localhost:9000'", "expected http://HOST or https://HOST"),
        ("database_url = 'mysql://h/n'", "expected postgresql+psycopg://"),
        ("database_url = 'sqlite:////srv/store.sqlite'", "expected postgresql+psycopg://"),
        ("database_url = 'postgresql://u:p@h:x/n'", "expected postgresql+psycopg://"),
        ("database_url = 'postgresql://u:p@h:70000/n'", "'postgresql://u:***@h:70000/n', expected"),
        ("data_dir = '/srv/imagesmith'", "use --data-dir or set IMAGESMITH_DATA_DIR"),
        ("[workers]\nname = 'rack 2'", "workers.name is 'rack 2', expected 1 to 63 letters"),
        ("debian_mirror = 'deb.example'", "expected http://HOST/PATH"),
        ("artifacts = 's3://'", "expected s3://BUCKET"),
        ("host = 'a b'", "expected a host name or an address"),
        ("host = '0.0.0.0:80'", "expected a host name or an address"),
        ("host = 'name:80'", "expected a host name or an address"),
        (
            "[registries.eu-west-1]\nurl = 'h'\nusername = 'u'",
            "registries.eu-west-1: username and password_file belong",
        ),
        ("[registries.eu-west-1]\nurl = 'h'\npassword_file = '/p'", "set both or neither"),
        ("s3_access_key_id = 'k'", "s3_access_key_id and s3_secret_key_file belong together"),
        ("s3_secret_key_file = '/s'", "s3_access_key_id and s3_secret_key_file belong together"),
    ],
)
def test_what_a_member_expects_is_said(tmp_path: Path, text: str, expected: str) -> None:
    """In words that say what to write instead."""
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "::", "fe80::1%eth0", "::ffff:10.0.0.1", "localhost", "a.example", "0.0.0.0"]
)
def test_addresses_are_taken(tmp_path: Path, host: str) -> None:
    """Names and addresses of both families."""
    assert load(tmp_path, f"host = '{host}'").host == host


def test_variables_are_held_to_the_same(tmp_path: Path) -> None:
    """A variable for every member that is no table or list; the error names the variable."""
    assert load(tmp_path, IMAGESMITH_BUILDS_CONCURRENCY="3").builds.concurrency == 3
    assert load(tmp_path, IMAGESMITH_SCHEDULES_CASCADE="true").schedules.cascade is True
    assert load(tmp_path, "[builds]\nmemory_mb = 99", IMAGESMITH_BUILDS_CONCURRENCY="3").builds.memory_mb == 99
    for variable, keys, kind in environment_names():
        hint = dict(members())[keys]
        for value in [] if kind is bool else without_meaning(hint):
            with pytest.raises(SettingsError) as error:
                load(tmp_path, **{variable: str(value)})
            assert str(error.value).startswith(f"{variable} is ")
    with pytest.raises(SettingsError, match="IMAGESMITH_SCHEDULES_CASCADE is 'maybe', expected true or false"):
        load(tmp_path, IMAGESMITH_SCHEDULES_CASCADE="maybe")


@pytest.mark.parametrize(
    "options",
    [["serve", "--port", "70000"], ["serve", "--port", "-1"], ["serve", "--host", ""],
     ["serve", "--log-level", "loud"],
     ["serve", "--database-url", "nonsense"], ["serve", "--artifacts", "s3://"], ["worker", "--log-level", ""],
     ["ami", "boot", "--memory", "-5", "x"], ["schedule", "next", "-n", "0", "rate(1 day)"],
     ["pipeline", "logs", "-n", "-1", "x"]],
)  # fmt: skip
def test_options_without_meaning_are_refused(tmp_path: Path, options: list[str]) -> None:
    """On the command line too, in one line and without a traceback."""
    program = Path(sys.executable).with_name("imagesmith")
    answer = subprocess.run(
        [program, *options], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "IMAGESMITH_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert answer.returncode in (1, 2)
    assert "Traceback" not in answer.stderr and "rror: " in answer.stderr


def test_the_page_of_settings_is_that_of_the_declarations() -> None:
    """Run script/settings-page after a change; every member has its row."""
    text = Path(__file__).parent.parent.joinpath("docs/settings.md").read_text()
    assert text == page()
    for keys, _ in members():
        assert f"| `{keys[-1]}` |" in text
    assert len(fields(Settings)) > 20


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://", "postgresql:///n", "postgresql+psycopg://u@db/n", "postgresql://u:p@[::1]:5432/n?sslmode=require",
        "postgresql://u:p@ss/w@10.0.0.1:5432/n", "postgresql+psycopg:///n?host=/var/run/postgresql",
    ],
)  # fmt: skip
def test_urls_of_databases_are_taken(tmp_path: Path, url: str) -> None:
    """With and without a host, a port, a password and options."""
    assert load(tmp_path, f"database_url = '{url}'").database_url == url


def test_members_of_groups_come_from_the_command_line(tmp_path: Path) -> None:
    """By dotted key; the error names the option."""
    given = {"workers.name": "rack-2", "port": None}
    (tmp_path / "settings.toml").write_text("[workers]\nname = 'rack-1'\nlease_seconds = 9\n")
    settings = load_settings(tmp_path, file=None, environment={}, overrides=given)
    assert (settings.workers.name, settings.workers.lease_seconds) == ("rack-2", 9)
    with pytest.raises(SettingsError, match=r"^--name: workers.name is 'a\\x1bb', expected"):
        load_settings(tmp_path, file=None, environment={}, overrides={"workers.name": "a\x1bb"})


def test_variables_that_mean_nothing_are_found() -> None:
    """A misspelt one with what was meant; a list has no variable, and the data directory is none of ours."""
    given = {
        "IMAGESMITH_BUILDS_CONCURENCY": "3", "IMAGESMITH_LOCAL_IMAGE_FOLDERS": "/a", "IMAGESMITH_DATA_DIR": "/d",
        "IMAGESMITH_PORT": "1", "PATH": "/bin",
    }  # fmt: skip
    assert misspelt_variables(given) == [
        ("IMAGESMITH_BUILDS_CONCURENCY", "IMAGESMITH_BUILDS_CONCURRENCY"), ("IMAGESMITH_LOCAL_IMAGE_FOLDERS", ""),
    ]  # fmt: skip
