"""Caches the disk after each component, so that an unchanged part of a build does not run again.

    overlays/
      lock                       one writer at a time; readers need none
      <key>.json                 an entry: its inputs and its state; mode 0600
      <key>-<random>.qcow2       of an entry with an overlay: hard link of the machine's own file

    key = digest over the previous key and all inputs of the next state
    parent disk --key--> after component 1 --key--> after component 2 --key--> sanitised --key--> image by digest

An entry is written after its file, by link(2), so a reader finds it complete or not at all; files without an entry
are left by a killed process and removed by the next `trim`. An overlay is only valid on the exact file that it was
made on, therefore names are never reused and an existing entry is never replaced while it is fresh.
Left out of a key on purpose: instance type, the time (the age limit covers it), and the builder.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from imagesmith.files import flush, write_atomically
from imagesmith.locks import file_lock
from imagesmith.values.cache_reasons import age_text, changed_names
from imagesmith.values.names import canonical_json, sha256_hex

_KEY_DIGITS: Final = 40
_LONGEST_CHAIN: Final = 64
_MOST_ENTRIES: Final = 10_000
_EARLIER: Final = "an earlier step"
_SHOWN: Final = {"what comes before it": _EARLIER}
"""Names of inputs in messages; the stored names are part of the cache keys, so they stay."""


def next_key(before: str, inputs: Mapping[str, Any]) -> str:
    """The key of the state that `inputs` make of the state `before`."""
    return sha256_hex(canonical_json([before, inputs]))[:_KEY_DIGITS]


@dataclass(frozen=True)
class CachedState:
    """One state of a disk that a build reached."""

    key: str
    before: str
    """Key of the previous state; empty for the parent disk."""
    lineage: str
    """What it is a state of, such as recipe and position: entries of one lineage can be compared."""
    label: str
    """Its name for a person."""
    inputs: Mapping[str, Any]
    made: float
    """Seconds of the epoch."""
    since: float
    """When the oldest part of the chain was made: its freshness."""
    build: str = ""
    """The image build that made it."""
    file: str = ""
    """Name of the overlay's file; empty for an entry that holds values only."""
    on: str = ""
    """Name of its backing file. The state `before` may have been reached again, in another file."""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DiskState:
    """The cached state that the content of a machine's disk comes from."""

    key: str
    since: float
    """Same as in CachedState."""
    below: str | None = ""
    """Key of the entry whose overlay backs the next one; None if it was not kept."""
    on: str = ""
    """Name of that overlay's file."""


@dataclass(frozen=True)
class CachedOverlay:
    """An overlay with its backing chain, oldest first."""

    entry: CachedState
    files: tuple[Path, ...]


