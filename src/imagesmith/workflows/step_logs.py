"""Logs of steps in a bucket, where the infrastructure configuration asks for it (spec/workflows.md 12).

    s3://<s3BucketName>/<s3KeyPrefix>/<image name>/<version>/<build>/<workflow execution>/<step>/step.log

A log that cannot be stored fails nothing: the build's own log says so, and has all its lines.
"""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from imagesmith.recipes.plan import BuildPlan
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.role_access import s3_of
from imagesmith.workflows.workshop import Workshop


def ship_step_log(shop: Workshop, plan: BuildPlan, log: BuildLog, *, execution: str, step: str) -> None:
    """Put the log of a step that ended into the bucket of the plan; nothing without one."""
    wanted = plan.variables.get("s3Logs", {}).get("s3Logs")
    if not wanted or not wanted.get("s3BucketName"):
        return
    bucket = str(wanted["s3BucketName"])
    place = f"{plan.name}/{plan.version}/{plan.build}/{execution}/{step}/step.log"
    prefix = str(wanted.get("s3KeyPrefix", ""))
    key = f"{prefix.removesuffix('/')}/{place}" if prefix else place
    try:
        body = shop.step_log(plan.image_arn, execution, step).read_bytes()
        s3_of(plan, shop.s3).client().put_object(Bucket=bucket, Key=key, Body=body)
    except (BotoCoreError, ClientError, OSError) as error:
        log.line("workflow", f"warning: the log of {step} is not in s3://{bucket}/{key}: {error}")
