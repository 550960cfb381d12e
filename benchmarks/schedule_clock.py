"""The running clock over a million scheduled pipelines, on SQLite and PostgreSQL.

    python benchmarks/schedule_clock.py [--pipelines N] [--due N] [--only sqlite|postgresql] [--postgresql URL]

Measured on each database: a tick with nothing due; ten thousand pipelines due in the same minute until all stand in
the journal of the engine, which begins to carry them out meanwhile, two at a time; recomputing every fire time when
no zone rule changed, when those of one zone did, and when all did; and how late a lone due pipeline starts. The
processor time is that of this process. Without --postgresql a server of the machine is started in a temporary
folder, with its default settings.
"""

from __future__ import annotations

import argparse
import math
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import sqlalchemy as sa

from imagesmith.builds.journal import Journal
from imagesmith.engine.process import EngineProcess
from imagesmith.processes import Cancellation
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.managed import managed_content
from imagesmith.resources.service import Service
from imagesmith.schedule.clock import Scheduler
from imagesmith.schedule.rearm import RearmReport, rearm_all
from imagesmith.settings import Quotas, Settings
from imagesmith.store import tables
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.store.records import microseconds

ACCOUNT, REGION = "123456789012", "eu-west-1"
START = datetime(2026, 11, 23, 12, 0, 20, tzinfo=UTC)
DUE_EXPRESSION = "cron(1 12 * * ? *)"
ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "Europe/Moscow", "Europe/Istanbul", "America/New_York",
    "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Sao_Paulo", "America/St_Johns",
    "Asia/Tokyo", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Shanghai", "Asia/Dubai", "Australia/Sydney",
    "Australia/Lord_Howe", "Pacific/Auckland", "Africa/Casablanca",
)  # fmt: skip
EXPRESSIONS = (
    "cron(15 10 * * ? *)", "cron(30 18 ? * mon-fri *)", "cron(20 8 1 * ? *)", "cron(40 22 ? * tue#2 *)",
    "cron(45 3 L * ? *)", "cron(50 */6 * * ? *)", "cron(25 9 ? jan,jul sun#1 *)", "rate(30 days)",
)  # fmt: skip
TEMPLATE = (
    "FROM {{{ imagebuilder:parentImage }}}\n{{{ imagebuilder:environments }}}\n{{{ imagebuilder:components }}}\n"
)
HOUR = 3_600_000_000