class OverlayCache:
    """The cache of one data directory. `now` returns seconds of the epoch."""

    def __init__(self, folder: Path, *, bytes_limit: int, seconds_limit: float, now: Callable[[], float]) -> None:
        self.folder = folder
        self._bytes_limit = bytes_limit
        self._seconds_limit = seconds_limit
        self._now = now

    def find(self, key: str, *, max_age: float) -> CachedOverlay | None:
        """A state that is fresh enough and complete; marks it and its backing chain as used."""
        entry = self._read(key)
        if entry is None or self._now() - entry.since > min(max_age, self._seconds_limit):
            return None
        chain = self._chain(entry)
        if chain is None:
            return None
        self._mark(chain)
        return CachedOverlay(entry, tuple(self.folder / item.file for item in chain if item.file))

    def explain(self, key: str, lineage: str, inputs: Mapping[str, Any], *, max_age: float) -> str:
        """Why `find` returned nothing, in words that follow `cache miss, `."""
        entry = self._read(key)
        if entry is not None:
            age = self._now() - entry.since
            limit = min(max_age, self._seconds_limit)
            if age > limit:
                return (
                    f"the result of {entry.build} is {age_text(age)} old, and at most {age_text(limit)} is allowed"
                )
            return f"a backing file of the result of {entry.build} was removed"
        others = [item for item in self.entries() if item.lineage == lineage]
        if not others:
            return "there is no result of this recipe yet"
        newest = max(others, key=lambda item: item.made)
        changed = ", ".join(changed_names(newest.inputs, inputs, _SHOWN)) or _EARLIER
        return f"{changed} changed since {newest.build}"

    def keep(self, entry: CachedState, overlay: Path | None = None) -> bool:
        """Keep a state; `overlay` is linked, so it must be on this file system and never change again.

        Returns False if another build has kept that state meanwhile, or its backing file was removed: then no later
        state on this overlay can be kept either. Raises OSError.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(self.folder / "lock"):
            if (known := self._read(entry.key)) is not None:
                if self._chain(known) is not None and known.since >= entry.since:
                    return False
                self._remove(known)
            if overlay is not None:
                flush(overlay)
                os.link(overlay, self.folder / entry.file)
            chain = self._chain(entry)
            if chain is None:
                return False
            write_atomically(self._entry_path(entry.key), json.dumps(asdict(entry)))
            self._mark(chain)
            self._trim()
            return self._entry_path(entry.key).exists()

    def trim(self) -> None:
        """Remove entries that are too old or exceed the size limit, and files of killed processes."""
        if self.folder.is_dir():
            with file_lock(self.folder / "lock"):
                self._trim()

    def clear(self) -> int:
        """Remove every entry; returns their number."""
        if not self.folder.is_dir():
            return 0
        with file_lock(self.folder / "lock"):
            found = self.entries()
            for entry in found:
                self._remove(entry)
            self._trim()
        return len(found)

    def entries(self) -> list[CachedState]:
        """All entries, unordered."""
        keys = [path.stem for path in self.folder.glob("*.json")] if self.folder.is_dir() else []
        return [entry for key in keys if (entry := self._read(key)) is not None]

    def size(self, entry: CachedState) -> int:
        """Bytes on the medium of an entry's own file."""
        try:
            return (self.folder / entry.file).stat().st_blocks * 512 if entry.file else 0
        except OSError:
            return 0

    def _trim(self) -> None:
        found = {entry.key: entry for entry in self.entries()}
        for entry in list(found.values()):
            if self._now() - entry.since > self._seconds_limit or self._chain(entry) is None:
                self._remove(entry)
                del found[entry.key]
        # A backing chain is marked as used together, so of equals the topmost overlay is removed first.
        order = sorted(found.values(), key=lambda item: (self._used(item), -item.made))
        total = sum(map(self.size, order))
        for count, entry in enumerate(order):
            if total <= self._bytes_limit and len(order) - count <= _MOST_ENTRIES:
                break
            total -= self.size(entry)
            self._remove(entry)
            del found[entry.key]
        known = {entry.file for entry in found.values()} | {f"{key}.json" for key in found} | {"lock"}
        for path in self.folder.iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)

    def _mark(self, chain: Sequence[CachedState]) -> None:
        """One time for the whole chain: a backing file is never older than its overlays."""
        moment = time.time_ns()
        for item in chain:
            with contextlib.suppress(OSError):
                os.utime(self._entry_path(item.key), ns=(moment, moment))

    def _remove(self, entry: CachedState) -> None:
        """Remove the entry first: a file without an entry is garbage."""
        self._entry_path(entry.key).unlink(missing_ok=True)
        if entry.file:
            (self.folder / entry.file).unlink(missing_ok=True)

    def _chain(self, entry: CachedState) -> Sequence[CachedState] | None:
        """The entry with its backing chain, oldest first; None if a part of it was removed."""
        chain = [entry]
        while chain[-1].before:
            below = self._read(chain[-1].before)
            if below is None or below.file != chain[-1].on or len(chain) > _LONGEST_CHAIN:
                return None
            chain.append(below)
        if any(item.file and not (self.folder / item.file).exists() for item in chain):
            return None
        return chain[::-1]

    def _used(self, entry: CachedState) -> float:
        try:
            return self._entry_path(entry.key).stat().st_mtime
        except OSError:
            return 0.0

    def _entry_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _read(self, key: str) -> CachedState | None:
        try:
            return CachedState(**json.loads(self._entry_path(key).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def overlay_file(key: str) -> str:
    """A new, unique file name for the overlay of a key."""
    return f"{key}-{secrets.token_hex(4)}.qcow2"
