"""Log groups: second names of logs (spec/api.md 4.1, spec/pipelines.md 9).

    log-groups/<account>/<region>/<group>/<version>/<build>/<image>.log      of an image build
    log-groups/<account>/<region>/<group>/<YYYY-MM-DD>.<pipeline>.log        of a day of a pipeline

The second name is a hard link to the same file: written once, live, and kept when the other name is removed. A day
has no folder of its own: making folders is most of the cost of a log's first line. With `log_groups = "s3://..."`
in the settings the tree holds the logs that still have to be shipped (log_shipping).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagesmith.build_logs.logs import BuildLog, log_path
from imagesmith.distribution.role_access import OWN_LOG_GROUPS, may_log_to, refused_log_group, role_name
from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Settings
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn
from imagesmith.values.names import sha256_hex

OpenLog = Callable[[str], contextlib.AbstractContextManager[BuildLog]]
"""Opens the log of an image, by its ARN."""

FOLDER = "log-groups"
_LONGEST = 200
"""Characters of a part of a group's name that stay unchanged in the name of its folder."""


def image_group(plan: BuildPlan) -> str:
    """The log group of a build: the requested one, or the service's own."""
    return plan.log_group or f"{OWN_LOG_GROUPS}{plan.name}"


def pipeline_group(document: Mapping[str, Any]) -> str:
    """The log group of a pipeline, from its document."""
    group = document.get("loggingConfiguration", {}).get("pipelineLogGroupName")
    return str(group or f"{OWN_LOG_GROUPS}pipeline/{document['name']}")


def group_folder(data_dir: Path, arn: Arn, group: str) -> Path:
    """The folder of a group's logs, for the account and region of an ARN; never outside of the tree."""
    parts = [_folder_name(part) for part in group.split("/") if part]
    return Path(data_dir, FOLDER, arn.owner, arn.region, *parts)


def enter_image_log(plan: BuildPlan, data_dir: Path, open_log: OpenLog) -> None:
    """Link the log of a build into its group; a problem is written to the log and does not fail the build."""
    arn = Arn.parse(plan.image_arn)
    group = image_group(plan)
    target = group_folder(data_dir, arn, group) / plan.version / str(plan.build) / f"{arn.slug}.log"
    if target.exists():
        return
    with contextlib.suppress(OSError), open_log(plan.image_arn) as log:
        problem = refused_log_group(plan)
        if not problem:
            try:
                _link(log_path(data_dir / "logs", plan.image_arn), target)
            except OSError as error:
                problem = str(error)
        if problem:
            log.line("workflow", f"warning: the log is not in the group {group}: {problem}")


def enter_pipeline_log(settings: Settings, pipeline: Record, log: Path, day: datetime) -> None:
    """Link the log of a pipeline's day into its group, if the pipeline's role permits it. Raises OSError."""
    arn = Arn.parse(pipeline.arn)
    group = pipeline_group(pipeline.document)
    folder = group_folder(settings.data_dir, arn, group)
    target = folder / f"{day.astimezone(UTC):%Y-%m-%d}.{arn.slug}.log"
    if target.exists():
        return
    role = settings.roles.get(role_name(pipeline.document.get("executionRole", "")))
    if not settings.roles or may_log_to(group, () if role is None else role.log_groups):
        _link(log, target)


def _link(log: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(log, target)


def _folder_name(part: str) -> str:
    """A part of a group's name as the name of a folder; names of groups cannot contain `%`."""
    if part in (".", ".."):
        return part.replace(".", "%2E")
    return part if len(part) <= _LONGEST else f"{part[:_LONGEST]}%{sha256_hex(part)[:16]}"
