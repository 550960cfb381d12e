"""A PostgreSQL that one test may stop and start; the shared one must stay up."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psycopg

from support import free_port

_USER = "imagesmith"


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
        self.url = f"postgresql+psycopg://{_USER}@127.0.0.1:{self._port}/postgres"
        self.start()

    def start(self) -> None:
        options = f"-p {self._port} -k '' -h 127.0.0.1"
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
