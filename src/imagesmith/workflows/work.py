"""What every piece of work on a build is given: the worker's tools, the plan, the log, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.workshop import Workshop


@dataclass(frozen=True)
class Work:
    """One piece of work on one build."""

    shop: Workshop
    plan: BuildPlan
    log: BuildLog
    cancellation: Cancellation
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each named part took; ends up in the image's record."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def pause(self, seconds: float) -> None:
        """Sleep between attempts. Raises Cancelled."""
        self.cancellation.wait(seconds)
        self.cancellation.check()
