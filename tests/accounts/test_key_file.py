"""The key file of earlier versions: read with errors that say what to do, taken into the database, removed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagesmith.accounts.key_file import read_key_file
from imagesmith.accounts.keys import KeysError
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from testing.api import ACCOUNT, REGION
from testing.keys import followed_keys, operator_key

ENTRY: dict[str, Any] = {"accessKeyId": "AKIA" + "A" * 16, "secretAccessKey": "s" * 40, "account": ACCOUNT}
USER = {**ENTRY, "accessKeyId": "AKIA" + "B" * 16, "account": "210987654321", "user": "build@example.org"}
TEMPORARY = {**ENTRY, "accessKeyId": "ASIA" + "C" * 16, "sessionToken": "t", "expires": "2030-01-31T00:00:00Z"}
READER = {**ENTRY, "accessKeyId": "AKIA" + "D" * 16, "user": "reader", "policy": {"allow": ["imagebuilder:Get*"]}}


def write(folder: Path, *entries: Any) -> Path:
    path = folder / "keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"keys": entries}))
    return path


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(data_dir=folder, account=ACCOUNT, region=REGION, **changes)


def test_keys_of_a_file_move_into_the_database(database: Database, tmp_path: Path) -> None:
    """With their accounts, users, tokens, ends and policies; no secret is in plain text anywhere afterwards."""
    path = write(tmp_path, ENTRY, USER, TEMPORARY, READER)
    keys = followed_keys(settings(tmp_path, partition="aws-cn"), database)
    assert [key.principal for key in keys.ring.keys] == [
        f"arn:aws-cn:iam::{ACCOUNT}:root",
        "arn:aws-cn:iam::210987654321:user/build@example.org",
        f"arn:aws-cn:iam::{ACCOUNT}:root",
        f"arn:aws-cn:iam::{ACCOUNT}:user/reader",
    ]
    temporary, reader = keys.ring.keys[2:]
    assert (temporary.session_token, temporary.expires) == ("t", datetime(2030, 1, 31, tzinfo=UTC))
    assert not reader.policy.is_unrestricted
    assert [account.id for account in keys.store.accounts()] == [ACCOUNT, "210987654321"]
    assert not path.exists()
    assert not [place for place in tmp_path.iterdir() if ENTRY["secretAccessKey"].encode() in place.read_bytes()]
    assert operator_key(tmp_path).secret == ENTRY["secretAccessKey"]


def test_a_file_that_comes_again_adds_what_is_new(database: Database, tmp_path: Path) -> None:
    """Tools that set up machines write it at every run; a known key with another secret is refused by name."""
    write(tmp_path, ENTRY)
    assert len(followed_keys(settings(tmp_path), database).ring.keys) == 1
    write(tmp_path, ENTRY, USER)
    assert len(followed_keys(settings(tmp_path), database).ring.keys) == 2
    for changed in ({"secretAccessKey": "x" * 40}, {"account": "999999999999"}):
        path = write(tmp_path, ENTRY | changed)
        with pytest.raises(KeysError, match=ENTRY["accessKeyId"]):
            followed_keys(settings(tmp_path), database)
        assert path.exists()


def test_a_revoked_key_does_not_return_with_a_file(database: Database, tmp_path: Path) -> None:
    """Its id is refused, and the file stays."""
    write(tmp_path, ENTRY)
    followed_keys(settings(tmp_path), database).store.revoke(ENTRY["accessKeyId"], force=True)
    write(tmp_path, ENTRY)
    with pytest.raises(KeysError, match="was revoked"):
        followed_keys(settings(tmp_path), database)


def test_a_file_that_others_could_read_is_reported(
    sqlite_database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the command that replaces a key."""
    write(tmp_path, ENTRY).chmod(0o644)
    followed_keys(settings(tmp_path), sqlite_database)
    assert "imagesmith key rotate" in caplog.text


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
        ({"policy": []}, r"keys\[0\]\.policy: it must be a JSON object"),
        ({"policy": {"deny": ["s3:GetObject"]}}, r"policy: deny contains 's3:GetObject'"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, content: str | dict[str, Any], words: str) -> None:
    """An unusable key file names itself, the entry and what was expected, and stays as it is."""
    text = content if isinstance(content, str) else json.dumps({"keys": [ENTRY | content]})
    path = tmp_path / "keys.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(KeysError, match=words) as caught:
        read_key_file(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == text.encode("latin-1")


def test_doubled_and_oversized_files_are_refused(tmp_path: Path) -> None:
    """One id twice is an error, and so is a file that is no key file by its size."""
    path = write(tmp_path, ENTRY, ENTRY)
    with pytest.raises(KeysError, match="the same accessKeyId"):
        read_key_file(path)
    path.write_bytes(b" " * (16 * 1024 * 1024 + 1))
    with pytest.raises(KeysError, match="at most"):
        read_key_file(path)


def test_secrets_do_not_show_in_messages(tmp_path: Path) -> None:
    """A key that is printed shows its id, not its secret or token."""
    [key] = read_key_file(write(tmp_path, TEMPORARY | {"sessionToken": "tokentokentoken"}))
    assert key.access_key_id in repr(key)
    assert key.secret not in repr(key) and key.session_token not in repr(key)
