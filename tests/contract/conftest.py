"""A listening server with the real service and an ordinary boto3 client; builds are only recorded here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from imagesmith.builds.records import ImageRecords
from imagesmith.resources.service import TURN_SECONDS, Service
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from testing.api import ACCOUNT, REGION, Api, MakeApi, RecordingBuilder, client_for
from testing.applications import application
from testing.clocks import MovingClock
from testing.keys import followed_keys
from testing.listeners import Listeners, listeners
from testing.loaded import managed_content
from testing.postgresql import OwnPostgresql


@pytest.fixture(scope="session")
def shared_listeners() -> Iterator[Listeners]:
    with listeners() as shared:
        yield shared


@pytest.fixture
def make_api(
    database: Database, clock: MovingClock, tmp_path: Path, shared_listeners: Listeners
) -> Iterator[MakeApi]:
    """Start servers with changed settings.

    `reads_s3`: from the endpoint of the settings, and not from the texts of a test.
    """
    with ExitStack() as stack:

        def make(
            *, turn_seconds: float = TURN_SECONDS, reads_s3: bool = False, database: Database = database,
            **changes: Any,
        ) -> Api:  # fmt: skip
            data_dir = tmp_path / "data"
            settings = Settings(data_dir=data_dir, account=ACCOUNT, region=REGION, **changes)
            keys = followed_keys(settings, database).ring
            builds = RecordingBuilder()
            sources: dict[str, str] = {}
            service = Service(
                database, settings, clock=clock, managed=managed_content(settings.managed_images),
                builds=builds,
                read_source=None if reads_s3 else lambda _path, uri: sources[uri],
                turn_seconds=turn_seconds,
            )  # fmt: skip
            app = application(service, settings, keys)
            stack.callback(app.close)
            url = stack.enter_context(shared_listeners.lease(app))
            key = keys.keys[0]
            client = client_for(url, key.access_key_id, key.secret)
            stack.callback(client.close)
            return Api(client, url, keys, database, clock, builds, ImageRecords(database, clock), sources)

        yield make


@pytest.fixture
def own_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgresql]:
    """A PostgreSQL that a test may stop."""
    server = OwnPostgresql(tmp_path_factory.mktemp("own-postgresql"))
    yield server
    server.end()


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    return make_api()
