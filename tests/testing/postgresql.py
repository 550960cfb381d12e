"""PostgreSQL of Debian's package on a loopback port: one that a session shares, and ones that a test may stop."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path

import psycopg

from testing.network import free_port

_USER = "imagesmith"
# Tests kill the server and never the machine: what was written survives in the page cache.
# Databases of tests are too small and too short-lived for autovacuum, whose workers visit each of them.
_OPTIONS = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off")
_NUMBERS = itertools.count(1)


class OwnPostgresql:
    """Data in a folder that the user `postgres` can reach; listens on a loopback port."""

    def __init__(self, folder: Path) -> None:
        self._binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        self._data = folder / "data"
        for place in (folder, *folder.parents):
            if place == Path("/tmp"):
                break
            place.chmod(0o755)
        self._data.mkdir()
        subprocess.run(["chown", "postgres:postgres", str(self._data)], check=True)
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", _USER, "--no-sync")
        self._port = free_port()
        self.server = f"postgresql+psycopg://{_USER}@127.0.0.1:{self._port}"
        """Its URL without the name of a database."""
        self.url = f"{self.server}/postgres"
        self.start()

    def start(self) -> None:
        options = " ".join((f"-p {self._port} -k '' -h 127.0.0.1", *_OPTIONS))
        log = str(self._data / "server.log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-o", options, "-w", "start")
        for _ in range(150):
            try:
                with psycopg.connect(host="127.0.0.1", port=self._port, user=_USER, dbname="postgres"):
                    return
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not answer within 15 seconds")

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash: nothing is written, and the next start recovers."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def end(self) -> None:
        """Stop it if it runs."""
        command = [*self._as_user, str(self._binaries / "pg_ctl"), "-D", str(self._data), "-m", "immediate", "stop"]
        subprocess.run(command, check=False, capture_output=True, cwd="/")

    def _run(self, tool: str, *arguments: str) -> None:
        # no pipe: the server would inherit it, and the run would wait for the server's end
        command = [*self._as_user, str(self._binaries / tool), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


def new_postgresql_database(server: str, name: str = "", *, template: str = "template1") -> str:
    """Create a database, a copy of the template, and return its URL; without a name it gets a number."""
    name = name or f"t{next(_NUMBERS)}"
    with psycopg.connect(f"{server.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return f"{server}/{name}"


def empty_postgresql_database(url: str) -> None:
    """Remove all rows of a migrated database: a tenth of the time that a copy of its template takes.

    Connections that an earlier test left open are ended, because their locks would be waited for.
    """
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        deletions = [f'DELETE FROM "{name}"' for (name,) in tables if name != "alembic_version"]
        connection.execute("; ".join(deletions).encode())