class SetClock:
    """Stands still, until it is told what to read."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.read: Callable[[], datetime] = lambda: self.now

    def __call__(self) -> datetime:
        return self.read()


class Builds:
    """The engine, with a count of what it was given."""

    def __init__(self, journal_url: str) -> None:
        self.started = 0
        self._url = journal_url
        self._engine = EngineProcess(journal_url, _build, concurrency=2)
        self._engine.launch()

    def start(self, key: str) -> None:
        self._engine.queue.start(key)
        self.started += 1

    def start_many(self, keys: Sequence[str]) -> None:
        self._engine.queue.start_many(keys)
        self.started += len(keys)

    def cancel(self, key: str) -> None:
        self._engine.queue.cancel(key)

    def wake(self, key: str) -> None:
        self._engine.queue.wake(key)

    def journalled(self) -> int:
        """How many runs the journal knows."""
        database = Database(self._url)
        schema = "" if database.is_sqlite else "imagesmith_engine."
        with database.read() as tx:
            found = tx.execute(sa.text(f"SELECT count(*) FROM {schema}workflow_status")).scalar_one()
        database.close()
        return int(found)

    def close(self) -> None:
        self._engine.close()


def _build(_key: str, journal: Journal) -> None:
    """A build takes longer than the benchmark."""

    def work(cancellation: Cancellation) -> dict[str, Any]:
        cancellation.wait(3600)
        cancellation.check()
        return {}

    journal.step("build", work)


class Fleet:
    """A server without HTTP over many stored pipelines."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir()
        self.database = Database(url)
        upgrade(self.database)
        self.clock = SetClock(START)
        self.builds = Builds(f"sqlite:///{folder / 'engine.sqlite'}" if self.database.is_sqlite else url)
        settings = Settings(data_dir=folder, account=ACCOUNT, region=REGION, quotas=Quotas(image_pipelines=10**9))
        self.service = Service(
            self.database, settings, clock=self.clock, managed=managed_content(), builds=self.builds
        )

    def scheduler(self) -> Scheduler:
        return Scheduler(self.service, self.database, clock=self.clock)

    def close(self) -> None:
        self.builds.close()
        self.database.close()

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self.service.call(operation, Caller(ACCOUNT, REGION, "root", "request"), request)

    def fill(self, pipelines: int, due: int) -> None:
        """Templates through the API, then copies of their rows."""
        self.call(
            "CreateContainerRecipe", containerType="DOCKER", name="web", semanticVersion="1.0.0",
            parentImage=f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x",
            components=[{"componentArn": f"arn:aws:imagebuilder:{REGION}:aws:component/hello-world-linux/x.x.x"}],
            dockerfileTemplateData=TEMPLATE, targetRepository={"service": "ECR", "repositoryName": "web"},
        )  # fmt: skip
        self.call("CreateInfrastructureConfiguration", name="infra", instanceProfileName="profile")
        wanted = [(expression, zone) for expression in EXPRESSIONS for zone in ZONES]
        each, rest = divmod(pipelines - due, len(wanted))
        counts = {self._template(DUE_EXPRESSION, "UTC", "due"): due}
        for number, (expression, zone) in enumerate(wanted):
            counts[self._template(expression, zone, f"t{number:03d}")] = each + (number < rest)
        indexes = [index for table in (tables.resources, tables.schedules) for index in table.indexes]
        with self.database.write("fill") as tx:
            # made once at the end: keeping six of them in step with a million rows takes several times as long
            for index in indexes:
                index.drop(tx)
            for arn, count in counts.items():
                self._copy(tx, arn, count)
            for index in indexes:
                index.create(tx)
        for arn in counts:
            self.call("DeleteImagePipeline", imagePipelineArn=arn)
        with self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE" if self.database.is_sqlite else "VACUUM ANALYZE")

    def _template(self, expression: str, zone: str, name: str) -> str:
        own = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}"
        made = self.call(
            "CreateImagePipeline", name=f"template-{name}", containerRecipeArn=f"{own}:container-recipe/web/1.0.0",
            infrastructureConfigurationArn=f"{own}:infrastructure-configuration/infra",
            schedule={"scheduleExpression": expression, "timezone": zone},
        )  # fmt: skip
        return str(made["imagePipelineArn"])

    def _copy(self, tx: sa.Connection, arn: str, count: int) -> None:
        """Rows like those of a template, under other names."""
        sqlite = self.database.is_sqlite
        series = (
            "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < :count) SELECT n FROM s)"
            if sqlite
            else "generate_series(1, :count) AS s(n)"
        )
        token = arn.rpartition("/")[2]
        renamed = f"replace({{}}, '{token}', '{token.removeprefix('template-')}-' || n)"
        document = renamed.format("document") if sqlite else f"CAST({renamed.format('document::text')} AS json)"
        columns = {
            "arn": renamed.format("arn"), "slug": renamed.format("slug"), "name": renamed.format("name"),
            "document": document, "created": "created + n",
        }  # fmt: skip
        for table, key, changed in (
            (tables.resources, "arn", columns),
            (tables.schedules, "pipeline_arn", {"pipeline_arn": renamed.format("pipeline_arn")}),
        ):
            names = [column.name for column in table.c]
            chosen = ", ".join(changed.get(item, item) for item in names)
            text = f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {chosen} FROM {table.name}, {series}"
            tx.execute(sa.text(f"{text} WHERE {key} = :arn"), {"arn": arn, "count": count})


def seconds(work: Any) -> float:
    return timed(work)[0]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that went by, and those of the processor in this process."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


def measure(url: str, folder: Path, pipelines: int, due: int) -> None:
    fleet = Fleet(url, folder)
    print(f"{fleet.database.engine.dialect.name}: {pipelines:,} scheduled pipelines", end="", flush=True)
    print(f" stored in {seconds(lambda: fleet.fill(pipelines, due)):.0f} s", flush=True)
    scheduler = fleet.scheduler()
    scheduler.tick()
    quiet = [1000 * seconds(scheduler.tick) for _ in range(500)]
    report("a tick with nothing due", f"median {median(quiet):.2f} ms, worst {max(quiet):.2f} ms", "5 ms")
    rearming(fleet, pipelines)
    fleet.clock.now = START.replace(minute=1, second=0)
    taken, used = timed(scheduler.tick)
    assert (fleet.builds.started, fleet.builds.journalled()) == (due, due)
    each = f"{1000 * taken / due:.2f} ms each, {used:.1f} s of processor time"
    report(f"{due:,} due in one minute", f"all enqueued in {taken:.1f} s ({each})", "30 s")
    lateness(fleet)
    fleet.close()


