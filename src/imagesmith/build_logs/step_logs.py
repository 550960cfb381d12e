"""Copies of step logs in a bucket, if the infrastructure configuration names one (spec/workflows.md 12).

    s3://<s3BucketName>/<s3KeyPrefix>/<image name>/<version>/<build>/<workflow execution>/<step>/step.log

A log that cannot be stored does not fail the build: the build's own log reports it and has all lines.
"""

from __future__ import annotations

from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from imagesmith.build_logs.logs import BuildLog
from imagesmith.components.services import S3Config
from imagesmith.distribution.role_access import s3_of
from imagesmith.recipes.plan import BuildPlan


def ship_step_log(plan: BuildPlan, path: Path, s3: S3Config, log: BuildLog, *, execution: str, step: str) -> None:
    """Put the log `path` of a step that ended into the bucket of the plan, if the plan has one."""
    wanted = plan.variables.get("s3Logs", {}).get("s3Logs")
    if not wanted or not wanted.get("s3BucketName"):
        return
    bucket = str(wanted["s3BucketName"])
    name = f"{plan.name}/{plan.version}/{plan.build}/{execution}/{step}/step.log"
    prefix = str(wanted.get("s3KeyPrefix", ""))
    key = f"{prefix.removesuffix('/')}/{name}" if prefix else name
    try:
        body = path.read_bytes()
        s3_of(plan, s3).client().put_object(Bucket=bucket, Key=key, Body=body)
    except (BotoCoreError, ClientError, OSError) as error:
        log.line("workflow", f"warning: the log of {step} is not in s3://{bucket}/{key}: {error}")
