"""Logs of a deleted image: its own, those of its steps, and its name in its log group."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from imagesmith.build_logs.log_groups import enter_image_log, group_folder
from imagesmith.build_logs.log_removal import remove_logs
from imagesmith.build_logs.logs import BuildLog, log_path, step_log_path
from imagesmith.values.arn import Arn
from testing.clocks import MovingClock
from testing.plans import ARN, PLAN


@pytest.mark.parametrize("group", ["", "/aws/imagebuilder/golden"])
def test_a_log_is_removed_from_its_group_as_well(tmp_path: Path, group: str) -> None:
    """The logs of another build of the same version stay; a second removal finds nothing to do."""
    plans = [replace(PLAN, log_group=group)]
    plans.append(replace(plans[0], image_arn=f"{ARN.rpartition('/')[0]}/9", build=9))
    logs, places = tmp_path / "logs", []
    for plan in plans:
        own = log_path(logs, plan.image_arn)
        step = step_log_path(logs, plan.image_arn, "wf-1", "Step")
        step.parent.mkdir(parents=True)
        for place in (own, step):
            place.write_text("line\n")
        enter_image_log(
            plan, tmp_path, lambda arn: contextlib.closing(BuildLog(log_path(logs, arn), MovingClock()))
        )
        found = group_folder(tmp_path, Arn.parse(ARN), group or f"/aws/imagebuilder/{plan.name}")
        linked = found / plan.version / str(plan.build) / "web.log"
        places.append((own, step, linked))
    assert all(place.exists() for row in places for place in row)
    for _ in range(2):
        remove_logs(plans[0], tmp_path)
        assert [[place.exists() for place in row] for row in places] == [[False] * 3, [True] * 3]
    assert not places[0][2].parent.exists()
