"""Accounts and keys in the database: created, rotated, revoked, restricted, and followed by running servers."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from imagesmith.accounts.key_follower import KeyFollower
from imagesmith.accounts.key_store import KeyRefused, KeyStore
from imagesmith.accounts.keys import KeysError
from imagesmith.accounts.operator_key import FILE_NAME as OPERATOR_FILE
from imagesmith.accounts.secret_box import FILE_NAME, SecretBox, SecretsError
from imagesmith.settings import Settings
from imagesmith.store.access_keys import KeyState
from imagesmith.store.database import Database
from testing.api import ACCOUNT, REGION
from testing.clocks import MovingClock
from testing.keys import followed_keys, operator_key

READ_ONLY = json.dumps({"allow": ["imagebuilder:Get*"]})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", account=ACCOUNT, region=REGION)


@pytest.fixture
def server(settings: Settings, database: Database, clock: MovingClock) -> KeyFollower:
    """The keys of a server that started on an empty database."""
    return followed_keys(settings, database, clock)


def test_the_first_start_makes_a_pair_that_later_starts_read(
    server: KeyFollower, settings: Settings, database: Database
) -> None:
    """It is random, of AWS's form, bound to the account's root, and stays; the secret is in no file as it is."""
    [key] = server.ring.keys
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", key.access_key_id)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", key.secret)
    assert (key.account, key.principal) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
    assert followed_keys(settings, database).ring.keys == (key,)
    assert key.access_key_id in repr(key) and key.secret not in repr(key)
    files = [place for place in settings.data_dir.parent.rglob("*") if place.is_file()]
    assert not [place for place in files if key.secret.encode() in place.read_bytes()]
    for name in (FILE_NAME, OPERATOR_FILE):
        assert stat.S_IMODE((settings.data_dir / name).stat().st_mode) == 0o600


def test_two_servers_on_one_database_see_each_others_keys(
    server: KeyFollower, settings: Settings, database: Database, tmp_path: Path
) -> None:
    """The second server has a copy of the key file; without it, or with another, it does not start."""
    other = Settings(data_dir=tmp_path / "other", account=ACCOUNT, region=REGION)
    with pytest.raises(SecretsError, match=r"secrets\.key is missing.*copy it from another server"):
        followed_keys(other, database)
    SecretBox.open(other.data_dir / FILE_NAME, may_create=True)
    with pytest.raises(SecretsError, match="copy the file from the server that wrote it"):
        followed_keys(other, database)
    (other.data_dir / FILE_NAME).write_bytes((settings.data_dir / FILE_NAME).read_bytes())
    second = followed_keys(other, database)
    made = server.store.create(ACCOUNT, user="ci")
    second.refresh()
    assert {key.access_key_id for key in second.ring.keys} == {server.ring.keys[0].access_key_id, made.key.id}
    second.store.revoke(made.key.id, force=False)
    server.refresh()
    assert [key.principal for key in server.ring.keys] == [f"arn:aws:iam::{ACCOUNT}:root"]


def test_a_rotated_key_is_valid_until_its_grace_ends(server: KeyFollower, clock: MovingClock) -> None:
    """Both keys are, with the same account, user and policy; commands use the new one at once."""
    [first] = server.ring.keys
    old = server.store.create(ACCOUNT, user="ci", policy=READ_ONLY).key
    made = server.store.rotate(old.id, grace=timedelta(hours=2))
    root = server.store.rotate(first.access_key_id, grace=timedelta(hours=2))
    server.refresh()
    assert operator_key(server.data_dir).access_key_id == root.key.id
    new = server.ring.find(made.key.id, clock())
    before = server.ring.find(old.id, clock())
    assert new is not None and before is not None
    assert (new.principal, new.policy) == (before.principal, before.policy)
    clock.now += timedelta(hours=2)
    assert server.ring.find(old.id, clock()) is None
    assert server.ring.find(made.key.id, clock()) == new


def test_a_rotation_without_grace_ends_the_old_key(server: KeyFollower, clock: MovingClock) -> None:
    """The row stays and names its replacement, without the secret."""
    [first] = server.ring.keys
    made = server.store.rotate(first.access_key_id, grace=timedelta())
    server.refresh()
    assert [key.access_key_id for key in server.ring.keys] == [made.key.id]
    old = server.store.key(first.access_key_id)
    assert (old.state, old.secret, old.replaced_by) == (KeyState.REVOKED, "", made.key.id)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda keys, first: keys.revoke("AKIANOBODYKNOWSME000", force=False), "there is no key"),
        (lambda keys, first: keys.rotate("AKIANOBODYKNOWSME000", grace=timedelta()), "there is no key"),
        (lambda keys, first: keys.create("999999999999"), "imagesmith account create 999999999999"),
        (lambda keys, first: keys.create_account(ACCOUNT, ""), "exists"),
        (lambda keys, first: keys.revoke(first, force=False), "the last one that may do everything"),
        (lambda keys, first: keys.set_policy(first, READ_ONLY, force=False), "the last one that may do everything"),
        (lambda keys, first: [keys.rotate(first, grace=timedelta(1)) for _ in range(2)], "was already rotated"),
        (lambda keys, first: [keys.revoke(first, force=True) for _ in range(2)], "is revoked already"),
        (
            lambda keys, first: [keys.revoke(first, force=True), keys.rotate(first, grace=timedelta())],
            "is revoked",
        ),
    ],
)
def test_changes_that_are_not_made_say_why(
    server: KeyFollower, change: Callable[[KeyStore, str], object], told: str
) -> None:
    """A hint says what to do instead; a policy or revocation never takes the last full key of an account away."""
    with pytest.raises(KeyRefused) as caught:
        change(server.store, server.ring.keys[0].access_key_id)
    assert told in f"{caught.value} {caught.value.hint}"


def test_a_forced_change_locks_out_its_author_and_can_be_undone(server: KeyFollower) -> None:
    """Policies are changed on the server's machine, which no policy of a key bars."""
    [first] = server.ring.keys
    server.store.set_policy(first.access_key_id, json.dumps({"allow": []}), force=True)
    server.refresh()
    assert not server.ring.keys[0].policy.is_unrestricted
    server.store.set_policy(first.access_key_id, "", force=False)
    server.refresh()
    assert server.ring.keys[0].policy.is_unrestricted


