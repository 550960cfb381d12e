"""Pipeline logs: decisions of the schedule and ends of runs, as text (spec/pipelines.md 9).

    logs/<account>/<region>/pipelines/<pipeline slug>/<YYYY-MM-DD>.log      one file per UTC day
    2026-11-23T10:00:00.031Z tick | scheduled for 2026-11-23T10:00:00Z: base debian-12 1.0.3/2 -> 1.0.4/1
    2026-11-23T10:00:00.031Z run | started arn:aws:imagebuilder:...:image/web/1.0.0/7 (SCHEDULED)
    2026-11-23T10:04:12.907Z run | arn:aws:imagebuilder:...:image/web/1.0.0/7 is AVAILABLE; consecutive failures: 0

Lines are written after the transaction that they describe. A log that cannot be written never undoes or hides a
decision: the problem goes to the server's own log.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from imagesmith.build_logs.log_groups import enter_pipeline_log
from imagesmith.build_logs.logs import BuildLog
from imagesmith.settings import Settings
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn

_log = logging.getLogger(__name__)


def pipeline_log_path(logs: Path, pipeline_arn: str, day: datetime) -> Path:
    """The log of one day. A pipeline's slug has no dots, so it cannot collide with a version of a build log."""
    arn = Arn.parse(pipeline_arn)
    return logs / arn.owner / arn.region / "pipelines" / arn.slug / f"{day.astimezone(UTC):%Y-%m-%d}.log"


def append_lines(settings: Settings, pipeline: Record, *lines: tuple[str, str], now: datetime) -> None:
    """Append lines, each a stage and a text, to the log of a pipeline."""
    path = pipeline_log_path(settings.data_dir / "logs", pipeline.arn, now)
    try:
        log = BuildLog(path, lambda: now)
        try:
            for stage, text in lines:
                log.line(stage, text)
        finally:
            log.close()
        enter_pipeline_log(settings, pipeline, path, now)
    except OSError as error:
        texts = "; ".join(": ".join(line) for line in lines)
        _log.warning("the log of %s cannot be written, or not into its group (%s): %s", pipeline.arn, error, texts)
