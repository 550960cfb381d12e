"""Long simulated times: two servers for a day, a year over both changes of daylight saving time with restarts.

The year has 2,000 pipelines; IMAGESMITH_SIMULATED_PIPELINES is a smaller number for those in a hurry.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagesmith.store import scheduled_runs, schedules
from imagesmith.store.database import Database
from imagesmith.values.schedule import parse_schedule
from testing.clock_support import NOON, Factory, SetClock

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca", "UTC")
YEARLY = (
    "cron(30 2 ? 3,4,9,10,11 sun *)",
    "cron(30 1 ? 3,4,10,11 sun *)",
    "cron(0 3 ? * sunL *)",
    "cron(15 2 L * ? *)",
    "cron(45 1 1,15 * ? *)",
    "cron(0 12 LW * ? *)",
    "cron(30 0 ? * tue#2 *)",
    "cron(0 2-3/1 29 3 ? *)",
    "cron(*/30 0-3 25 10 ? *)",
    "rate(19 days)",
)
DAILY = (
    "cron(0 * * * ? *)", "cron(*/15 8-18 * * ? *)", "cron(30 2 * * ? *)", "rate(45 minutes)", "rate(7 hours)",
    "cron(10,40 */3 ? * mon-fri *)",
)  # fmt: skip


def expected(
    pipelines: dict[str, tuple[str, str]], since: datetime, until: datetime
) -> Counter[tuple[str, datetime]]:
    """Every instant of every pipeline in (since, until], each once."""
    instants: Counter[tuple[str, datetime]] = Counter()
    for arn, (expression, zone) in pipelines.items():
        rule = parse_schedule(expression, zone)
        instant = rule.next_after(since, since)
        while instant is not None and instant <= until:
            instants[arn, instant] += 1
            instant = rule.next_after(instant, since)
    return instants


def fill(factory: Factory, count: int, expressions: Sequence[str]) -> dict[str, tuple[str, str]]:
    factory.recipe()
    factory.infrastructure()
    made: dict[str, tuple[str, str]] = {}
    for number in range(count):
        expression = expressions[number // len(ZONES) % len(expressions)]
        zone = ZONES[number % len(ZONES)]
        arn = factory.pipeline(expression, name=f"p{number:05d}", zone=zone)
        made[arn] = (expression, zone)
    return made


def runs(database: Database, arns: dict[str, tuple[str, str]]) -> Counter[tuple[str, datetime]]:
    """What was run; each run made exactly one image, which carries its pipeline."""
    found: Counter[tuple[str, datetime]] = Counter()
    with database.read() as tx:
        for arn in arns:
            noted = scheduled_runs.runs_of(tx, arn)
            found.update((arn, run.scheduled_for) for run in noted)
            assert len({run.image_arn for run in noted}) == len(noted)
    return found


def test_two_servers_share_a_day_without_a_duplicate_or_a_miss(database: Database, tmp_path: Path) -> None:
    """Both look at the same moments at the same time; every instant is run by exactly one of them."""
    clock = SetClock()
    servers = [Factory(database, tmp_path / "data", clock=clock) for _ in range(2)]
    pipelines = fill(servers[0], 36, DAILY)
    problems: list[BaseException] = []
    start = threading.Barrier(2)

    def run(server: Factory, moments: Sequence[datetime]) -> None:
        try:
            for moment in moments:
                start.wait(60)
                clock.now = moment
                server.scheduler.tick()
        except BaseException as problem:
            problems.append(problem)
            start.abort()

    # a common grid, so that every moment is due for several pipelines, and both servers see each
    moments = [NOON + timedelta(minutes=5 * step, seconds=2) for step in range(1, 24 * 12 + 1)]
    threads = [threading.Thread(target=run, args=(server, moments)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    wanted = expected(pipelines, NOON, moments[-1])
    assert runs(database, pipelines) == wanted
    started = Counter(server_image for server in servers for server_image in server.builds.started)
    assert len(started) == wanted.total() and set(started.values()) == {1}
    assert all(server.builds.started for server in servers)


@pytest.mark.timeout(3600)
def test_a_year_over_both_changes_with_ten_restarts_runs_each_instant_once(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """2026 in six zones: skipped in spring, once in autumn, and nothing lost or doubled by a restart."""
    count = int(os.environ.get("IMAGESMITH_SIMULATED_PIPELINES", "2000"))
    since = datetime(2026, 1, 1, tzinfo=UTC)
    until = datetime(2027, 1, 1, tzinfo=UTC)
    clock = SetClock(since)
    server = Factory(sqlite_database, tmp_path / "data", clock=clock)
    pipelines = fill(server, count, YEARLY)
    rng = random.Random(5)
    restarts = sorted(since + timedelta(seconds=rng.randrange(365 * 86400)) for _ in range(10))
    # not what was fired itself: images of a year would be looked through again by every collection of garbage
    fired: Counter[tuple[str, datetime | None]] = Counter()
    started: list[str] = []
    while True:
        with sqlite_database.read() as tx:
            following = schedules.earliest_after(tx, clock.now)
        if following is None or following > until:
            break
        if restarts and restarts[0] < following:
            # the new server is up some seconds after the instant that the old one did not live to see
            restarts.pop(0)
            started += server.builds.started
            clock.now = following + timedelta(seconds=rng.randrange(50))
            server = Factory(sqlite_database, tmp_path / "data", clock=clock)
            server.scheduler.recompute()
        else:
            clock.now = following + timedelta(milliseconds=rng.randrange(900))
        fired.update(
            (item.pipeline_arn, item.decision.scheduled_for) for item in server.scheduler.tick() if item.started
        )
    started += server.builds.started
    wanted = expected(pipelines, since, until)
    assert not restarts
    assert fired == wanted
    assert len(started) == len(set(started)) == wanted.total()
