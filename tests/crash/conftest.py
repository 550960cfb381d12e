"""Servers whose registry is behind a gate; after every test nothing of their builds is left.

`tally` counts what the tests of crashes did; the end of the run prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from testing.crash_support import DATABASES, Tally
from testing.file_queue import TALLY
from testing.leaks import assert_clean
from testing.pipeline_support import REGION, RunningServer
from testing.postgresql import OwnPostgresql, new_postgresql_database
from testing.registry_support import RunningRegistry
from testing.socket_proxy import Gate, gate

HOOK = """\
#!/bin/sh
cat >/dev/null
echo once >>$0.calls
until [ -e $0.go ]; do sleep 0.05; done
echo '{"n": 1}'
"""


@pytest.fixture(scope="session")
def registry_gate(open_registry: RunningRegistry) -> Iterator[Gate]:
    with gate(open_registry.host) as opened:
        yield opened


@pytest.fixture(scope="session")
def crash_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, registry_gate: Gate
) -> Iterator[RunningServer]:
    """One data directory for all tests here; use `server`, which runs."""
    folder = tmp_path_factory.mktemp("crash") / "data"
    with RunningServer(folder, parent=tiny_parent, registries={REGION: registry_gate.host}) as running:
        yield running
        if running.pid:
            running.stop()
        assert_clean(running)


@pytest.fixture
def server(crash_server: RunningServer, registry_gate: Gate) -> Iterator[RunningServer]:
    """A server that runs; builds of the test must be over in the end, and have left nothing."""
    registry_gate.open()
    if not crash_server.pid:
        crash_server.start()
    yield crash_server
    assert_clean(crash_server)


@pytest.fixture(scope="module")
def own_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgresql]:
    """A PostgreSQL that may be stopped."""
    own = OwnPostgresql(tmp_path_factory.mktemp("database"))
    yield own
    own.end()


@pytest.fixture(scope="session")
def stored_servers(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, registry_gate: Gate, postgresql: str
) -> Iterator[Callable[[str], RunningServer]]:
    """A server on each kind of database, made when it is first asked for."""
    made: dict[str, RunningServer] = {}
    with ExitStack() as stack:

        def give(kind: str) -> RunningServer:
            if kind not in made:
                folder = tmp_path_factory.mktemp(kind)
                hook = folder / "hook.sh"
                hook.write_text(HOOK)
                hook.chmod(0o755)
                settings = f'[builds]\nconcurrency = 16\n[hooks.slow]\ncommand = ["{hook}"]\n'
                if kind == "postgresql":
                    url = new_postgresql_database(postgresql, "crashes")
                    settings = f'database_url = "{url}"\n{settings}'
                registries = {REGION: registry_gate.host}
                server = RunningServer(
                    folder / "data", parent=tiny_parent, registries=registries, settings=settings
                )
                made[kind] = stack.enter_context(server)
            return made[kind]

        yield give
        for server in made.values():
            if server.pid:
                server.stop()
            assert_clean(server)


@pytest.fixture(params=DATABASES)
def stored_server(
    request: pytest.FixtureRequest, stored_servers: Callable[[str], RunningServer], registry_gate: Gate
) -> Iterator[RunningServer]:
    """A server on each database, which runs; a hook `slow` waits until the test lets it go on."""
    registry_gate.open()
    server = stored_servers(request.param)
    if not server.pid:
        server.start()
    for name in ("calls", "go"):
        (server.data_dir.parent / f"hook.sh.{name}").unlink(missing_ok=True)
    yield server
    assert_clean(server)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Count runs of builds that a test put through something and that all ended as they should."""

    def count(runs: int, what: str) -> None:
        line = f"{request.node.name}: {runs} run(s) {what}; lost: nothing"
        request.node.user_properties.append((TALLY, line))

    return count
