"""The key file: written once, whole, for its owner only; read with errors that say what to do."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagesmith.wire.keys import KeyRing, KeysError

ACCOUNT = "123456789012"
ENTRY = {"accessKeyId": "AKIA" + "A" * 16, "secretAccessKey": "s" * 40, "account": ACCOUNT}


def write(folder: Path, *entries: Any) -> Path:
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": entries}))
    path.chmod(0o600)
    return path


def test_first_start_writes_a_pair_that_later_starts_read(tmp_path: Path) -> None:
    """The first pair is random, of AWS's form, bound to the account's root, and stays."""
    folder = tmp_path / "new" / "data"
    [key] = KeyRing.open(folder, ACCOUNT).keys
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", key.access_key_id)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", key.secret)
    assert (key.account, key.principal) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
    again = KeyRing.open(folder, "999999999999")
    assert again.keys == (key,)
    assert again.find(key.access_key_id) == key
    assert again.find("AKIANOBODYKNOWSME000") is None
    assert KeyRing.open(tmp_path / "other", ACCOUNT).keys[0].secret != key.secret


def test_the_file_is_for_its_owner_only_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, and no temporary file stays, also after a start that was killed."""
    (tmp_path / f".keys.json.{'0' * 16}").write_text("half of a")
    before = os.umask(0)
    try:
        KeyRing.open(tmp_path, ACCOUNT)
    finally:
        os.umask(before)
    [path] = tmp_path.iterdir()
    assert (path.name, stat.S_IMODE(path.stat().st_mode)) == ("keys.json", 0o600)


def test_the_secret_is_never_readable_by_others_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is private before its first byte is written."""
    modes: list[int] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        modes.append(os.fstat(descriptor).st_mode)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    KeyRing.open(tmp_path, ACCOUNT)
    assert [stat.S_IMODE(mode) for mode in modes if stat.S_ISREG(mode)] == [0o600]
    assert any(stat.S_ISDIR(mode) for mode in modes)


def test_servers_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    """Of several first starts in one directory one writes, and all use what it wrote."""
    program = (
        "import sys; from pathlib import Path; from imagesmith.wire.keys import KeyRing\n"
        f"sys.stdin.readline(); print(KeyRing.open(Path({str(tmp_path)!r}), {ACCOUNT!r}).keys[0].secret)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({process.communicate()[0] for process in started}) == 1
    assert all(process.returncode == 0 for process in started)


def test_randomness_comes_from_outside(tmp_path: Path) -> None:
    """The pair is made from the given bytes alone."""
    [key] = KeyRing.open(tmp_path, ACCOUNT, entropy=lambda count: b"\0" * count).keys
    assert (key.access_key_id, key.secret) == ("AKIA" + "A" * 16, "A" * 40)


def test_many_keys_may_stand_in_the_file(tmp_path: Path) -> None:
    """Each key has its account, and if it names one, its user; a temporary one has a token and an end."""
    user = {**ENTRY, "accessKeyId": "AKIA" + "B" * 16, "account": "210987654321", "user": "build@example.org"}
    temporary = {**ENTRY, "accessKeyId": "ASIA" + "C" * 16, "sessionToken": "t", "expires": "2030-01-31T00:00:00Z"}
    write(tmp_path, ENTRY, user, temporary)
    ring = KeyRing.open(tmp_path, ACCOUNT, partition="aws-cn")
    assert [key.principal for key in ring.keys] == [
        f"arn:aws-cn:iam::{ACCOUNT}:root",
        "arn:aws-cn:iam::210987654321:user/build@example.org",
        f"arn:aws-cn:iam::{ACCOUNT}:root",
    ]
    assert (ring.keys[2].session_token, ring.keys[2].expires) == ("t", datetime(2030, 1, 31, tzinfo=UTC))


def test_secrets_do_not_show_in_messages(tmp_path: Path) -> None:
    """A key that is printed shows its id, not its secret."""
    [key] = KeyRing.open(tmp_path, ACCOUNT).keys
    assert key.access_key_id in repr(key)
    assert key.secret not in repr(key)


def test_a_file_that_others_can_read_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key file with open permissions still works, with a warning that names the command to run."""
    path = write(tmp_path, ENTRY)
    path.chmod(0o644)
    assert KeyRing.open(tmp_path, ACCOUNT).find(ENTRY["accessKeyId"]) is not None
    assert f"chmod 600 {path}" in caplog.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "must be an object"),
        ('{"keys": []}', "at least one key"),
        ('{"keys": ["a"]}', r"keys\[0\] must be an object"),
        ('{"keys": [{"accessKeyId": 1}]}', r"keys\[0\] must be an object of strings"),
        ({"colour": "red"}, "unknown member 'colour'"),
        ({"accessKeyId": "short"}, "accessKeyId is 'short'"),
        ({"account": "12"}, "account is '12', expected 12 digits"),
        ({"user": "a b"}, "user is 'a b'"),
        ({"secretAccessKey": "s"}, "at least 16 characters"),
        ({"expires": "tomorrow"}, "expires is 'tomorrow'"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, content: str | dict[str, str], words: str) -> None:
    """An unusable key file names itself, the entry and what was expected, and is never replaced."""
    text = content if isinstance(content, str) else json.dumps({"keys": [{**ENTRY, **content}]})
    path = tmp_path / "keys.json"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(KeysError, match=words) as caught:
        KeyRing.open(tmp_path, ACCOUNT)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == text.encode("latin-1")


def test_doubled_and_oversized_files_are_refused(tmp_path: Path) -> None:
    """One id twice is an error, and so is a file that is no key file by its size."""
    write(tmp_path, ENTRY, ENTRY)
    with pytest.raises(KeysError, match="the same accessKeyId"):
        KeyRing.open(tmp_path, ACCOUNT)
    (tmp_path / "keys.json").write_bytes(b" " * (16 * 1024 * 1024 + 1))
    with pytest.raises(KeysError, match="at most"):
        KeyRing.open(tmp_path, ACCOUNT)
