"""Starts the daily runs of lifecycle policies.

    a few times a minute --> due policies --> one unit of work for each: arm the next run, start the execution

Any number of servers may do this: a unit of work arms the policy again, so one of them starts each run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from imagesmith.periodic import Periodic
from imagesmith.resources.call import Call
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.errors import ApiError
from imagesmith.resources.lifecycle_runs import run_policy
from imagesmith.resources.service import Service
from imagesmith.store import lifecycle
from imagesmith.store.database import Database
from imagesmith.values.arn import Arn

_log = logging.getLogger(__name__)

_SECONDS: Final = 20.0
_BATCH: Final = 100


class LifecycleClock:
    """A thread; `tick` executes one round."""

    def __init__(self, service: Service, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._service = service
        self._database = database
        self._clock = clock
        self._rounds = Periodic(
            "lifecycle", self.tick, seconds=_SECONDS, at_once=True, failing="lifecycle policies cannot be run"
        )

    def start(self) -> None:
        self._rounds.start()

    def close(self) -> None:
        self._rounds.stop(30.0)

    def tick(self) -> None:
        """Start the executions that are due. Raises StoreUnavailable."""
        with self._database.read() as tx:
            due = lifecycle.due_policies(tx, self._clock(), _BATCH)
        for text in due:
            try:
                arn = Arn.parse(text)
                caller = Caller.owner(arn.owner, arn.region, arn.partition)
                self._service.scoped("LifecycleRun", caller, partial(_run, text))
            except ApiError as error:
                _log.error("the lifecycle policy %s cannot run: %s", text, error.message)


def _run(text: str, call: Call) -> None:
    """Run a policy unless another server has done it meanwhile."""
    if lifecycle.is_due(call.tx, text, call.now):
        run_policy(call, text)
