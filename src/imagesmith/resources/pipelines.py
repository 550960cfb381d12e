"""Image pipelines: all seven operations (update-image-pipeline.txt; spec/pipelines.md 1, 2, 5, 8).

An update is a full replace: what the request does not carry is removed or back at its default; only name, ARN, date
of creation, tags and the run state stay. The consecutive failures start again at 0 and the schedule is armed anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from imagesmith.resources import runs
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import picked
from imagesmith.resources.errors import already_exists, client_error, invalid_request, invalid_value, quota_exceeded
from imagesmith.resources.images import summary as image_summary
from imagesmith.resources.lists import list_stored, member
from imagesmith.resources.references import MANAGED_OWNER, parse_arn, require
from imagesmith.resources.roles import check_role
from imagesmith.settings import Settings
from imagesmith.store import queries, schedules
from imagesmith.store.numbers import Numbers
from imagesmith.store.queries import Selection
from imagesmith.store.records import Record
from imagesmith.store.schedules import ArmedSchedule
from imagesmith.values.arn import Arn, slug_of
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.schedule import Schedule, ScheduleError, UnknownZone, parse_schedule
from imagesmith.workflows import pipeline_log

Request = Mapping[str, Any]

KIND = "image-pipeline"
_ARN = "imagePipelineArn"
_COPIED = (
    "description", "imageRecipeArn", "containerRecipeArn", "infrastructureConfigurationArn",
    "distributionConfigurationArn", "imageScanningConfiguration", "workflows", "executionRole",
    "loggingConfiguration", "imageTags",
)  # fmt: skip
_REFERENCES = (*runs.RECIPE_MEMBERS, "infrastructureConfigurationArn", "distributionConfigurationArn")
_RUN_STATE = ("arn", "name", "dateCreated", "dateLastRun", "lastRunStatus")
_FILTERS = {
    name: member(name)
    for name in (
        "description", "distributionConfigurationArn", "imageRecipeArn", "containerRecipeArn",
        "infrastructureConfigurationArn", "name", "status",
    )
}  # fmt: skip

_read_schedule = lru_cache(maxsize=1024)(parse_schedule)
"""An update seldom changes the schedule, and many pipelines share one; what was read is frozen."""

ANCHOR = "_scheduleAnchor"
"""Where a rate counts from: the moment its text was set (spec/pipelines.md 2.3). Not shown."""

VERSION = "_scheduleVersion"
"""Counts up with every update, so that a tick armed before it is recognised. Not shown."""


def create(call: Call, request: Request) -> dict[str, Any]:
    schedule = _check(call, request)
    arn = str(call.arn(KIND, slug_of(request["name"])))
    recipe, needs = runs.check_references(call, request)
    if queries.get(call.tx, arn) is not None:
        raise already_exists(KIND, arn)
    limit = call.settings.quotas.image_pipelines
    if queries.count(call.tx, call.own(KIND)) >= limit:
        raise quota_exceeded("image pipelines", limit)
    call.end_of_checks()
    kept = {"arn": arn, "name": request["name"], "dateCreated": call.stamp}
    document = _document(call, request, platform=recipe.document["platform"], kept=kept, earlier={})
    record = Record(
        arn=arn, account=call.account, region=call.region, kind=KIND, slug=slug_of(request["name"]),
        name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
        status=document["status"],
    )  # fmt: skip
    queries.insert(call.tx, record, needs)
    _arm(call, record, schedule)
    return {_ARN: arn}


def update(call: Call, request: Request) -> dict[str, Any]:
    """Replace every settable member; a recipe of the other kind is refused (spec/api.md 4.2, 4.3)."""
    schedule = _check(call, request)
    if Arn.parse(request[_ARN]).owner == MANAGED_OWNER:
        raise client_error(
            f"The pipeline {request[_ARN]} belongs to the service; only pipelines of an account change."
        )
    record = require(call, request[_ARN], KIND, path=_ARN)
    platform, needs = record.document["platform"], None
    if not _names_the_same(request, record.document):
        recipe, needs = runs.check_references(call, request)
        platform = recipe.document["platform"]
    if runs.recipe_member(request) not in record.document:
        raise invalid_request(
            f"The pipeline {record.arn} cannot change between an image recipe and a container recipe."
        )
    kept = picked(record.document, _RUN_STATE)
    document = _document(call, request, platform=platform, kept=kept, earlier=record.document)
    updated = replace(record, document=document, status=document["status"])
    queries.replace(call.tx, updated, needs)
    _arm(call, updated, schedule)
    return {_ARN: record.arn}


def _names_the_same(request: Request, document: Mapping[str, Any]) -> bool:
    """Whether an update refers to exactly what the pipeline refers to: that is there, for it cannot be deleted.

    A wildcard or a workflow may mean something else by now.
    """
    if request.get("workflows") or document.get("workflows"):
        return False
    if any(request.get(name) != document.get(name) for name in _REFERENCES):
        return False
    return not Arn.parse(request[runs.recipe_member(request)]).has_wildcard


def _check(call: Call, request: Request) -> Schedule | None:
    """The rules that need no other resource; gives the schedule of the request, read."""
    runs.check_members(call, request)
    check_role(call, request)
    schedule = request.get("schedule")
    if schedule is None:
        return None
    if "scheduleExpression" not in schedule:
        raise invalid_value("schedule.scheduleExpression", "schedule.scheduleExpression cannot be null.")
    try:
        return _read_schedule(
            schedule["scheduleExpression"],
            schedule.get("timezone"),
            lenient=call.settings.schedules.lenient_cron,
        )
    except ScheduleError as error:
        raise invalid_value("schedule.scheduleExpression", error.detail) from error
    except UnknownZone as error:
        raise invalid_value("schedule.timezone", f"{error}") from error


def _document(
    call: Call,
    request: Request,
    *,
    platform: str,
    kept: Mapping[str, Any],
    earlier: Mapping[str, Any],
) -> dict[str, Any]:
    """The document after a create or an update: the same request gives the same settable members."""
    document = {
        **kept,
        **picked(request, _COPIED),
        "platform": platform,
        "enhancedImageMetadataEnabled": request.get("enhancedImageMetadataEnabled", True),
        "imageTestsConfiguration": runs.tests_configuration(request),
        "status": request.get("status", "ENABLED"),
        "dateUpdated": call.stamp,
        "consecutiveFailures": 0,
        VERSION: int(earlier.get(VERSION, 0)) + 1,
    }
    if "schedule" in request:
        document["schedule"] = {
            "timezone": "UTC",
            "pipelineExecutionStartCondition": "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE",
            **request["schedule"],
        }
        document[ANCHOR] = _anchor(call, document["schedule"], earlier)
    return document


def _anchor(call: Call, schedule: Mapping[str, Any], earlier: Mapping[str, Any]) -> str:
    """The same rate text keeps its anchor over an update (spec/pipelines.md 2.3)."""
    before = earlier.get("schedule", {}).get("scheduleExpression")
    if before == schedule["scheduleExpression"] and ANCHOR in earlier:
        return str(earlier[ANCHOR])
    # runs are shown and planned in whole minutes (spec/pipelines.md 10, no. 11)
    return iso_instant(call.now.replace(second=0, microsecond=0))


def armed_schedule(record: Record, since: datetime, next_fire: datetime | None) -> ArmedSchedule | None:
    """The row of a pipeline that fires next at `next_fire`; None for None. `since`: see store.schedules."""
    if next_fire is None:
        return None
    document = record.document
    return ArmedSchedule(
        record.arn, record.account, record.region,
        expression=document["schedule"]["scheduleExpression"],
        timezone=document["schedule"]["timezone"],
        anchor=parse_instant(document[ANCHOR]),
        version=int(document.get(VERSION, 0)),
        since=since,
        next_fire=next_fire,
    )  # fmt: skip


def _arm(call: Call, record: Record, schedule: Schedule | None) -> None:
    """Give the clock the fire time that follows now, in the same unit of work (spec/pipelines.md 1)."""
    following = None
    if schedule is not None and record.status == "ENABLED":
        following = _next_run(schedule, call.now, record.document[ANCHOR])
    row = armed_schedule(record, call.now, following)
    if row is None:
        schedules.disarm(call.tx, [record.arn])
        return
    schedules.arm(call.tx, [row])
    if call.wake_clock is not None:
        call.effects.append(partial(call.wake_clock, row.next_fire))


def _next_run(schedule: Schedule, now: datetime, anchor: str) -> datetime | None:
    following = _run_after_minute(schedule, now.replace(second=0, microsecond=0), anchor)
    if following is None or following > now:
        return following
    return schedule.next_after(now, anchor=parse_instant(anchor))  # an anchor within a minute


@lru_cache(maxsize=1024)
def _run_after_minute(schedule: Schedule, minute: datetime, anchor: str) -> datetime | None:
    """Runs are whole minutes: many updates of one minute ask for the same one."""
    return schedule.next_after(minute, anchor=parse_instant(anchor))


def _with_next_runs(call: Call, shown: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pipelines as Get and List show them: dateNextRun is what the clock's row says, absent without a row."""
    following = schedules.next_fires(call.tx, [item["arn"] for item in shown])
    return [
        {**item, "dateNextRun": iso_instant(following[item["arn"]])} if item["arn"] in following else item
        for item in shown
    ]


