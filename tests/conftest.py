"""Fixtures that several folders use: clocks, databases of both kinds, containers, registries, machines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.settings import Registry, Schedules
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from testing.clock_support import Factory, MakeFactory, SetClock
from testing.clocks import MovingClock
from testing.containers import import_tiny_image, opened_storage
from testing.machines import MadeBase, make_machine_base
from testing.pipeline_support import tiny_layout
from testing.postgresql import OwnPostgresql, empty_postgresql_database, new_postgresql_database
from testing.registry_support import RunningRegistry
from testing.sqlite import unsynced
from testing.ssh_host import Host, listening_host

pytest_plugins = ["testing.file_queue"]

# test processes run beside each other and beside emulated machines: how long an example takes says nothing
settings.register_profile("beside-others", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside-others")

# Clocks and what they schedule


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def now() -> SetClock:
    return SetClock()


@pytest.fixture
def make_factory(sqlite_database: Database, tmp_path: Path, now: SetClock) -> MakeFactory:
    """Servers on one SQLite database, with other settings of schedules."""

    def make(policy: Schedules | None = None, registries: Mapping[str, Registry] | None = None) -> Factory:
        return Factory(sqlite_database, tmp_path / "data", clock=now, policy=policy, registries=registries)

    return make


@pytest.fixture
def factory(make_factory: MakeFactory) -> Factory:
    """A server without HTTP, with a recipe `web` and an infrastructure `infra`."""
    made = make_factory()
    made.recipe()
    made.infrastructure()
    return made


# Databases


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL that all tests share, without the name of a database."""
    server = OwnPostgresql(tmp_path_factory.mktemp("postgresql"))
    yield server.server
    server.end()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with the newest schema, for copies."""
    path = tmp_path_factory.mktemp("migrated") / "store.sqlite"
    opened = Database(f"sqlite:///{path}")
    upgrade(opened)
    opened.close()
    assert [place.name for place in path.parent.iterdir()] == [path.name], "the file alone holds everything"
    return path


@pytest.fixture(scope="session")
def migrated_database(postgresql: str) -> str:
    """The URL of a PostgreSQL database with the newest schema, which each test empties before it uses it."""
    url = new_postgresql_database(postgresql, "migrated")
    opened = Database(url)
    upgrade(opened)
    opened.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    return new_postgresql_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def database(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database of each kind."""
    if database_kind == "sqlite":
        url = _copy(request.getfixturevalue("migrated_file"), tmp_path)
    else:
        url = request.getfixturevalue("migrated_database")
        empty_postgresql_database(url)
    opened = unsynced(Database(url))
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database, where the back end makes no difference."""
    opened = unsynced(Database(_copy(migrated_file, tmp_path)))
    yield opened
    opened.close()


def _copy(migrated: Path, folder: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated, folder / 'store.sqlite')}"


# Containers, registries, machines


@pytest.fixture(scope="session")
def container_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContainerStorage]:
    """A storage of the session, closed and gone at the end."""
    with opened_storage(tmp_path_factory.mktemp("storage")) as storage:
        yield storage
        storage.remove_leftovers()


@pytest.fixture(scope="session")
def tiny_image(container_storage: ContainerStorage) -> str:
    """The id of the tiny image in the storage."""
    return import_tiny_image(container_storage)


@pytest.fixture(scope="session")
def tiny_parent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The `parentImage` text of the tiny image."""
    return tiny_layout(tmp_path_factory.mktemp("layouts") / "tiny")


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry of Debian's package that wants no login."""
    registry = RunningRegistry(tmp_path_factory.mktemp("registry"))
    registry.start()
    yield registry
    registry.kill()


@pytest.fixture
def own_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry that was not started yet and belongs to one test."""
    registry = RunningRegistry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.kill()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """An SSH server that machine images are copied to."""
    with listening_host(tmp_path) as listening:
        yield listening


@pytest.fixture(scope="session")
def machine_base(tmp_path_factory: pytest.TempPathFactory) -> MadeBase:
    """The managed machine base."""
    return make_machine_base(lambda: tmp_path_factory.mktemp("machine-base"))
