"""kill -9 at moments spread over a first start, and over a build: the next start works and leaves nothing."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from testing.commands import COMMAND
from testing.crash_support import DATABASES, Tally
from testing.leaks import assert_clean, running_below
from testing.pipeline_support import RunningServer, eventually
from testing.postgresql import new_postgresql_database

pytestmark = pytest.mark.tool

_STARTS = 4
_BUILDS = 4


def settings_for(kind: str, postgresql: str, name: str) -> str:
    return f'database_url = "{new_postgresql_database(postgresql, name)}"\n' if kind == "postgresql" else ""


def started_and_killed(data: Path, seconds: float) -> float:
    """Start a server for the first time and kill it after some time; gives how long the start took, if it ended."""
    begun = time.monotonic()
    errors = data.with_name(f"{data.name}-first")
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--data-dir", str(data)],
            stdout=subprocess.PIPE, stderr=stderr, text=True,
        ) as server,
    ):  # fmt: skip
        assert server.stdout is not None
        if seconds < 0:
            server.stdout.readline()
        else:
            time.sleep(seconds)
        took = time.monotonic() - begun
        server.kill()
    assert "Traceback" not in errors.read_text()
    return took


def killed_first_starts(folder: Path, parent: str, kind: str, postgresql: str, moments: int) -> None:
    """Each on a data directory of its own; afterwards a server starts there and builds."""
    whole = 0.0
    for number in range(moments + 1):
        data = folder / f"data{number}"
        server = RunningServer(data, parent=parent, settings=settings_for(kind, postgresql, f"first{number}"))
        data.chmod(0o700)
        with server:
            # the first is not killed before it is ready, and says how long that takes
            took = started_and_killed(data, -1 if number == 0 else whole * number / (moments + 1))
            whole = whole or took
            server.start()
            if number % 4 == 0:
                server.forge.build(server.forge.recipe(server.forge.component(build="true")))
            server.stop()
            assert "Traceback" not in server.errors.read_text()
            assert_clean(server)


def killed_builds(server: RunningServer, moments: int, seed: int) -> int:
    """Kill the server at random moments of builds; each of them is AVAILABLE in the end."""
    clock = random.Random(seed)
    arns: list[str] = []
    longest = 3.0
    for _ in range(moments):
        forge = server.forge
        begun = time.monotonic()
        component = forge.component(build="echo once > /once; sleep 0.1", test="test -e /once")
        arns.append(forge.start(forge.recipe(component)))
        time.sleep(clock.uniform(0, longest))
        server.kill()
        eventually(lambda: not running_below(server), "everything ends with the server", seconds=10)
        server.start()
        assert "Traceback" not in server.errors.read_text()
        server.forge.finished(arns[-1])
        longest = min(max(time.monotonic() - begun - longest, 1.0), 6.0)
    for arn in arns:
        assert server.log(arn).count("end | AVAILABLE") == 1
    return len(arns)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_first_start_that_is_killed_is_made_good(
    tmp_path: Path, tiny_parent: str, postgresql: str, kind: str, tally: Tally
) -> None:
    """While tables are made, keys, the layout, the storage: nothing half-made is in the way of the next start."""
    killed_first_starts(tmp_path, tiny_parent, kind, postgresql, _STARTS)
    tally(_STARTS, f"were killed in a first start on {kind}")


@pytest.mark.parametrize("kind", DATABASES)
def test_a_build_that_is_killed_at_any_moment_ends_once(
    tmp_path: Path, tiny_parent: str, postgresql: str, kind: str, tally: Tally
) -> None:
    """The server starts again each time, without a traceback, and nothing is left."""
    server = RunningServer(
        tmp_path / "data", parent=tiny_parent, settings=settings_for(kind, postgresql, "anymoment")
    )
    with server:
        server.start()
        count = killed_builds(server, _BUILDS, seed=15)
        server.stop()
        assert_clean(server)
    tally(count, f"were killed at random moments on {kind}")
