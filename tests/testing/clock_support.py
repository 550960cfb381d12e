"""A factory without HTTP: the real service and scheduler on a database, a clock that tests move, noted builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagesmith.build_logs.pipeline_log import append_lines, pipeline_log_path
from imagesmith.builds.records import ImageFailure, ImageRecords
from imagesmith.cli.server import make_scheduler
from imagesmith.events.messages import PIPELINE_DISABLED
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.service import Service
from imagesmith.settings import Quotas, Registry, Schedules, Settings
from imagesmith.store import queries, scheduled_runs, schedules
from imagesmith.store.database import Database
from imagesmith.store.events import Event, newest_events
from imagesmith.store.records import Record
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus
from testing.api import DOCUMENT, TEMPLATE
from testing.loaded import managed_content

ACCOUNT, REGION = "123456789012", "eu-west-1"
OWN = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}"
MANAGED = f"arn:aws:imagebuilder:{REGION}:aws"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class SetClock:
    """A clock that stands still until a test moves it."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Builds:
    """A Builder that notes what it was asked for; `broken` refuses, `on_start` hears of each."""

    started: list[str] = field(default_factory=list)
    broken: bool = False
    on_start: Callable[[], object] | None = None

    def start(self, image_arn: str) -> None:
        if self.broken:
            raise RuntimeError("the journal is away")
        self.started.append(image_arn)
        if self.on_start is not None:
            self.on_start()

    def start_many(self, image_arns: Sequence[str]) -> None:
        for image_arn in image_arns:
            self.start(image_arn)

    def cancel(self, image_arn: str) -> None:
        """Nothing runs here."""

    def wake(self, image_arn: str) -> None:
        """Nothing waits here."""


