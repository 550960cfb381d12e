"""Removes the logs of an image that is deleted: its own, those of its steps, and its name in its log group."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from imagesmith.build_logs.log_groups import group_folder, image_group
from imagesmith.build_logs.logs import log_path
from imagesmith.recipes.plan import BuildPlan
from imagesmith.values.arn import Arn


def remove_logs(plan: BuildPlan, data_dir: Path) -> None:
    """Remove the logs of a build on this host; may be called again. Raises OSError."""
    arn = Arn.parse(plan.image_arn)
    own = log_path(data_dir / "logs", plan.image_arn)
    folder = group_folder(data_dir, arn, image_group(plan)) / plan.version / str(plan.build)
    (folder / f"{arn.slug}.log").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()  # empty, unless another recipe of the name has a log there
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(own.with_suffix(""))
    own.unlink(missing_ok=True)
