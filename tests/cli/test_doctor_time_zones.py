"""What `imagesmith doctor` says of the time zone database: which copy, how old, and who differs."""

from __future__ import annotations

import dataclasses
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
import tzdata

from imagesmith.cli.doctor import time_zones
from imagesmith.settings import Settings
from imagesmith.store import workers
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.store.workers import StoredWorker
from imagesmith.values.zone_data import zone_data


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Path]:
    """An empty system copy that is the one zoneinfo looks at."""
    folder = tmp_path / "zones"
    folder.mkdir()
    zoneinfo.reset_tzpath(to=[str(folder)])
    yield folder
    zoneinfo.reset_tzpath()


def test_the_newest_copy_is_named_with_its_version(system: Path, tmp_path: Path) -> None:
    """And the other one, with the reason why it is not used."""
    (system / "tzdata.zi").write_text("# version 2020a\n")
    (found,) = time_zones(Settings(data_dir=tmp_path))
    assert found.works and found.detail == (
        f"{tzdata.IANA_VERSION} of the package tzdata; 2020a of {system} is not used"
    )


def test_a_copy_without_a_version_is_told(system: Path, tmp_path: Path) -> None:
    """Nobody can say how old it is: a hint, and no failure, since somebody chose it."""
    (found,) = time_zones(Settings(data_dir=tmp_path))
    assert (
        not found.works and not found.needed and "unknown version" in found.detail and "PYTHONTZPATH" in found.hint
    )


def test_hosts_that_disagree_are_named(tmp_path: Path) -> None:
    """Each with its version; they are no failure of this host."""
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    settings = Settings(data_dir=tmp_path, database_url=url)
    database = Database(url)
    upgrade(database)
    mine = StoredWorker(
        id="1", name="one", host="host-1", pid=1, data_dir="/a", queues=(), concurrency=0,
        zone_data=zone_data().used.version,
    )  # fmt: skip
    other = dataclasses.replace(mine, id="2", name="two", host="host-2", data_dir="/b", zone_data="2019c")
    for worker, works in ((mine, True), (other, False)):
        with database.write("w") as tx:
            workers.join(tx, worker, limit_seconds=60)
        _, found = time_zones(settings)
        assert found.works is works and not found.needed
    assert found.detail == f"2019c on host-2, {mine.zone_data} on host-1"
    database.close()