def rearming(fleet: Fleet, pipelines: int) -> None:
    """Rows are moved by an hour, which is what older zone rules would have left in them."""
    for what, where in (
        ("no rule changed", "1 = 0"),
        (f"one zone of {len(ZONES)} changed", "timezone = 'Europe/Istanbul' AND expression LIKE 'cron%'"),
        ("every rule changed", "1 = 1"),
    ):
        with fleet.database.write("fill") as tx:
            moved = tx.execute(
                sa.text(f"UPDATE schedules SET next_fire = next_fire + {HOUR} WHERE {where}")
            ).rowcount
        results: list[RearmReport] = []
        taken, used = timed(lambda: results.append(rearm_all(fleet.database, now=fleet.clock)))  # noqa: B023
        assert results == [RearmReport(seen=pipelines, changed=moved)], (results, moved)
        figure = f"{taken:.1f} s for {moved:,} rows moved, {used:.1f} s of processor time"
        report(f"re-arming, {what}", figure, "120 s")


def lateness(fleet: Fleet, rounds: int = 100) -> None:
    """The thread at work: a pipeline due at odd instants, one at a time, in a store that is full."""
    since, mark = fleet.clock.now + timedelta(seconds=30), time.monotonic()
    fleet.clock.read = lambda: since + timedelta(seconds=time.monotonic() - mark)
    with fleet.database.read() as tx:
        arn = tx.execute(
            sa.text("SELECT pipeline_arn FROM schedules WHERE expression = :e LIMIT 1"), {"e": DUE_EXPRESSION}
        ).scalar_one()
    scheduler = fleet.scheduler()
    start_recomputed(fleet, scheduler)
    late: list[float] = []
    pause = 0.0
    for _ in range(rounds):
        wanted = fleet.clock() + timedelta(seconds=0.4)
        before = fleet.builds.started
        with fleet.database.write("fill") as tx:
            tx.execute(sa.text("UPDATE schedules SET next_fire = :at WHERE pipeline_arn = :arn"),
                       {"at": microseconds(wanted), "arn": arn})  # fmt: skip
            tx.execute(sa.text("DELETE FROM scheduled_runs"))
        scheduler.wake(wanted)
        while fleet.builds.started == before:
            asleep = time.monotonic()
            time.sleep(0.002)
            pause = max(pause, time.monotonic() - asleep)
        late.append((fleet.clock() - wanted).total_seconds() * 1000)
    scheduler.close()
    late.sort()
    # by rank: between so few values, and beyond the last, there is nothing to interpolate
    rank = math.ceil(0.99 * rounds) - 1
    figure = f"median {median(late):.0f} ms late, p99 {late[rank]:.0f} ms, worst {late[-1]:.0f} ms"
    report("a lone due pipeline", figure, "p99 1 s")
    print(f"  (a sleep of 2 ms beside it took up to {1000 * pause:.0f} ms: what the machine adds)", flush=True)


def start_recomputed(fleet: Fleet, scheduler: Scheduler) -> None:
    """Start the thread and wait until it has recomputed everything, which would move what lateness() sets."""
    with fleet.database.write("fill") as tx:
        last = tx.execute(sa.text("SELECT max(pipeline_arn) FROM schedules")).scalar_one()
        tx.execute(sa.text(f"UPDATE schedules SET next_fire = next_fire + {HOUR} WHERE pipeline_arn = :arn"),
                   {"arn": last})  # fmt: skip
    wrong = next_fire(fleet, last)
    scheduler.start()
    while next_fire(fleet, last) == wrong:
        time.sleep(0.05)


def next_fire(fleet: Fleet, arn: str) -> int:
    with fleet.database.read() as tx:
        query = sa.text("SELECT next_fire FROM schedules WHERE pipeline_arn = :arn")
        return int(tx.execute(query, {"arn": arn}).scalar_one())


def report(what: str, figure: str, goal: str) -> None:
    print(f"  {what:36} {figure}   (goal {goal})", flush=True)


@contextmanager
def local_postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL of the machine's package with default settings on a loopback port."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    subprocess.run(["chown", "postgres:postgres", str(data)], check=True)
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initdb = [*as_user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "imagesmith"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    server = subprocess.Popen(
        [*as_user, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    try:
        for _ in range(200):
            try:
                psycopg.connect(host="127.0.0.1", port=port, user="imagesmith", dbname="postgres").close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        yield f"postgresql+psycopg://imagesmith@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=10_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--postgresql", help="URL of an empty database")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if options.only != "postgresql":
            measure(f"sqlite:///{folder / 'store.sqlite'}", folder / "sqlite", options.pipelines, options.due)
        if options.only == "sqlite":
            return
        if options.postgresql:
            measure(options.postgresql, folder / "postgresql", options.pipelines, options.due)
            return
        place = folder / "server"
        place.mkdir()
        with local_postgresql(place) as url:
            measure(url, folder / "postgresql", options.pipelines, options.due)


if __name__ == "__main__":
    main()
