"""Settings from file, environment and command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.settings import Registry, Settings, SettingsError, load_settings


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
        ("local_image_folders = 'x'", "must be a list of texts"),
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
