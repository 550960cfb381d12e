"""Results of instructions and components that later builds use again: layers by the key of all inputs.

    cache/
      lock                one writer at a time; readers need none
      <key>.json          an entry: the layers after the step, its inputs, when and by which build it was made
      <key>.running       held by the build that carries the step out; others wait for it
      newest/<digest>     the key of the newest entry of a lineage, to tell what has changed since
    key = digest over the layers before the step and everything else that it can read

An entry holds its layers: the store keeps what an entry names. It is written after its layers, as a whole or not at
all. An entry whose blobs are missing or damaged is no entry. Every entry holds the layers below its own, too, so
the sum of the sizes counts each layer once. Times are the epoch's.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from imagesmith.files import write_atomically
from imagesmith.layers.records import LayerBlob, RecordDamaged, blobs_of
from imagesmith.locks import LockHeld, exclusive_lock, file_lock
from imagesmith.values.cache_reasons import age_text, changed_names
from imagesmith.values.names import canonical_json, sha256_hex

UNUSED_SECONDS: Final = 14 * 86400.0
"""How long entries are kept that no build uses."""
EARLIER: Final = "what comes before it"
"""The name of the input that stands for the layers below."""
_SHOWN: Final = {EARLIER: "an earlier step or the parent", "imagesmith": "the version of imagesmith"}
_KEY_DIGITS: Final = 40
_MOST_ENTRIES: Final = 2_000
_POLL_SECONDS: Final = 0.1
_NEWEST: Final = "newest"


@dataclass(frozen=True, kw_only=True)
class CachedLayers:
    """The state that one step made."""

    key: str
    lineage: str
    """What it is a state of, such as recipe, stage and number: entries of one lineage can be compared."""
    inputs: Mapping[str, Any]
    """What the key covers; values that may be secret as digests."""
    layers: tuple[LayerBlob, ...]
    """All layers after the step, lowest first."""
    made: float
    build: str
    """Who made it, for a person."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Digests of the layers that the step added -> bytes, unpacked and as blobs."""


def step_key(inputs: Mapping[str, Any]) -> str:
    return sha256_hex(canonical_json(inputs))[:_KEY_DIGITS]


