"""The arguments of all work on a build: the worker's tools, the plan, the log, the cancellation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.build_logs.logs import BuildLog
from imagesmith.builds.kind import BuildKind
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.destination import DistributionContext
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan


@dataclass(frozen=True)
class Work:
    """A piece of work on a build."""

    worker_context: WorkerContext
    plan: BuildPlan
    log: BuildLog
    cancellation: Cancellation
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of each named part, for the image's record."""
    kind: BuildKind = field(kw_only=True)
    """The kind of the plan's image."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    @property
    def distribution(self) -> DistributionContext:
        """The input of the image's distribution."""
        tools, arn = self.worker_context, self.plan.image_arn
        return DistributionContext(
            plan=self.plan, settings=tools.settings, database=tools.records.database, layout=tools.layout,
            storage=tools.storage, disks=tools.disks, shared_url=tools.shared_url, s3=lambda: tools.s3,
            clock=tools.clock, log=self.log, timed=self.timed, cancellation=self.cancellation,
            retry_policy=self.retry_policy, check_fence=tools.check_fence,
            enter_state=lambda status: tools.records.move(arn, status),
        )  # fmt: skip

    @property
    def retry_policy(self) -> RetryPolicy:
        """The retry policy for unavailable registries."""
        builds = self.worker_context.settings.builds
        return RetryPolicy(builds.push_attempts, builds.registry_pause_seconds, self.pause)

    def pause(self, seconds: float) -> None:
        """Sleep between attempts. Raises Cancelled."""
        self.cancellation.wait(seconds)
        self.cancellation.check()
