"""One listening server for the tests of `wire`, and an ordinary boto3 client of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from imagesmith.accounts.keys import KeyRing
from imagesmith.wire.create import create_app
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.model import Api
from imagesmith.wire.server import running
from testing.loaded import service_model
from testing.wire_support import KEY, REGION, TEMPORARY, Clock, Recorder, Wire, settings_for


@pytest.fixture(scope="session")
def api() -> Api:
    return service_model()


@pytest.fixture(scope="session")
def _wire(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    dispatcher, clock = Recorder(frozenset(api.operations)), Clock()
    app = create_app(
        dispatcher,
        keys=KeyRing([KEY, TEMPORARY]),
        settings=settings_for(tmp_path_factory.mktemp("data")),
        clock=clock,
        ids=lambda: str(uuid.uuid4()),
        limits=HttpLimits(body_seconds=5),
        api=api,
    )
    with running(app) as url:
        wire = Wire(url, api, dispatcher, clock)
        yield wire
        wire.close()
    app.close()


@pytest.fixture
def wire(_wire: Wire) -> Wire:
    """The one server of the session, with a fresh dispatcher and the right time."""
    _wire.reset()
    return _wire


@pytest.fixture(scope="session")
def client(_wire: Wire) -> Iterator[Any]:
    """An ordinary boto3 client: only the endpoint and the credentials are set."""
    made = boto3.Session(KEY.access_key_id, KEY.secret, region_name=REGION).client(
        "imagebuilder", endpoint_url=_wire.url, config=Config(retries={"mode": "standard", "total_max_attempts": 1})
    )
    yield made
    made.close()
