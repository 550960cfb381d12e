"""kill -9 of a server in the middle of a tick: the instant is either due still or run, never both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.migrate import upgrade
from testing import clock_child
from testing.clock_support import NOON, Factory, SetClock
from testing.postgresql import new_postgresql_database

TESTS = Path(__file__).parent.parent
CHILD = Path(clock_child.__file__)
HOUR = timedelta(hours=1)


@pytest.fixture
def killed(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Factory:
    """The server that comes after one that was killed `before` or `after` the commit of a tick."""
    factory = Factory(database, tmp_path / "data", clock=SetClock())
    factory.recipe()
    factory.infrastructure()
    factory.pipeline()
    url = database.engine.url.render_as_string(hide_password=False)
    child = subprocess.run(
        [sys.executable, str(CHILD), url, str(tmp_path / "data"), request.param],
        env={**os.environ, "PYTHONPATH": str(TESTS)}, timeout=120, check=False, capture_output=True,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    return Factory(database, tmp_path / "data", clock=SetClock())


ARN = "arn:aws:imagebuilder:eu-west-1:123456789012:image-pipeline/pipe"


@pytest.mark.parametrize("killed", ["before"], indirect=True)
def test_a_server_that_dies_before_the_commit_leaves_the_tick_due(killed: Factory) -> None:
    """Nothing of the run is there; the next server starts it, once."""
    assert killed.images(ARN) == [] and killed.runs(ARN) == []
    assert killed.next_run(ARN) == "2026-11-23T13:00:00.000Z"
    (image,) = killed.tick_at(NOON + HOUR + timedelta(minutes=2))
    assert killed.tick_at(NOON + HOUR + timedelta(minutes=3)) == []
    assert killed.images(ARN) == [image] and image.endswith("/1")


@pytest.mark.parametrize("killed", ["after"], indirect=True)
def test_a_server_that_dies_before_the_enqueueing_leaves_a_pending_image(killed: Factory) -> None:
    """The tick is done, so no server starts it again; the sweep of the next start finds the image."""
    (image,) = killed.images(ARN)
    assert killed.runs(ARN) == [(NOON + HOUR, image)]
    assert killed.tick_at(NOON + HOUR + timedelta(minutes=2)) == []
    assert killed.records.pending() == [image]
    assert killed.next_run(ARN) == "2026-11-23T14:00:00.000Z"


def test_a_lost_connection_in_the_middle_of_a_tick_loses_and_blames_nothing(
    postgresql: str, tmp_path: Path
) -> None:
    """The tick fails as a whole, no pipeline is put aside for it, and the next one carries it out."""
    database = Database(new_postgresql_database(postgresql))
    upgrade(database)
    factory = Factory(database, tmp_path / "data", clock=SetClock())
    factory.recipe()
    factory.infrastructure()
    arns = [factory.pipeline(name=f"p{number}") for number in range(3)]
    ended: list[int] = []

    def end_backend(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO resources") and not ended:
            number = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
            ended.append(number)
            with database.engine.connect() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:number)"), {"number": number})

    sa.event.listen(database.engine, "before_cursor_execute", end_backend)
    with pytest.raises((StoreUnavailable, sa.exc.DBAPIError)):
        factory.tick_at(NOON + HOUR)
    assert ended and factory.builds.started == []
    assert len(factory.tick_at(NOON + HOUR + timedelta(seconds=1))) == 3
    assert [len(factory.images(arn)) for arn in arns] == [1, 1, 1]
    database.close()