def get(call: Call, request: Request) -> dict[str, Any]:
    record = require(call, request[_ARN], KIND, path=_ARN)
    return {"imagePipeline": _with_next_runs(call, [record.shown])[0]}


def delete(call: Call, request: Request) -> dict[str, Any]:
    """Remove the pipeline and its schedule; images and running builds stay (spec/pipelines.md 8)."""
    record = require(call, request[_ARN], KIND, path=_ARN)
    queries.delete(call.tx, record.arn)
    schedules.disarm(call.tx, [record.arn])
    schedules.forget_runs(call.tx, record.arn)
    return {_ARN: record.arn}


def list_all(call: Call, _request: Request) -> dict[str, Any]:
    """Full pipelines, not summaries."""
    key = "imagePipelineList"
    page = list_stored(call, call.own(KIND), key=key, filters=_FILTERS, show=lambda record: record.shown)
    return {**page, key: _with_next_runs(call, page[key])}


def list_images(call: Call, request: Request) -> dict[str, Any]:
    """Every image that carries this pipeline's ARN, also when the pipeline is gone."""
    parse_arn(call, request[_ARN], path=_ARN, kind=KIND)
    selection = Selection(account=call.account, region=call.region, kind="image", source=request[_ARN])
    return list_stored(
        call,
        selection,
        key="imageSummaryList",
        filters={"name": member("name"), "version": lambda record: [str(record.version)]},
        show=image_summary,
    )


