"""`imagesmith parameter`: secrets come from stdin, and show only when that is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imagesmith.accounts.secret_box import SecretBox
from imagesmith.cli.component import component
from imagesmith.cli.context import CommandFailed, settings_of
from imagesmith.cli.parameter import parameter
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade

Call = Callable[..., Result]
DOCUMENT = """\
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Shows
        action: ExecuteBash
        inputs:
          commands:
            - echo plain={{ aws:ssm:/plain }} secret={{ aws:ssm:/secret }}
            - test {{ aws:ssm:/secret }} = sw0rd''fish
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a command on a data directory that a server was once started on."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    database = Database(settings_of(data).store_url)
    upgrade(database)
    database.close()

    def run(group: object, *arguments: str, input: str | None = None) -> Result:
        result = CliRunner().invoke(group, [*arguments, "--data-dir", str(data)], input=input)  # type: ignore[arg-type]
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_a_secure_parameter_is_masked(call: Call) -> None:
    """In get and list; its plain value shows with --with-decryption only."""
    assert call(parameter, "put", "/secret", "--secure", input="sw0rdfish\n").exit_code == 0
    assert call(parameter, "put", "/plain", "open").exit_code == 0
    assert call(parameter, "get", "/secret").output == "********\n"
    assert call(parameter, "get", "/secret", "--with-decryption").output == "sw0rdfish\n"
    assert call(parameter, "get", "/plain").output == "open\n"
    assert "sw0rdfish" not in call(parameter, "list").output
    listed = json.loads(call(parameter, "list", "--json").output)
    assert [(item["name"], item["value"], item["type"]) for item in listed] == [
        ("/plain", "open", "String"),
        ("/secret", "********", "SecureString"),
    ]


def test_a_value_that_is_no_secret_is_an_argument(call: Call) -> None:
    """Without one nothing is read from stdin by mistake."""
    assert call(parameter, "put", "/plain", input="x\n").exit_code == 2
    assert call(parameter, "put", "/plain", "two\nlines").exit_code == 2
    assert call(parameter, "put", "/secret", "--secure", input="two\nlines\n").exit_code == 2


@pytest.mark.parametrize("options", [(), ("-v",), ("--json",), ("--log-directory", "logs")])
def test_a_run_here_takes_them_too(call: Call, tmp_path: Path, options: tuple[str, ...]) -> None:
    """`component run` gives the values of the data directory, and hides the secret everywhere."""
    call(parameter, "put", "/plain", "open")
    call(parameter, "put", "/secret", "--secure", input="sw0rdfish")
    (tmp_path / "a.yml").write_text(DOCUMENT)
    ran = call(component, "run", "a.yml", *options)
    assert ran.exit_code == 0, ran.output
    said = ran.output + "".join(path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert "sw0rdfish" not in said
    if options == ("-v",):
        assert "plain=open secret=********" in said


def test_a_data_directory_without_a_store_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step fails with where the values would be."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yml").write_text(DOCUMENT)
    ran = CliRunner().invoke(component, ["run", "a.yml", "--data-dir", str(tmp_path / "none")])
    assert ran.exit_code == 1 and "there is no database in" in ran.output


def test_a_secret_needs_the_key_file_that_it_was_encrypted_with(call: Call, tmp_path: Path) -> None:
    """Without it, or with another, `get` and a run say so; a second secret makes no new file."""
    call(parameter, "put", "/secret", "--secure", input="sw0rdfish")
    (tmp_path / "a.yml").write_text(DOCUMENT.replace("plain={{ aws:ssm:/plain }}", ""))
    place = tmp_path / "data" / "secrets.key"
    place.unlink()
    for arguments in (("get", "/secret", "--with-decryption"), ("put", "/next", "--secure")):
        with pytest.raises(CommandFailed, match=r"secrets\.key is missing"):
            call(parameter, *arguments, input="x")
    SecretBox.open(place, may_create=True)
    with pytest.raises(CommandFailed, match="copy the file from the server that wrote it"):
        call(parameter, "get", "/secret", "--with-decryption")
    ran = call(component, "run", "a.yml")
    assert ran.exit_code == 1 and "copy the file from the server that wrote it" in ran.output
