"""Settings that are tables of tables: registries, rate limits and roles."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.settings import RateLimit, Role, Settings, SettingsError, load_settings


def load(folder: Path, text: str) -> Settings:
    (folder / "settings.toml").write_text(text)
    return load_settings(folder, file=None, environment={}, overrides={})


def test_rate_limits_and_roles_are_read(tmp_path: Path) -> None:
    """Rates may be whole numbers or fractions; a role withholds everything that it does not list."""
    settings = load(
        tmp_path,
        '[rate_limits]\n"*" = {rate = 0.5}\nUpdateImagePipeline = {rate = 5, burst = 10}\n'
        '[roles."team/builder"]\nregistries = ["eu-west-1"]\npassed_by = ["AKIA*"]\n',
    )
    assert settings.rate_limits == {"*": RateLimit(0.5, 1), "UpdateImagePipeline": RateLimit(5.0, 10)}
    assert settings.roles == {"team/builder": Role(registries=("eu-west-1",), passed_by=("AKIA*",))}
    assert settings.roles["team/builder"].buckets == ()
    assert load(tmp_path, "").rate_limits == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rate_limits = 5", "rate_limits must be a table of tables"),
        ("[rate_limits]\nGetImage = 5", "rate_limits must be a table of tables"),
        ("[rate_limits]\nGetImage = {burst = 5}", "'rate' is missing"),
        ("[rate_limits]\nGetImage = {rate = 0}", "rate_limits.GetImage"),
        ("[rate_limits]\nGetImage = {rate = nan}", "rate_limits.GetImage"),
        ("[rate_limits]\nGetImage = {rate = 1, burst = 0}", "rate_limits.GetImage"),
        ('[rate_limits]\nGetImage = {rate = "1"}', "expected float"),
        ('[roles.builder]\nregistry = "x"', "unknown key 'registry'"),
        ('[roles.builder]\nregistries = "x"', "must be a list of texts"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, text: str, named: str) -> None:
    """The error names the key and what was expected."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert named in str(caught.value)
