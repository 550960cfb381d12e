"""A server that all clients ask, each in an account of its own, so that all of them find the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.builds.records import ImageRecords
from imagesmith.resources.service import Service
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.wire.server import running
from testing.api import REGION, Api, RecordingBuilder, client_for, write_keys
from testing.applications import application
from testing.client_world import Account, account_of
from testing.clocks import MovingClock
from testing.keys import followed_keys
from testing.loaded import managed_content
from testing.sqlite import unsynced


@pytest.fixture(scope="session")
def accounts() -> list[Account]:
    """More than the clients need."""
    return [account_of(number) for number in range(1, 9)]


@pytest.fixture(scope="module")
def api(accounts: list[Account], migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The server, and boto3 in the first account."""
    folder = tmp_path_factory.mktemp("clients")
    write_keys(folder / "data", *(account.key() for account in accounts))
    database = unsynced(Database(f"sqlite:///{shutil.copy(migrated_file, folder / 'store.sqlite')}"))
    settings = Settings(data_dir=folder / "data", account=accounts[0].id, region=REGION)
    keys, clock, builds = followed_keys(settings, database).ring, MovingClock(), RecordingBuilder()
    service = Service(database, settings, clock=clock, managed=managed_content(), builds=builds)
    app = application(service, settings, keys)
    try:
        with running(app) as url:
            client = client_for(url, accounts[0].access_key_id, accounts[0].secret)
            yield Api(client, url, keys, database, clock, builds, ImageRecords(database, clock), {})
            client.close()
    finally:
        app.close()
        database.close()
