"""What is backed up, and how far a backup has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imagesmith.artifacts.shared import SharedStore
from imagesmith.backups.manifest import BackupEntry


@dataclass(frozen=True)
class BackupSource:
    """What is backed up."""

    data_dir: Path
    database_url: str
    """Of PostgreSQL; empty: SQLite in the data directory."""
    shared: SharedStore | None = None
    secrets: bool = True
    name: str = ""
    """Host and data directory, for a target of several servers."""


@dataclass
class BackupProgress:
    """What a backup has done so far; `report` is called after each file."""

    report: Callable[[BackupProgress], None] = lambda _: None
    files: int = 0
    size: int = 0
    copied: int = 0
    copied_size: int = 0
    warnings: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def add(self, done: TakenEntry) -> None:
        self.files += 1
        self.size += done.entry.size
        if done.copied:
            self.copied += 1
            self.copied_size += done.entry.size
        self.report(self)


@dataclass(frozen=True)
class TakenEntry:
    """An entry, and whether its content had to be copied."""

    entry: BackupEntry
    copied: bool