class LayerCache:
    """The cache of one layer store; safe for several threads and processes."""

    def __init__(
        self, folder: Path, *, bytes_limit: int, seconds_limit: float, now: Callable[[], float],
        fault: Callable[[Sequence[LayerBlob]], str], size: Callable[[Sequence[LayerBlob]], int],
        collect: Callable[[], object],
    ) -> None:  # fmt: skip
        """`seconds_limit`: entries that were not used for longer are removed. `fault` tells what is wrong with
        layers, `size` the bytes of the last of them, `collect` removes those that nothing names."""
        self.folder = folder
        self.now = now
        self._bytes_limit = bytes_limit
        self._seconds_limit = seconds_limit
        self._fault = fault
        self.size_of = size
        self._collect = collect

    @property
    def is_on(self) -> bool:
        return self._bytes_limit > 0

    def find(self, key: str) -> CachedLayers | None:
        """The entry of a key; marks it as used. The caller leases its layers, and calls fault_of() then."""
        entry = self._read(key)
        if entry is not None:
            with contextlib.suppress(OSError):
                os.utime(self._path(key), (self.now(), self.now()))
        return entry

    def fault_of(self, layers: Sequence[LayerBlob]) -> str:
        """What is wrong with layers of an entry; empty if they are intact."""
        return self._fault(layers)

    def explain(self, key: str, lineage: str, inputs: Mapping[str, Any], *, max_age: float | None = None) -> str:
        """Why the entry of a key is not used, or why there is none, in words."""
        entry = self._read(key)
        if entry is not None:
            age = self.now() - entry.made
            if max_age is not None and age > max_age:
                limit = age_text(max_age) if max_age else "nothing"
                return f"the result of {entry.build} is {age_text(age)} old, and at most {limit} is allowed"
            return f"the layers of the result of {entry.build} are damaged"
        newest = self._newest(lineage)
        if newest is None:
            return "there is no earlier result"
        changed = ", ".join(changed_names(newest.inputs, inputs, _SHOWN))
        return f"{changed} changed since {newest.build}" if changed else f"the result of {newest.build} was removed"

    def keep(self, entry: CachedLayers) -> None:
        """Keep an entry, whose layers something else holds meanwhile; trim() keeps the limits. Raises OSError."""
        (self.folder / _NEWEST).mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(self.folder / "lock"):
            write_atomically(self._path(entry.key), json.dumps(asdict(entry), separators=(",", ":")))
            os.utime(self._path(entry.key), (self.now(), self.now()))
            self._newest_path(entry.lineage).write_text(entry.key)

    @contextmanager
    def running(self, key: str, *, wait: Callable[[float], object]) -> Iterator[bool]:
        """Hold the right to carry a step out; the value tells whether another build had it before.

        `wait` passes some seconds, and raises to end the waiting.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, waited = self.folder / f"{key}.running", False
        while True:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(exclusive_lock(path))
                except LockHeld:
                    waited = True
                else:
                    # who removes the file while others wait for it: they find the result, or each tries again
                    stack.callback(path.unlink, missing_ok=True)
                    yield waited
                    return
            wait(_POLL_SECONDS)

    def trim(self) -> None:
        """Remove entries beyond the limits, and what killed processes left."""
        if not self.folder.is_dir():
            return
        with file_lock(self.folder / "lock"):
            removed = self._trim()
            for lock in self.folder.glob("*.running"):
                with contextlib.suppress(LockHeld), exclusive_lock(lock):
                    lock.unlink(missing_ok=True)
            # whoever writes has the lock
            for draft in self.folder.glob(".*"):
                draft.unlink()
            for key in keys_of(self.folder):
                # damaged, or of an older format: no key of a step leads to it
                if self._read(key) is None:
                    self._path(key).unlink(missing_ok=True)
            known = set(keys_of(self.folder))
            for newest in (self.folder / _NEWEST).glob("*"):
                if newest.read_text() not in known:
                    newest.unlink()
        if removed:
            self._collect()

    def entries(self) -> list[CachedLayers]:
        """All entries, unordered."""
        return [entry for key in keys_of(self.folder) if (entry := self._read(key)) is not None]

    def size(self) -> int:
        """Bytes of the layers that entries have added."""
        return sum({digest: size for entry in self.entries() for digest, size in entry.sizes.items()}.values())

    def _trim(self) -> int:
        """Remove entries, least recently used first; returns how many."""
        found = sorted(((self._used(entry.key), entry) for entry in self.entries()), key=lambda item: item[0])
        holders: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for _, entry in found:
            for layer in entry.layers:
                holders[layer.digest] = holders.get(layer.digest, 0) + 1
            sizes.update(entry.sizes)
        total, left, removed = sum(sizes.values()), len(found), 0
        for used, entry in found:
            stale = self.now() - used > self._seconds_limit
            if not stale and total <= self._bytes_limit and left <= _MOST_ENTRIES:
                break
            self._path(entry.key).unlink(missing_ok=True)
            removed, left = removed + 1, left - 1
            for layer in entry.layers:
                holders[layer.digest] -= 1
                if not holders[layer.digest]:
                    total -= sizes.get(layer.digest, 0)
        return removed

    def _used(self, key: str) -> float:
        try:
            return self._path(key).stat().st_mtime
        except OSError:
            return 0.0

    def _newest(self, lineage: str) -> CachedLayers | None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            key = self._newest_path(lineage).read_text()
            return self._read(key) if key.isalnum() else None
        return None

    def _newest_path(self, lineage: str) -> Path:
        return self.folder / _NEWEST / sha256_hex(lineage)[:_KEY_DIGITS]

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _read(self, key: str) -> CachedLayers | None:
        with contextlib.suppress(OSError, RecordDamaged):
            return _decode(self._path(key).read_bytes())
        return None


def keys_of(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.json")] if folder.is_dir() else []


def held_layers(folder: Path) -> Iterator[Sequence[LayerBlob]]:
    """The layers that the entries of a folder hold."""
    for key in keys_of(folder):
        with contextlib.suppress(OSError, RecordDamaged):
            yield _decode((folder / f"{key}.json").read_bytes()).layers


def _decode(data: bytes) -> CachedLayers:
    """Raises RecordDamaged."""
    try:
        value = json.loads(data)
        return CachedLayers(**{**value, "layers": blobs_of(value["layers"])})
    except (ValueError, KeyError, TypeError) as error:
        raise RecordDamaged(str(error)) from error
