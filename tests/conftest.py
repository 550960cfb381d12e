"""Fixtures shared by all tests: a moving clock, databases of both kinds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from support import MovingClock, free_port


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of Debian's package on a loopback port; gives a URL without a database name."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    folder = tmp_path_factory.mktemp("postgresql")
    data = folder / "data"
    for place in (folder, *folder.parents):
        if place == Path("/tmp"):
            break
        place.chmod(0o755)
    data.mkdir()
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    subprocess.run(["chown", "postgres:postgres", str(data)], check=True)
    port = free_port()
    subprocess.run(
        [*as_user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "imagesmith", "--no-sync"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    server = subprocess.Popen(
        [*as_user, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    try:
        _await_postgresql(port)
        yield f"postgresql+psycopg://imagesmith@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _await_postgresql(port: int) -> None:
    for _ in range(150):
        try:
            with psycopg.connect(host="127.0.0.1", port=port, user="imagesmith", dbname="postgres"):
                return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not answer within 15 seconds")


def new_postgresql_database(server: str, name: str) -> str:
    """Create an empty database and give its URL."""
    port = int(server.rsplit(":", 1)[1])
    with psycopg.connect(
        host="127.0.0.1", port=port, user="imagesmith", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{server}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    server = request.getfixturevalue("postgresql")
    return new_postgresql_database(server, f"t{abs(hash(str(tmp_path))) % 10**12}")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of each kind."""
    opened = Database(database_url)
    upgrade(opened)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database, where the back end makes no difference."""
    opened = Database(f"sqlite:///{tmp_path / 'store.sqlite'}")
    upgrade(opened)
    yield opened
    opened.close()
