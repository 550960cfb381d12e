"""Image pipelines: all seven operations (update-image-pipeline.txt; spec/pipelines.md 1, 2, 5, 8).

An update is a full replace: a member that is absent from the request is removed or gets its default; only name,
ARN, date of creation, tags and the run state stay. Consecutive failures restart at 0 and the schedule is armed
again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from imagesmith.build_logs import pipeline_log
from imagesmith.resources import pipeline_schedules, run_members, runs
from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import already_exists, client_error, invalid_request, invalid_value, quota_exceeded
from imagesmith.resources.images import summary as image_summary
from imagesmith.resources.lists import list_stored, member
from imagesmith.resources.parent_warnings import parent_warning
from imagesmith.resources.resolution import MANAGED_OWNER, parse_arn, require
from imagesmith.resources.resolved_runs import ResolvedRun, resolve_run
from imagesmith.resources.roles import check_role
from imagesmith.resources.run_plans import RunOrder
from imagesmith.settings import Settings
from imagesmith.store import queries, scheduled_runs, schedules
from imagesmith.store.numbers import Numbers
from imagesmith.store.queries import Selection
from imagesmith.store.records import Record
from imagesmith.values.api import ApiRequest, ApiResponse
from imagesmith.values.arn import Arn, slug_of
from imagesmith.values.schedule import Schedule, ScheduleError, UnknownZone
from imagesmith.values.states import ImageStatus, PipelineStatus

_log = logging.getLogger(__name__)

KIND = "image-pipeline"
_ARN = "imagePipelineArn"
_COPIED = (
    "description", "imageRecipeArn", "containerRecipeArn", "infrastructureConfigurationArn",
    "distributionConfigurationArn", "imageScanningConfiguration", "workflows", "executionRole",
    "loggingConfiguration", "imageTags",
)  # fmt: skip
_REFERENCES = (*run_members.RECIPE_MEMBERS, "infrastructureConfigurationArn", "distributionConfigurationArn")
_RUN_STATE = ("arn", "name", "dateCreated", "dateLastRun", "lastRunStatus")
_FILTERS = {
    name: member(name)
    for name in (
        "description", "distributionConfigurationArn", "imageRecipeArn", "containerRecipeArn",
        "infrastructureConfigurationArn", "name", "status",
    )
}  # fmt: skip


def create(call: Call, request: ApiRequest) -> ApiResponse:
    check_role(call, request)
    arn = str(call.arn(KIND, slug_of(request["name"])))
    recipe, needs = run_members.check_references(call, request)
    if queries.get(call.tx, arn) is not None:
        raise already_exists(KIND, arn)
    limit = call.settings.quotas.image_pipelines
    if queries.count(call.tx, call.own(KIND)) >= limit:
        raise quota_exceeded("image pipelines", limit)
    call.stop_if_dry_run()
    kept = {"arn": arn, "name": request["name"], "dateCreated": call.stamp}
    document = _document(call, request, platform=recipe.document["platform"], kept=kept)
    record = Record(
        arn=arn, account=call.account, region=call.region, kind=KIND, slug=slug_of(request["name"]),
        name=request["name"], created=call.now, document=document, tags=request.get("tags", {}),
        status=document["status"], internal=pipeline_schedules.internal_members(call, document, None),
    )  # fmt: skip
    queries.insert(call.tx, record, needs)
    _warn_of_parent(call, record, recipe)
    pipeline_schedules.arm(call, record, _schedule(request, call.settings))
    return {_ARN: arn}


def update(call: Call, request: ApiRequest) -> ApiResponse:
    """Replace every settable member; a recipe of the other kind is refused (spec/api.md 4.2, 4.3)."""
    check_role(call, request)
    if Arn.parse(request[_ARN]).owner == MANAGED_OWNER:
        raise client_error(
            f"The pipeline {request[_ARN]} belongs to the service; only pipelines of an account can be changed."
        )
    record = require(call, request[_ARN], KIND, path=_ARN)
    platform, needs = record.document["platform"], None
    if not _names_the_same(request, record.document):
        recipe, needs = run_members.check_references(call, request)
        platform = recipe.document["platform"]
    if run_members.recipe_member(request) not in record.document:
        raise invalid_request(
            f"The pipeline {record.arn} cannot change between an image recipe and a container recipe."
        )
    kept = select_members(record.document, _RUN_STATE)
    document = _document(call, request, platform=platform, kept=kept)
    updated = replace(
        record,
        document=document,
        status=document["status"],
        internal=pipeline_schedules.internal_members(call, document, record),
    )
    queries.replace(call.tx, updated, needs)
    pipeline_schedules.arm(call, updated, _schedule(request, call.settings))
    return {_ARN: record.arn}


def _names_the_same(request: ApiRequest, document: Mapping[str, Any]) -> bool:
    """Whether an update has the references of the pipeline: those exist, for they cannot be deleted.

    A wildcard or a workflow may have another meaning by now.
    """
    if request.get("workflows") or document.get("workflows"):
        return False
    if any(request.get(name) != document.get(name) for name in _REFERENCES):
        return False
    return not Arn.parse(request[run_members.recipe_member(request)]).has_wildcard


def check_schedule(request: ApiRequest, settings: Settings) -> None:
    """The schedule has an expression that can be read, and a known time zone. Raises ApiError."""
    _schedule(request, settings)


def _schedule(request: ApiRequest, settings: Settings) -> Schedule | None:
    schedule = request.get("schedule")
    if schedule is None:
        return None
    if "scheduleExpression" not in schedule:
        raise invalid_value("schedule.scheduleExpression", "schedule.scheduleExpression cannot be null.")
    try:
        return pipeline_schedules.read_schedule(
            schedule["scheduleExpression"],
            schedule.get("timezone"),
            lenient=settings.schedules.lenient_cron,
        )
    except ScheduleError as error:
        raise invalid_value("schedule.scheduleExpression", error.detail) from error
    except UnknownZone as error:
        raise invalid_value("schedule.timezone", f"{error}") from error


def _document(
    call: Call,
    request: ApiRequest,
    *,
    platform: str,
    kept: Mapping[str, Any],
) -> ApiResponse:
    """The document after a create or an update: equal requests result in equal settable members."""
    document = {
        **kept,
        **select_members(request, _COPIED),
        "platform": platform,
        "enhancedImageMetadataEnabled": request.get("enhancedImageMetadataEnabled", True),
        "imageTestsConfiguration": run_members.tests_configuration(request),
        "status": request.get("status", PipelineStatus.ENABLED),
        "dateUpdated": call.stamp,
        "consecutiveFailures": 0,
    }
    if "schedule" in request:
        document["schedule"] = {
            "timezone": "UTC",
            "pipelineExecutionStartCondition": "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE",
            **request["schedule"],
        }
    return document


def _warn_of_parent(call: Call, pipeline: Record, recipe: Record) -> None:
    warning = parent_warning(call, recipe.document["parentImage"])
    if warning:
        _log.warning("pipeline %s: %s", pipeline.arn, warning)
        log = partial(
            pipeline_log.append_lines, call.settings, pipeline, ("create", f"warning: {warning}"), now=call.now
        )
        call.afterwards(EffectKind.PIPELINE_LOG, pipeline.arn, log)


def get(call: Call, request: ApiRequest) -> ApiResponse:
    record = require(call, request[_ARN], KIND, path=_ARN)
    return {"imagePipeline": pipeline_schedules.with_next_runs(call, [record.to_api()])[0]}


def delete(call: Call, request: ApiRequest) -> ApiResponse:
    """Remove the pipeline and its schedule; images and running builds stay (spec/pipelines.md 8)."""
    record = require(call, request[_ARN], KIND, path=_ARN)
    queries.delete(call.tx, record.arn)
    schedules.disarm(call.tx, [record.arn])
    scheduled_runs.forget_runs(call.tx, record.arn)
    return {_ARN: record.arn}


def list_all(call: Call, _request: ApiRequest) -> ApiResponse:
    """Full pipelines, not summaries."""
    key = "imagePipelineList"
    page = list_stored(call, call.own(KIND), key=key, filters=_FILTERS, show=lambda record: record.to_api())
    return {**page, key: pipeline_schedules.with_next_runs(call, page[key])}


def list_images(call: Call, request: ApiRequest) -> ApiResponse:
    """Every image with this pipeline's ARN, even after the pipeline was deleted."""
    parse_arn(call, request[_ARN], path=_ARN, kind=KIND)
    selection = Selection(account=call.account, region=call.region, kind="image", source=request[_ARN])
    return list_stored(
        call,
        selection,
        key="imageSummaryList",
        filters={"name": member("name"), "version": lambda record: [str(record.version)]},
        show=partial(image_summary, call),
    )


