"""The journal of a run, so that it continues at the right step after a crash or a reboot (spec/components.md 9).

One JSON object per line, appended when something ends; a line that a crash truncated is ignored.

    {"kind": "execution", "version": 1, "id": ..., "fingerprint": ...}     first line
    {"kind": "condition", "at": KEY, "result": "Execute"}
    {"kind": "iteration", "at": KEY, "attempt": 1, "index": 0, "inputs": [...], "outputs": [...]}
    {"kind": "reboot", "at": KEY}
    {"kind": "step", "at": KEY, ...}                                      the step ended

KEY is `document/phase/step`; keys of nested documents begin with the key of the step that runs them. The file holds
unmasked values of outputs, also secret ones, and is therefore readable by its owner only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

VERSION: Final = 1

JournalEntry = Mapping[str, Any]


class StepJournal(Protocol):
    def load(self) -> Iterable[JournalEntry]:
        """The entries of an earlier, unfinished run, in order."""
        ...

    def append(self, entry: JournalEntry) -> None: ...

    def sync(self) -> None:
        """Flush appended entries to the disk, so that they survive a power failure."""
        ...

    def clear(self) -> None:
        """Delete all entries: the run ended, or another one starts."""
        ...


class NoJournal:
    """Stores nothing: for instances that do not outlive their worker."""

    def load(self) -> Iterable[JournalEntry]:
        return ()

    def append(self, entry: JournalEntry) -> None:
        pass

    def sync(self) -> None:
        pass

    def clear(self) -> None:
        pass


class MemoryJournal:
    """Stores entries for the lifetime of the object."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []

    def load(self) -> Iterable[JournalEntry]:
        return list(self.entries)

    def append(self, entry: JournalEntry) -> None:
        self.entries.append(json.loads(json.dumps(entry)))

    def sync(self) -> None:
        pass

    def clear(self) -> None:
        self.entries.clear()


class FileJournal:
    """Stores entries in a file; its folder must exist."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def load(self) -> list[JournalEntry]:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        entries: list[JournalEntry] = []
        for line in lines[:-1]:
            try:
                entry = json.loads(line)
            except ValueError:
                break  # the lines after a damaged one are not reliable either
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def append(self, entry: JournalEntry) -> None:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._end_cut_line()
        data = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]

    def sync(self) -> None:
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def clear(self) -> None:
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _end_cut_line(self) -> None:
        """Remove a line that a crash left unfinished, so that the next entry starts on its own line."""
        data = self._path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(self._path, data.rfind(b"\n") + 1)


class Progress:
    """The entries of a journal by key: a run checks them before it repeats any work."""

    def __init__(self, journal: StepJournal, entries: Iterable[JournalEntry] = (), *, scope: str = "") -> None:
        self.journal = journal
        self._entries = list(entries)
        self._scope = scope
        self._conditions: dict[str, str] = {}
        self._steps: dict[str, JournalEntry] = {}
        self._iterations: dict[tuple[str, int], list[JournalEntry]] = {}
        self.reboots = 0
        for entry in self._entries:
            self._index(entry)

    def nested(self, key: str) -> Progress:
        """The progress of a document that the step with a key runs."""
        return Progress(self.journal, self._entries, scope=f"{self._scope}{key}>")

    def condition(self, key: str) -> str | None:
        return self._conditions.get(self._scope + key)

    def step(self, key: str) -> JournalEntry | None:
        return self._steps.get(self._scope + key)

    def iterations(self, key: str, attempt: int) -> list[JournalEntry]:
        """The successful iterations of an attempt, in order."""
        return self._iterations.get((self._scope + key, attempt), [])

    def last_attempt(self, key: str) -> int:
        """The highest attempt with a successful iteration; 1 when there is none."""
        return max((number for at, number in self._iterations if at == self._scope + key), default=1)

    def record(self, kind: str, key: str, **content: Any) -> None:
        self.journal.append({"kind": kind, "at": self._scope + key, **content})

    def _index(self, entry: JournalEntry) -> None:
        kind, key = entry.get("kind"), str(entry.get("at", ""))
        if kind == "condition":
            self._conditions[key] = entry["result"]
        elif kind == "step":
            self._steps[key] = entry
        elif kind == "iteration":
            self._iterations.setdefault((key, entry["attempt"]), []).append(entry)
        elif kind == "reboot":
            self.reboots += 1
