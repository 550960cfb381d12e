"""Repositories of both kinds, opened and filled the way the commands do it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from imagesmith.backups.manifest import BackupRecord
from imagesmith.backups.progress import BackupProgress, BackupSource
from imagesmith.backups.repository import open_repository
from imagesmith.backups.taking import take_backup
from testing.data_folder import OpenRepository, Take
from testing.object_store import object_store


@pytest.fixture(scope="session")
def s3_client() -> Iterator[Any]:
    with object_store("backups") as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as opened:
        yield opened


@pytest.fixture(params=["folder", "bucket"])
def repository(request: pytest.FixtureRequest, tmp_path: Path, pool: ThreadPoolExecutor) -> OpenRepository:
    """Opens the repository of the test; `new=True` to write."""
    if request.param == "folder":
        return partial(open_repository, str(tmp_path / "backups"), lambda: None, pool)
    client = request.getfixturevalue("s3_client")
    return partial(open_repository, f"s3://backups/{tmp_path.name}", lambda: client, pool)


@pytest.fixture
def take(repository: OpenRepository) -> Take:
    """Takes a backup of a data directory, each a minute after the one before."""
    minutes = count()

    def take(data_dir: Path, *, database_url: str = "", **options: Any) -> tuple[BackupRecord, BackupProgress]:
        progress = BackupProgress()
        now = datetime(2026, 11, 29, 12, tzinfo=UTC) + timedelta(minutes=next(minutes))
        source = BackupSource(data_dir=data_dir, database_url=database_url, **options)
        with repository(new=True) as opened, ThreadPoolExecutor(4) as workers:
            return take_backup(source, opened, workers, now=now, progress=progress), progress

    return take