def start_execution(call: Call, request: ApiRequest) -> ApiResponse:
    """A manual run: also when DISABLED, whatever the start condition (spec/pipelines.md 5)."""
    record = require(call, request[_ARN], KIND, path=_ARN)
    resolved = resolve_run(call, record.document)
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
    """The decision behind it: stage and text of a line of the pipeline log."""


def prepare_pipeline_run(
    call: Call,
    record: Record,
    resolved: ResolvedRun,
    *,
    tags: Mapping[str, str],
    build_type: str,
    counted: bool = True,
    numbers: Numbers | None = None,
    because: tuple[str, str] | None = None,
) -> PipelineRun:
    """Number a run of a pipeline with its current members; see runs.prepare_run. Raises ApiError."""
    group = record.document.get("loggingConfiguration", {}).get("imageLogGroupName")
    order = RunOrder(
        record.document, pipeline=record, tags=tags, build_type=build_type, log_group=group or "", counted=counted
    )
    run = runs.prepare_run(call, order, resolved, numbers=numbers)
    document = {**record.document, "dateLastRun": call.stamp, "lastRunStatus": ImageStatus.PENDING}
    return PipelineRun(replace(record, document=document), run, because)


def store_pipeline_runs(call: Call, started: Sequence[PipelineRun]) -> None:
    """Write the runs and the run state of their pipelines; engine and logs are notified after the commit."""
    runs.store_runs(call, [item.run for item in started])
    queries.replace_documents(call.tx, list({item.pipeline.arn: item.pipeline for item in started}.values()))
    for item in started:
        log = partial(_log_started, call.settings, item, call.now)
        call.afterwards(EffectKind.PIPELINE_LOG, item.pipeline.arn, log)


def _log_started(settings: Settings, started: PipelineRun, now: datetime) -> None:
    image = started.run.image
    lines = [started.because] if started.because else []
    lines.append(("run", f"started {image.arn} ({image.document['buildType']})"))
    pipeline_log.append_lines(settings, started.pipeline, *lines, now=now)
