"""Takeover of the runs of processes that are gone.

    PENDING, of a process that is gone     -> enqueued again, by its instance or its kind
    ENQUEUED for one worker that is gone   -> enqueued for all capable workers

Enqueueing a workflow again takes it from its process: DBOS then refuses the steps that the old process journals.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from imagesmith.engine.dbos_import import DBOS
from imagesmith.engine.membership import Membership
from imagesmith.engine.queues import BUILDS, PARTS, TIMERS, own_queue, parts_queue

_log = logging.getLogger(__name__)


def take_over(membership: Membership, *, timer: str, everything: bool = False) -> int:
    """Enqueue orphaned and unassigned runs; returns their number. One process at a time does it.

    `everything`: also runs of unknown processes, which earlier versions left. `timer` is the name of the timer
    workflow. Raises StoreUnavailable and errors of the journal.
    """
    alive, gone = membership.ids()
    taken, idle = membership.names()
    orphaned: list[str] = []
    if gone or everything:
        executors = None if everything else sorted(gone)
        orphaned = [
            status.workflow_id
            for status in _listed(status="PENDING", executor_id=executors)
            if status.executor_id not in alive
        ]
    queues = [queue for name in idle - taken for queue in _queues_of(name)]
    queues += [BUILDS, PARTS] if everything else []
    unassigned = [status.workflow_id for status in _listed(status="ENQUEUED", queue_name=queues)] if queues else []
    if not (orphaned or unassigned):
        return 0
    with membership.exclusive("takeover") as mine:
        if not mine:
            return 0
        return _enqueue(membership, orphaned, alive, timer=timer) + _move(membership, unassigned, queues)


def _enqueue(membership: Membership, orphaned: Iterable[str], alive: set[str], *, timer: str) -> int:
    number = 0
    for key in orphaned:
        # checked again: another process may have been faster, and a living process must not lose its step
        status = DBOS.get_workflow_status(key)
        if status is None or status.status != "PENDING" or status.executor_id in alive:
            continue
        if status.name == timer:
            DBOS.resume_workflow(key, queue_name=TIMERS)
            continue
        queue = membership.queue_of(key)
        _log.warning(
            "taking over %s from process %s, which is gone; it waits in %s", key, status.executor_id, queue
        )
        DBOS.resume_workflow(key, queue_name=queue)
        number += 1
    return number


def _move(membership: Membership, unassigned: Iterable[str], queues: list[str]) -> int:
    number = 0
    for key in unassigned:
        status = DBOS.get_workflow_status(key)
        if status is None or status.status != "ENQUEUED" or status.queue_name not in queues:
            continue
        queue = membership.queue_of(key)
        _log.warning("%s waited for a worker that is gone; it waits in %s now", key, queue)
        DBOS.resume_workflow(key, queue_name=queue)
        number += 1
    return number


def _listed(**wanted: Any) -> list[Any]:
    return list(DBOS.list_workflows(load_input=False, load_output=False, **wanted))


def _queues_of(name: str) -> tuple[str, str]:
    return own_queue(name), parts_queue(own_queue(name))
