"""`imagesmith base` and `imagesmith ami` on a store without a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from imagesmith.cli.context import CommandFailed
from imagesmith.cli.main import commands
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from testing.disks import raw_disk

pytestmark = pytest.mark.tool

HELLO = """\
name: hello
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Say
        action: ExecuteBash
        inputs:
          commands: [echo hello]
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory whose store a server would have made."""
    folder = tmp_path / "data"
    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'imagesmith.sqlite'}")
    upgrade(database)
    database.close()
    return folder


def invoke(data_dir: Path, *words: str) -> str:
    done = CliRunner().invoke(commands, [*words, "--data-dir", str(data_dir)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def added(data_dir: Path, tmp_path: Path, *options: str) -> dict[str, Any]:
    data = raw_disk(tmp_path / "disk.raw")
    checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
    answer = invoke(data_dir, "base", "add", str(tmp_path / "disk.raw"), "--checksum", checksum, "--json", *options)
    found: dict[str, Any] = json.loads(answer)
    return found


def test_an_added_disk_is_an_ami_that_can_be_shown_and_exported(data_dir: Path, tmp_path: Path) -> None:
    """It is listed among bases and AMIs, shows its disk, and comes out byte by byte; twice is once."""
    base = added(data_dir, tmp_path, "--name", "own")
    shown = json.loads(invoke(data_dir, "ami", "show", base["amiId"], "--json"))
    assert shown["name"] == "own" and shown["origin"] == "base" and shown["virtualSize"] == 8 * 1024**2
    assert json.loads(invoke(data_dir, "ami", "list", "--json"))[0]["amiId"] == base["amiId"]
    assert json.loads(invoke(data_dir, "ami", "list", "--region", "eu-west-9", "--json")) == []
    parents = {row["parentImage"] for row in json.loads(invoke(data_dir, "base", "list", "--json"))}
    assert base["amiId"] in parents
    assert "arn:aws:imagebuilder:us-east-1:aws:image/debian-12-x86/x.x.x" in parents
    target = tmp_path / "out.raw"
    assert "8.0 MiB, raw" in invoke(data_dir, "ami", "export", base["amiId"], str(target))
    assert target.read_bytes() == (tmp_path / "disk.raw").read_bytes()
    for words in (("ami", "list"), ("base", "list"), ("ami", "show", base["amiId"])):
        assert "own" in invoke(data_dir, *words)


def test_a_name_belongs_to_one_disk(data_dir: Path, tmp_path: Path) -> None:
    """Another disk under a name that is taken is refused, with what to do."""
    added(data_dir, tmp_path, "--name", "own")
    with pytest.raises(CommandFailed, match="the name 'own' is used by ami-") as refused:
        added(data_dir, tmp_path, "--name", "own")
    assert "--name" in refused.value.hint


def test_what_is_not_there_is_named(data_dir: Path, tmp_path: Path) -> None:
    """Unknown AMIs and disks, a wrong checksum and a missing store are told in words."""
    for words in (("ami", "show", "ami-0"), ("ami", "export", "ami-0", "x"), ("ami", "boot", "ami-0")):
        with pytest.raises(CommandFailed, match="there is no AMI ami-0"):
            invoke(data_dir, *words)
    with pytest.raises(CommandFailed, match="is not a disk"):
        invoke(data_dir, "ami", "boot", "nothing")
    raw_disk(tmp_path / "disk.raw")
    with pytest.raises(CommandFailed, match="does not match its checksum"):
        invoke(data_dir, "base", "add", str(tmp_path / "disk.raw"), "--checksum", f"sha256:{'0' * 64}")
    with pytest.raises(CommandFailed, match="there is no database"):
        invoke(tmp_path / "none", "ami", "list")


def test_boot_shows_the_console_until_the_machine_ends(data_dir: Path, tmp_path: Path) -> None:
    """Without a terminal the console is the output; a disk that switches itself off ends the command."""
    # 16-bit code: say B on the serial port, then switch off through QEMU's q35 power management
    code = bytes.fromhex("baf803b042eeba0406b80020efebfe")
    raw_disk(tmp_path / "disk.raw")
    disk = bytearray((tmp_path / "disk.raw").read_bytes())
    disk[: len(code)] = code
    (tmp_path / "disk.raw").write_bytes(disk)
    (data_dir / "settings.toml").write_text('[machines]\naccelerator = "tcg"\ncpus = 1\nmemory_mb = 64\n')
    output = invoke(data_dir, "ami", "boot", str(tmp_path / "disk.raw"))
    assert "log in as root with the password" in output
    assert list((data_dir / "authoring/machines").glob("*-*")) == []


def _cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def _altered(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [Path.unlink, _cut, _altered])
@pytest.mark.parametrize("words", [("ami", "export"), ("ami", "boot"), ("component", "run")])
def test_a_disk_that_is_gone_or_damaged_is_named_with_its_ami(
    data_dir: Path, tmp_path: Path, harm: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    """Before anything starts, with the file; nothing is exported."""
    ami = added(data_dir, tmp_path)["amiId"]
    path = Path(json.loads(invoke(data_dir, "ami", "show", ami, "--json"))["path"])
    harm(path)
    target, document = tmp_path / "out.vmdk", tmp_path / "hello.yml"
    document.write_text(HELLO)
    more = {
        "export": [ami, str(target), "--format", "vmdk"], "boot": [ami],
        "run": [str(document), "--on", f"machine:{ami}"],
    }[words[1]]  # fmt: skip
    with pytest.raises(CommandFailed) as failed:
        invoke(data_dir, *words, *more)
    assert ami in str(failed.value) and str(path) in str(failed.value)
    assert not target.exists()
