"""Reads the audit log of a data directory, oldest line first, file by file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from imagesmith.accounts.audit import FOLDER, SUFFIX
from imagesmith.values.globs import matches
from imagesmith.values.names import iso_instant


@dataclass(frozen=True, kw_only=True)
class AuditQuery:
    """Which lines are wanted; what is not set admits all."""

    since: datetime | None = None
    account: str = ""
    operation: str = ""
    """A pattern with `*` and `?`."""
    result: str = ""

    def admits(self, record: Mapping[str, Any]) -> bool:
        return (
            (self.since is None or str(record.get("time", "")) >= iso_instant(self.since))
            and self.account in ("", record.get("account"))
            and self.result in ("", record.get("result"))
            and (not self.operation or matches(self.operation, str(record.get("operation", "")), ignore_case=True))
        )


def audit_lines(data_dir: Path, query: AuditQuery) -> Iterator[Mapping[str, Any]]:
    """The wanted records. A line that is no record is one with the member `damaged`. Raises OSError."""
    folder = data_dir / FOLDER
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        if query.since is not None and _day_of(path) < query.since.date():
            continue
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                record = _record(line)
                if record is None:
                    yield {"damaged": f"{path}:{number}"}
                elif query.admits(record):
                    yield record


def _day_of(path: Path) -> date:
    try:
        return date.fromisoformat(path.name.removesuffix(SUFFIX))
    except ValueError:
        return date.max  # a file that an operator put there


def _record(line: str) -> Mapping[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
