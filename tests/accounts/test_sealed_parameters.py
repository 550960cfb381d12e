"""Secure parameters at rest: encrypted with the key file, also those that an earlier version stored open."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.accounts.sealed_parameters import open_parameter, sealed_parameter
from imagesmith.accounts.secret_box import FILE_NAME, SecretBox, SecretsError, open_existing
from imagesmith.components.stored_parameters import StoredParameters
from imagesmith.settings import Settings
from imagesmith.store.access_keys import SCOPE, all_keys, revoke_key
from imagesmith.store.database import Database
from imagesmith.store.parameters import ParameterRecord, get_parameter, put_parameter
from imagesmith.store.tables import parameters
from testing.api import ACCOUNT, REGION
from testing.keys import followed_keys

SECRET = "correct horse battery staple"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", account=ACCOUNT, region=REGION)


def put(database: Database, box: SecretBox, name: str = "/secret", region: str = REGION) -> None:
    sealed = sealed_parameter(name, SECRET, account=ACCOUNT, region=region, updated=NOW, box=box)
    with database.write("test") as tx:
        put_parameter(tx, ACCOUNT, region, sealed)


def put_as_earlier_versions(database: Database, name: str, region: str = REGION) -> None:
    row = {"account": ACCOUNT, "region": region, "name": name, "value": f"\x01{SECRET} of {name}", "updated": 0}
    with database.write("test") as tx:
        tx.execute(sa.insert(parameters), row)


def get(database: Database, name: str, region: str = REGION) -> ParameterRecord:
    found = database.query(lambda tx: get_parameter(tx, ACCOUNT, region, name))
    assert found is not None
    return found


def of_builds(database: Database, settings: Settings) -> StoredParameters:
    def read() -> AbstractContextManager[Connection]:
        return database.read()

    return StoredParameters(read, lambda: open_existing(settings), ACCOUNT, REGION)


def rows(database: Database) -> str:
    return database.query(lambda tx: repr(tx.execute(sa.select(parameters)).all()))


def test_a_secure_value_is_stored_encrypted(settings: Settings, database: Database, tmp_path: Path) -> None:
    """Neither rows nor files contain it; a build gets it, marked as a secret."""
    followed_keys(settings, database)
    put(database, open_existing(settings))
    assert SECRET not in rows(database)
    assert not [place for place in tmp_path.rglob("*") if place.is_file() and SECRET.encode() in place.read_bytes()]
    found = of_builds(database, settings).get("/secret")
    assert (found.value, found.secure) == (SECRET, True)
    assert get(database, "/secret").value == ""


def test_a_sealed_value_belongs_to_its_name_and_region(settings: Settings, database: Database) -> None:
    """Who can write the database cannot give one parameter the secret of another."""
    followed_keys(settings, database)
    box = open_existing(settings)
    put(database, box)
    moved = get(database, "/secret")
    for account, region, name in (
        (ACCOUNT, REGION, "/other"), (ACCOUNT, "us-east-1", "/secret"), ("210987654321", REGION, "/secret"),
    ):  # fmt: skip
        record = ParameterRecord(name, "", NOW, sealed=moved.sealed)
        with pytest.raises(SecretsError, match=f"{name} .* is damaged"):
            open_parameter(record, account, region, box)


def test_the_start_of_a_server_encrypts_what_earlier_versions_stored(
    settings: Settings, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In every Region, once; no file has the secret afterwards; until then a reader is told what to do."""
    names = [("/a", REGION), ("/b", REGION), ("/a", "us-east-1")]
    for name, region in names:
        put_as_earlier_versions(database, name, region)
    settings.data_dir.mkdir(mode=0o700)
    SecretBox.open(settings.data_dir / FILE_NAME, may_create=True)
    with pytest.raises(LookupError, match="not encrypted yet: the next start of a server"):
        of_builds(database, settings).get("/a")
    followed_keys(settings, database)
    assert "3 secure parameters lay unencrypted" in caplog.text and SECRET not in caplog.text
    assert SECRET not in rows(database)
    if database.is_sqlite:
        assert not [place for place in tmp_path.rglob("*") if SECRET.encode() in _content(place)]
    box = open_existing(settings)
    for name, region in names:
        assert open_parameter(get(database, name, region), ACCOUNT, region, box) == f"{SECRET} of {name}"
    caplog.clear()
    followed_keys(settings, database)
    assert "unencrypted" not in caplog.text


def _content(place: Path) -> bytes:
    return place.read_bytes() if place.is_file() else b""


def test_another_key_file_is_refused_in_words(settings: Settings, database: Database, tmp_path: Path) -> None:
    """By the step that reads the parameter and by the start of a server, also when no access key is left."""
    followed_keys(settings, database)
    put(database, open_existing(settings))
    with database.write(SCOPE) as tx:
        for key in all_keys(tx):
            revoke_key(tx, key)
    other = Settings(data_dir=tmp_path / "other", account=ACCOUNT, region=REGION)
    with pytest.raises(LookupError, match=r"secrets\.key is missing"):
        of_builds(database, other).get("/secret")
    with pytest.raises(SecretsError, match=r"secrets\.key is missing.*restore it"):
        followed_keys(other, database)
    other.data_dir.mkdir(mode=0o700, exist_ok=True)
    SecretBox.open(other.data_dir / FILE_NAME, may_create=True)
    with pytest.raises(LookupError, match=r"the parameter /secret .* copy the file from the server that wrote it"):
        of_builds(database, other).get("/secret")
    with pytest.raises(SecretsError, match=r"the parameter /secret .* copy the file from the server"):
        followed_keys(other, database)