class Factory:
    """One server: its service, its scheduler, and short ways to make what a test needs."""

    def __init__(
        self,
        database: Database,
        data_dir: Path,
        *,
        clock: Callable[[], datetime],
        policy: Schedules | None = None,
        registries: Mapping[str, Registry] | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.settings = Settings(
            data_dir=data_dir, account=ACCOUNT, region=REGION, schedules=policy or Schedules(),
            registries=registries or {}, quotas=Quotas(image_pipelines=10_000),
        )  # fmt: skip
        self.builds = Builds()
        self.service = Service(database, self.settings, clock=clock, managed=managed_content(), builds=self.builds)
        self.scheduler = make_scheduler(self.service, database, self.settings, clock=clock)
        self.service.with_clock(self.scheduler.wake)
        self.records = ImageRecords(
            database,
            clock,
            log_run=lambda pipeline, line: append_lines(self.settings, pipeline, ("run", line), now=clock()),
        )

    def call(self, operation: str, *, region: str = REGION, **request: Any) -> Mapping[str, Any]:
        return self.service.call(operation, Caller(ACCOUNT, region, "root", "request"), request)

    def component(self, version: str = "1.0.0", name: str = "hello") -> str:
        members = {"name": name, "semanticVersion": version, "platform": "Linux", "data": DOCUMENT}
        return str(self.call("CreateComponent", **members)["componentBuildVersionArn"])

    def recipe(self, name: str = "web", version: str = "1.0.0", **members: Any) -> str:
        request = {
            "containerType": "DOCKER", "name": name, "semanticVersion": version,
            "parentImage": f"{MANAGED}:image/debian-x86-12/x.x.x",
            "components": [{"componentArn": f"{MANAGED}:component/hello-world-linux/x.x.x"}],
            "dockerfileTemplateData": TEMPLATE,
            "targetRepository": {"service": "ECR", "repositoryName": name}, **members,
        }  # fmt: skip
        return str(self.call("CreateContainerRecipe", **request)["containerRecipeArn"])

    def infrastructure(self, name: str = "infra") -> str:
        request = {"name": name, "instanceProfileName": "profile"}
        answer = self.call("CreateInfrastructureConfiguration", **request)
        return str(answer["infrastructureConfigurationArn"])

    def pipeline(
        self, expression: str | None = "cron(0 * * * ? *)", *, name: str = "pipe", always: bool = True,
        zone: str = "UTC", failures: int | None = None, **members: Any,
    ) -> str:  # fmt: skip
        """A scheduled pipeline; `always`: without the dependency condition."""
        members.setdefault("containerRecipeArn", f"{OWN}:container-recipe/web/1.0.0")
        members.setdefault("infrastructureConfigurationArn", f"{OWN}:infrastructure-configuration/infra")
        if expression is not None:
            members["schedule"] = schedule(expression, always=always, zone=zone, failures=failures)
        return str(self.call("CreateImagePipeline", name=name, **members)["imagePipelineArn"])

    def update(self, arn: str, **members: Any) -> None:
        document = self.get(arn).document
        for name in ("containerRecipeArn", "infrastructureConfigurationArn"):
            members.setdefault(name, document[name])
        self.call("UpdateImagePipeline", imagePipelineArn=arn, **members)

    def get(self, arn: str) -> Record:
        with self.database.read() as tx:
            record = queries.get(tx, arn)
        assert record is not None
        return record

    def edit(self, arn: str, **members: Any) -> None:
        """Change a stored document behind everyone's back."""
        with self.database.write("edit") as tx:
            record = queries.get(tx, arn)
            assert record is not None
            status = members.get("status", record.status)
            queries.replace(tx, replace(record, document={**record.document, **members}, status=status))

    def row(self, arn: str) -> schedules.ArmedSchedule | None:
        with self.database.read() as tx:
            return schedules.of_pipeline(tx, arn)

    def edit_row(self, arn: str, **members: Any) -> None:
        """Change an armed row, as an older version or older zone rules may have left it."""
        row = self.row(arn)
        assert row is not None
        with self.database.write("edit") as tx:
            schedules.arm(tx, [replace(row, **members)])

    def tick_at(self, moment: datetime) -> list[str]:
        """Set the clock, tick, and give the images that were started by it."""
        assert isinstance(self.clock, SetClock)
        self.clock.now = moment
        before = len(self.builds.started)
        self.scheduler.tick()
        return self.builds.started[before:]

    def next_run(self, arn: str) -> str | None:
        """What Get shows; it must say what the clock's row says."""
        with self.database.read() as tx:
            row = schedules.of_pipeline(tx, arn)
        shown: str | None = self.call("GetImagePipeline", imagePipelineArn=arn)["imagePipeline"].get("dateNextRun")
        assert (None if row is None else iso_instant(row.next_fire)) == shown
        return shown

    def runs(self, arn: str) -> list[tuple[datetime, str]]:
        """Every instant that was run and the image it made."""
        with self.database.read() as tx:
            return [(run.scheduled_for, run.image_arn) for run in scheduled_runs.runs_of(tx, arn)]

    def images(self, arn: str) -> list[str]:
        """Every image of a pipeline, oldest first."""
        answer = self.call("ListImagePipelineImages", imagePipelineArn=arn, maxResults=25)
        return [item["arn"] for item in reversed(answer["imageSummaryList"])]

    def events(self, kind: str = PIPELINE_DISABLED) -> list[Event]:
        """What is in the outbox of one kind, newest first."""
        with self.database.read() as tx:
            return [event for event in newest_events(tx, ACCOUNT, REGION, 100) if event.detail_type == kind]

    def finish(self, image_arn: str, status: str = "AVAILABLE") -> None:
        failure = ImageFailure("disk full", {}) if status == "FAILED" else None
        self.records.finish(image_arn, ImageStatus(status), failure=failure)

    def log(self, arn: str) -> str:
        """Today's pipeline log."""
        path = pipeline_log_path(self.settings.data_dir / "logs", arn, self.clock())
        return path.read_text() if path.exists() else ""


def schedule(
    expression: str, *, always: bool = True, zone: str = "UTC", failures: int | None = None
) -> dict[str, Any]:
    condition = "EXPRESSION_MATCH_ONLY" if always else "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE"
    made: dict[str, Any] = {
        "scheduleExpression": expression, "timezone": zone, "pipelineExecutionStartCondition": condition
    }  # fmt: skip
    if failures is not None:
        made["autoDisablePolicy"] = {"failureCount": failures}
    return made


MakeFactory = Callable[..., Factory]
"""Makes a server with other settings of schedules."""
