"""Several hosts on this machine: servers and workers with own data directories, PostgreSQL, a shared store."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from imagesmith.accounts.secret_box import FILE_NAME
from imagesmith.build_logs.logs import log_path
from imagesmith.store.database import Database
from imagesmith.store.workers import SeenWorker, list_workers
from testing.leaks import assert_clean
from testing.pipeline_support import REGION, RunningServer, eventually

SOON_SECONDS = 150.0
"""How long a test waits: several hosts on one busy machine start slowly."""
LEASE_SECONDS = 3
"""Long enough for a busy machine: a worker is heard of six times in it."""


class RunningWorker(RunningServer):
    """One `imagesmith worker` process."""

    start_seconds = SOON_SECONDS

    site: Site
    name: str

    def _answers(self) -> bool:
        assert not self._wait(0), f"the worker ended: {self.errors.read_text()[-3000:]}"
        seen = self.site.workers().get(self.name)
        return seen is not None and seen.worker.pid == self.pid

    def pause(self) -> None:
        """Freeze the process, as a host that hangs; what it started goes on."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Site:
    """What the hosts share. Everything ends with the block, and must have left nothing behind."""

    def __init__(
        self, folder: Path, *, database_url: str, artifacts: str, parent: str, registry: str, settings: str = ""
    ) -> None:
        """`settings`: more lines of TOML for all hosts, tables last."""
        self.folder = folder
        self.database_url = database_url
        self.artifacts = artifacts
        self._parent = parent
        self._registries = {REGION: registry} if registry else {}
        self._settings = settings
        self._stack = ExitStack()
        self._hosts: list[RunningServer] = []
        self._database: Database | None = None

    def __enter__(self) -> Site:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            for host in self._hosts:
                if kind is None:
                    # what a killed worker left is removed when it starts again
                    if isinstance(host, RunningWorker) and not host.pid:
                        host.start()
                    if host.pid:
                        host.stop()
            if self._database is not None:
                self._database.close()
            for host in self._hosts if kind is None else ():
                assert_clean(host)

    def server(self, name: str, *, start: bool = True) -> RunningServer:
        """A server that leaves builds to the workers."""
        command = ["serve", "--port", "0", "--no-worker"]
        made = RunningServer(
            self.folder / name, parent=self._parent, registries=self._registries,
            settings=self._addresses_as_settings + self._lines(name), words=command,
        )  # fmt: skip
        first = next((host for host in self._hosts if not isinstance(host, RunningWorker)), None)
        if first is not None:
            shutil.copy2(first.data_dir / FILE_NAME, made.data_dir / FILE_NAME)
        self._keep(made)
        if start:
            made.start()
        return made

    def worker(self, name: str, *words: str, start: bool = True) -> RunningWorker:
        made = RunningWorker(
            self.folder / name, parent=self._parent, registries=self._registries,
            settings=self._lines(name), words=["worker", "--name", name, *words, *self._addresses],
        )  # fmt: skip
        made.site, made.name = self, name
        self._keep(made)
        if start:
            made.start()
        return made

    def workers(self) -> dict[str, SeenWorker]:
        """Every process that the database knows, by name."""
        if self._database is None:
            self._database = Database(self.database_url)
        with self._database.read() as tx:
            return {seen.worker.name: seen for seen in list_workers(tx)}

    def working_on(self) -> str:
        """The name of the one worker that has a run, once there is one."""

        def find() -> str:
            return next((name for name, seen in self.workers().items() if seen.running), "")

        return eventually(find, "a worker has a run", seconds=SOON_SECONDS)

    def log_on(self, host: RunningServer, arn: str) -> str:
        path = log_path(host.data_dir / "logs", arn)
        return path.read_text() if path.exists() else ""

    @property
    def _addresses(self) -> Sequence[str]:
        return ["--database-url", self.database_url, "--artifacts", self.artifacts]

    @property
    def _addresses_as_settings(self) -> str:
        """For a server: what is asked on its host must know them as well."""
        return f'database_url = "{self.database_url}"\nartifacts = "{self.artifacts}"\n'

    def _keep(self, host: RunningServer) -> None:
        self._stack.enter_context(host)
        self._hosts.append(host)

    def _lines(self, name: str) -> str:
        return f'{self._settings}\n[workers]\nname = "{name}"\nlease_seconds = {LEASE_SECONDS}\n'
