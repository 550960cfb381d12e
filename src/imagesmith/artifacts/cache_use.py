"""How one build uses the cache of layers: which results it may take, what it says of them, what it keeps.

CachedStep.perform: take --hit, whole--> adopt its layers
                      '--miss--> alone: take again --miss--> explain, carry out, keep
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from imagesmith import __version__
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.layers.layer_cache import EARLIER, CachedLayers, LayerCache, step_key
from imagesmith.layers.records import LayerBlob
from imagesmith.values.cache_reasons import age_text

Layers = tuple[LayerBlob, ...]


@dataclass(frozen=True)
class CacheHit:
    """A result of an earlier build that is in the image, for provenance."""

    step: str
    """`RUN in line 3`."""
    build: str
    made: float
    """Seconds of the epoch."""
    diff_ids: tuple[str, ...]
    """Of the layers that it added."""

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "build": self.build, "made": self.made, "diffIds": list(self.diff_ids)}


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """How a build uses the cache."""

    cache: LayerCache
    owner: str
    """Whose results these are: no other owner's are used. Part of every key."""
    lineage: str
    """What is built, such as a recipe: its results are compared to say why one is not used."""
    build: str
    """The name of this build, for a person."""
    max_age: float
    """Seconds: older results that may come from the network are not used."""
    reads: bool = True
    """False: results of other builds are not used; those of this one are."""
    on_hit: Callable[[CacheHit], None] = lambda _: None
    epoch: int | None = None
    """SOURCE_DATE_EPOCH of a reproducible build: part of every key, since its layers are made by other rules."""

    def allows(self, entry: CachedLayers, *, networked: bool) -> bool:
        """Whether this build may use a result: any of its own, and others that are asked for and fresh."""
        is_fresh = not networked or self.cache.now() - entry.made <= self.max_age
        return entry.build == self.build or (self.reads and is_fresh)


@dataclass(frozen=True)
class StepInputs:
    """The inputs of a step but the layers below. `networked`: its result may come from the network, so it ages."""

    values: Mapping[str, Any]
    networked: bool = False


class CachedStep:
    """One instruction or component with its key; `name` is its name in provenance."""

    def __init__(
        self, use: CacheUse, storage: ContainerStorage, inputs: StepInputs, *, name: str, step: str, lower: Layers,
        tell: Callable[[str], None], check: Callable[[], None],
    ) -> None:  # fmt: skip
        """`lower`: the layers that it starts on, which the caller holds. `check` raises to end a wait."""
        diff_ids = [layer.diff_id for layer in lower]
        self._use = use
        self._storage = storage
        epoch = {} if use.epoch is None else {"SOURCE_DATE_EPOCH": use.epoch}
        self._inputs = {
            **inputs.values, EARLIER: diff_ids, "the owner": use.owner, "imagesmith": __version__, **epoch
        }  # fmt: skip
        self._key = step_key(self._inputs)
        self._networked = inputs.networked
        self._name = name
        self._lineage = f"{use.owner}\0{use.lineage}\0{step}"
        self._lower = lower
        self._tell = tell
        self._check = check

    def perform(self, adopt: Callable[[Layers, datetime], None], carry_out: Callable[[], Layers]) -> None:
        """Go on with the result that is there, or carry the step out and keep what it makes.

        `adopt` gets all layers behind the step, which are held meanwhile, and when they were made; `carry_out`
        returns them, and holds them itself.
        """
        if self._take(adopt):
            return
        with self._alone():
            # another build may have made it meanwhile
            if not self._take(adopt):
                self._explain()
                self._keep(carry_out())

    def _take(self, adopt: Callable[[Layers, datetime], None]) -> bool:
        found = self._use.cache.find(self._key)
        if found is None or not self._use.allows(found, networked=self._networked):
            return False
        added = found.layers[len(self._lower) :]
        with self._storage.lease(found.layers):
            if self._use.cache.fault_of(added):
                return False
            self._tell(f"CACHED: the result of {found.build}, {age_text(self._use.cache.now() - found.made)} old")
            adopt((*self._lower, *added), datetime.fromtimestamp(found.made, UTC))
        if found.build != self._use.build:
            diff_ids = tuple(layer.diff_id for layer in added)
            self._use.on_hit(CacheHit(self._name, found.build, found.made, diff_ids))
        return True

    def _alone(self) -> AbstractContextManager[bool]:
        """The right to carry the step out; waits for another build that has it."""
        told: list[float] = []

        def wait(seconds: float) -> None:
            if not told:
                self._tell("waiting for another build that makes the same")
            told.append(seconds)
            self._check()
            time.sleep(seconds)

        return self._use.cache.running(self._key, wait=wait)

    def _explain(self) -> None:
        """Tell why there is no result to use."""
        if self._use.reads:
            age = self._use.max_age if self._networked else None
            why = self._use.cache.explain(self._key, self._lineage, self._inputs, max_age=age)
            self._tell(f"not cached: {why}")

    def _keep(self, layers: Layers) -> None:
        """Keep the layers behind the step for later builds; the caller holds them."""
        cache, below = self._use.cache, len(self._lower)
        sizes = {layers[count].digest: cache.size_of(layers[: count + 1]) for count in range(below, len(layers))}
        entry = CachedLayers(
            key=self._key, lineage=self._lineage, inputs=self._inputs, layers=layers, made=cache.now(),
            build=self._use.build, sizes=sizes,
        )  # fmt: skip
        try:
            cache.keep(entry)
        except OSError as error:
            self._tell(f"warning: the result is not cached: {error}")
