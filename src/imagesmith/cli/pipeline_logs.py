"""`imagesmith pipeline logs`: the end of a pipeline's log, which has one file for each UTC day."""

from __future__ import annotations

from datetime import UTC, datetime

from imagesmith.build_logs.logs import LogLine, parse_line
from imagesmith.build_logs.pipeline_log import pipeline_log_path
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.plan import pipeline_arn
from imagesmith.settings import Settings


def last_lines(settings: Settings, name: str, count: int) -> list[LogLine]:
    """The last `count` lines of a pipeline by name or ARN, oldest first. Raises CommandFailed without a log."""
    arn = pipeline_arn(settings, name)
    folder = pipeline_log_path(settings.data_dir / "logs", str(arn), datetime.now(UTC)).parent
    found: list[str] = []
    for day in sorted(folder.glob("*.log"), reverse=True):
        found = day.read_text(errors="replace").splitlines()[-(count - len(found)) :] + found
        if len(found) >= count:
            break
    if not found:
        raise CommandFailed(
            f"there is no log of a pipeline {name}", "it starts with the first run; see: imagesmith pipeline list"
        )
    return [parse_line(line) for line in found]