def test_a_secret_opens_under_its_own_key_alone(tmp_path: Path) -> None:
    """A row that got the secret of another row, or a damaged one, is refused and names the key."""
    box = SecretBox.open(tmp_path / FILE_NAME, may_create=True)
    sealed = box.seal("secret", "AKIAONE")
    assert box.unseal(sealed, "AKIAONE") == "secret"
    cut, other = sealed[:-6], f"2:{sealed[2:]}"
    for text, label in ((sealed, "AKIATWO"), (cut, "AKIAONE"), (other, "AKIAONE"), ("", "AKIAONE")):
        with pytest.raises(SecretsError, match=label):
            box.unseal(text, label)


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (None, 0o640, "can be read by others"),
        (None, 0o604, "can be read by others"),
        (b"", 0o600, "is damaged"),
        (b"\xff\xfe", 0o600, "cannot be read"),
        (b"imagesmith-secrets-1:AAAA", 0o600, "is damaged"),
        (b"imagesmith-secrets-1:*", 0o600, "is damaged"),
        (b"x" * 5000, 0o600, "is damaged"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_named(
    server: KeyFollower, settings: Settings, database: Database, content: bytes | None, mode: int, told: str
) -> None:
    """Open to others, cut, overwritten: no server starts with it, and it is not replaced."""
    path = settings.data_dir / FILE_NAME
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)
    before = path.read_bytes()
    with pytest.raises(SecretsError, match=told) as caught:
        followed_keys(settings, database)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_damaged_row_leaves_the_other_keys_alone(
    server: KeyFollower, settings: Settings, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported with its id, and the other keys still work."""
    made = server.store.create(ACCOUNT).key
    with database.write() as tx:
        tx.exec_driver_sql(f"UPDATE access_keys SET secret = substr(secret, 1, 40) WHERE id = '{made.id}'")
    again = followed_keys(settings, database)
    assert again.ring.keys == server.ring.keys
    assert made.id in caplog.text and "revoke the key" in caplog.text


def test_the_key_of_commands_is_written_again_when_it_is_damaged(
    server: KeyFollower, settings: Settings, database: Database
) -> None:
    """Its reader names the file; the next start makes it from the database."""
    (settings.data_dir / OPERATOR_FILE).write_text("{")
    with pytest.raises(KeysError, match=OPERATOR_FILE):
        operator_key(settings.data_dir)
    followed_keys(settings, database)
    assert operator_key(settings.data_dir).secret == server.ring.keys[0].secret
