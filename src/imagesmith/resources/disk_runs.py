"""Images without a recipe: their record, plan and start (spec/api.md 5.1, 5.3).

DistributeImage distributes a disk that exists, and the imports take one from a bucket. The images share the build
counter of their name and version with images of recipes (spec/api.md 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imagesmith.recipes.plan import BuildPlan, PlannedMachine, PlannedParent, RunPurpose
from imagesmith.resources.call import Call
from imagesmith.resources.resolution import exact_version
from imagesmith.resources.roles import planned_role
from imagesmith.resources.runs import PreparedRun, store_runs
from imagesmith.store import counters, queries
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument
from imagesmith.values.arn import slug_of
from imagesmith.values.states import ImageStatus
from imagesmith.values.version import Version

KIND: Final = "image"
_NOT_IN_SLUGS: Final = re.compile(r"[^a-z0-9_-]")


@dataclass(frozen=True, kw_only=True)
class DiskRun:
    """The request for a run without a build."""

    purpose: RunPurpose
    parent: PlannedParent
    """The disk."""
    name: str
    version: str
    platform: str
    build_type: str
    image_source: str
    os_version: str = ""
    description: str = ""
    """Of the AMI in this Region."""
    distribution: Mapping[str, Any] | None = None
    """The document of a distribution configuration."""
    execution_role: str = ""
    log_group: str = ""
    instance_types: tuple[str, ...] = ()
    image_index: int = 1
    secure_boot: bool = False
    """The last three: of an installation."""
    tags: Mapping[str, str] = field(default_factory=dict)


def start_disk_run(call: Call, run: DiskRun) -> Record:
    """Number, store and enqueue a run; returns the PENDING image. Raises ApiError."""
    # names of AMIs may have characters that ARNs do not have
    slug = _NOT_IN_SLUGS.sub("-", slug_of(run.name))
    version = exact_version(run.version)
    spelling = _spelling(call, slug, version) or run.version
    build = counters.next_number(call.tx, f"{call.account}/{call.region}/{KIND}/{slug}/{version}")
    plan = _plan(call, run, slug=slug, version=spelling, build=build)
    record = Record(
        arn=plan.image_arn, account=call.account, region=call.region, kind=KIND, slug=slug, name=run.name,
        created=call.now, document=_document(call, run, plan), tags=run.tags, version=version, build=build,
        status=ImageStatus.PENDING,
    )  # fmt: skip
    store_runs(call, [PreparedRun(record, plan)])
    return record


def _spelling(call: Call, slug: str, version: Version) -> str:
    """The first spelling of a version stays (spec/api.md 3.3); empty for a new version."""
    stored = queries.versions(call.tx, call.account, call.region, KIND, slug)
    return next((record.parsed.version or "" for record in stored if record.version == version), "")


def _plan(call: Call, run: DiskRun, *, slug: str, version: str, build: int) -> BuildPlan:
    entries = (run.distribution or {}).get("distributions", ())
    machine = PlannedMachine(
        distributions=tuple(entries), description=run.description, instance_types=run.instance_types,
        image_index=run.image_index, secure_boot=run.secure_boot,
    )  # fmt: skip
    return BuildPlan(
        image_arn=str(call.arn(KIND, slug, version=version, build=build)),
        account=call.account, region=call.region, name=run.name, version=version, build=build, kind="machine",
        parent=run.parent, components=(), dockerfile="", working_directory="/tmp",  # noqa: S108 (spec/api.md 4.1)
        tests_enabled=False, tests_timeout_minutes=0, collect_metadata=run.purpose != "distribute", targets=(),
        execution_role=run.execution_role, role=planned_role(call, run.execution_role), log_group=run.log_group,
        variables={"platform": run.platform, "dateTime": call.stamp}, machine=machine, unused=_unused(entries),
        purpose=run.purpose,
    )  # fmt: skip


def _unused(entries: Any) -> tuple[str, ...]:
    """Members that the run does not use; the log names them, since the request was accepted."""
    name = "containerDistributionConfiguration"
    return tuple(f"distributions[{index}].{name}" for index, entry in enumerate(entries) if name in entry)


def _document(call: Call, run: DiskRun, plan: BuildPlan) -> ApiDocument:
    distribution, group = run.distribution, run.log_group
    return {
        "arn": plan.image_arn,
        "type": plan.image_kind.image_type,
        "name": run.name,
        "version": f"{plan.version}/{plan.build}",
        "platform": run.platform,
        "enhancedImageMetadataEnabled": plan.collect_metadata,
        "state": {"status": ImageStatus.PENDING},
        "dateCreated": call.stamp,
        "outputResources": {plan.image_kind.outputs_member: []},
        "buildType": run.build_type,
        "imageSource": run.image_source,
        **({"osVersion": run.os_version} if run.os_version else {}),
        **({"distributionConfiguration": dict(distribution)} if distribution is not None else {}),
        **({"executionRole": run.execution_role} if run.execution_role else {}),
        **({"loggingConfiguration": {"logGroupName": group}} if group else {}),
    }
