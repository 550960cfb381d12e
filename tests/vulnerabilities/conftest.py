"""A data directory with a store, and commands on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imagesmith.cli.main import commands
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.store.database import Database
from testing.sqlite import unsynced

Call = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path, migrated_file: Path) -> Path:
    """A data directory that a server once ran on."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    shutil.copy(migrated_file, folder / "imagesmith.sqlite")
    return folder


@pytest.fixture
def store(data: Path) -> Iterator[Database]:
    """The store of the data directory."""
    opened = unsynced(Database(f"sqlite:///{data / 'imagesmith.sqlite'}"))
    yield opened
    opened.close()


@pytest.fixture
def advisories(data: Path) -> AdvisoryDatabase:
    """The advisories of the data directory; nothing is imported yet."""
    return AdvisoryDatabase(data / "advisories")


@pytest.fixture
def call(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command on the data directory; what it raises is raised."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(commands, [*arguments, "--data-dir", str(data)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
