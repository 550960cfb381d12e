"""Log groups: the names under which logs are found besides their own (spec/api.md 4.1, spec/pipelines.md 9).

    log-groups/<account>/<region>/<group>/<version>/<build>/<image>.log      of an image build
    log-groups/<account>/<region>/<group>/<YYYY-MM-DD>.<pipeline>.log        of a day of a pipeline

A log is there as a second name of the same file (a hard link): written once, live, and kept when the other name is
removed. A day is no folder: making folders is most of what the first line of a log costs. With
`log_groups = "s3://..."` in the settings the tree is what still has to go there (log_shipping).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Settings
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn
from imagesmith.values.names import sha256_hex
from imagesmith.workflows.logs import log_path
from imagesmith.workflows.role_access import OWN_LOG_GROUPS, may_log_to, refused_log_group, role_name

if TYPE_CHECKING:
    from imagesmith.workflows.workshop import Workshop

FOLDER = "log-groups"
_LONGEST = 200
"""Characters of one part of a group's name that become the name of a folder as they are."""


def image_group(plan: BuildPlan) -> str:
    """The log group of a build: the one asked for, or the service's own."""
    return plan.log_group or f"{OWN_LOG_GROUPS}{plan.name}"


def pipeline_group(document: Mapping[str, Any]) -> str:
    """The log group of a pipeline, from its document."""
    group = document.get("loggingConfiguration", {}).get("pipelineLogGroupName")
    return str(group or f"{OWN_LOG_GROUPS}pipeline/{document['name']}")


def group_folder(data_dir: Path, arn: Arn, group: str) -> Path:
    """Where the logs of a group are, for the account and region of an ARN; never outside of the tree."""
    parts = [_folder_name(part) for part in group.split("/") if part]
    return Path(data_dir, FOLDER, arn.owner, arn.region, *parts)


def enter_image_log(shop: Workshop, plan: BuildPlan) -> None:
    """Give the log of a build its name in its group; a problem is told in the log itself and fails nothing."""
    arn = Arn.parse(plan.image_arn)
    data_dir = shop.settings.data_dir
    group = image_group(plan)
    place = group_folder(data_dir, arn, group) / plan.version / str(plan.build) / f"{arn.slug}.log"
    if place.exists():
        return
    with contextlib.suppress(OSError), shop.log(plan.image_arn) as log:
        problem = refused_log_group(plan)
        if not problem:
            try:
                _link(log_path(data_dir / "logs", plan.image_arn), place)
            except OSError as error:
                problem = str(error)
        if problem:
            log.line("workflow", f"warning: the log is not in the group {group}: {problem}")


def enter_pipeline_log(settings: Settings, pipeline: Record, log: Path, day: datetime) -> None:
    """Give the log of a pipeline's day its name in its group, when the role of the pipeline may. Raises OSError."""
    arn = Arn.parse(pipeline.arn)
    group = pipeline_group(pipeline.document)
    folder = group_folder(settings.data_dir, arn, group)
    place = folder / f"{day.astimezone(UTC):%Y-%m-%d}.{arn.slug}.log"
    if place.exists():
        return
    role = settings.roles.get(role_name(pipeline.document.get("executionRole", "")))
    if not settings.roles or may_log_to(group, () if role is None else role.log_groups):
        _link(log, place)


def _link(log: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(log, place)


def _folder_name(part: str) -> str:
    """A part of a group's name as the name of a folder; `%` is in no group's name."""
    if part in (".", ".."):
        return part.replace(".", "%2E")
    return part if len(part) <= _LONGEST else f"{part[:_LONGEST]}%{sha256_hex(part)[:16]}"
