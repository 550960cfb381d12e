"""The plan of a machine image that tests of single steps build."""

from __future__ import annotations

from imagesmith.recipes.plan import BuildPlan, PlannedMachine, PlannedParent

ACCOUNT, OTHER, REGION = "123456789012", "210987654321", "eu-west-1"


ARN = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image/web/1.0.0/3"


PLAN = BuildPlan(
    image_arn=ARN, account=ACCOUNT, region=REGION, name="web", version="1.0.0", build=3, kind="machine",
    parent=PlannedParent("machine", "ami-0123456789abcdef0"), components=(), dockerfile="",
    working_directory="/tmp",
    tests_enabled=True, tests_timeout_minutes=720, collect_metadata=True, targets=(),
    variables={"dateTime": "2026-11-23T18:04:10.001Z", "platform": "Linux"}, machine=PlannedMachine(),
)  # fmt: skip