def start_execution(call: Call, request: Request) -> dict[str, Any]:
    """A manual run: also when DISABLED, whatever the start condition (spec/pipelines.md 5)."""
    record = require(call, request[_ARN], KIND, path=_ARN)
    resolved = runs.resolve_run(call, record.document)
    started = prepare_pipeline_run(
        call, record, resolved, tags=request.get("tags", {}), build_type="USER_INITIATED"
    )
    store_pipeline_runs(call, [started])
    return {"imageBuildVersionArn": started.run.image.arn}


@dataclass(frozen=True)
class PipelineRun:
    """A run of a pipeline that is not stored yet, and the pipeline with its new run state."""

    pipeline: Record
    run: runs.PreparedRun
    because: tuple[str, str] | None = None
    """The decision that led to it: stage and text of a line of the pipeline log."""


def prepare_pipeline_run(
    call: Call,
    record: Record,
    resolved: runs.ResolvedRun,
    *,
    tags: Mapping[str, str],
    build_type: str,
    counted: bool = True,
    numbers: Numbers | None = None,
    because: tuple[str, str] | None = None,
) -> PipelineRun:
    """Number a run of a pipeline with its current members; see runs.prepare_run. Raises ApiError."""
    group = record.document.get("loggingConfiguration", {}).get("imageLogGroupName")
    run = runs.prepare_run(
        call, record.document, resolved,
        pipeline=record, tags=tags, build_type=build_type, counted=counted, numbers=numbers,
        log_group=group,
    )  # fmt: skip
    document = {**record.document, "dateLastRun": call.stamp, "lastRunStatus": "PENDING"}
    return PipelineRun(replace(record, document=document), run, because)


def store_pipeline_runs(call: Call, started: Sequence[PipelineRun]) -> None:
    """Write the runs and the run state of their pipelines; engine and logs hear of them after the commit."""
    runs.store_runs(call, [item.run for item in started])
    queries.replace_documents(call.tx, {item.pipeline.arn: item.pipeline.document for item in started})
    for item in started:
        call.effects.append(partial(_tell_started, call.settings, item, call.now))


def _tell_started(settings: Settings, started: PipelineRun, now: datetime) -> None:
    image = started.run.image
    lines = [started.because] if started.because else []
    lines.append(("run", f"started {image.arn} ({image.document['buildType']})"))
    pipeline_log.tell(settings, started.pipeline, *lines, now=now)
