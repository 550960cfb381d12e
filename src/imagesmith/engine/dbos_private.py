"""The only module that uses private members of DBOS.

DBOS 3.4 has no public way to set how many runs a process may claim from a queue, when a queue is polled, or which
workflows a process has. This module uses four private members; `check` compares their signatures with the expected
ones, so a changed release fails the launch with a sentence and not with a crash in a thread. The dependency is
pinned to the minor version for the same reason.

    SystemDatabase.start_queued_workflows    claims runs of a queue        limit_claims()
    SystemDatabase.get_queue                 read before each poll         wait_before_polls()
    DBOS._active_workflows_set               workflows of this process     active_workflows()
    DBOS.background_thread_stop_events       threads that poll             stop_background_threads()
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from imagesmith.engine.dbos_import import DBOS

_POLL_SECONDS: Final = 0.002
"""Between the end of a wait and the poll."""
_CLAIM: Final = (
    "queue", "executor_id", "app_version", "queue_partition_key", "local_running_count",
    "partition_local_running_count", "owner_xid", "is_latest_version",
)  # fmt: skip
_READ: Final = ("name", "client_system_database")
_QUEUE_MEMBERS: Final = ("_worker_concurrency", "_polling_interval_sec")


class IncompatibleDBOS(RuntimeError):
    """This version of imagesmith does not support the installed DBOS; the text names the difference."""


@dataclass(frozen=True)
class ClaimLimit:
    """Limits how many runs DBOS claims from its queues."""

    queues: Collection[str]
    lock: threading.Lock
    """Held from `free` to `claimed`: two queues that share a limit must not both see the last slot."""
    free: Callable[[str], int]
    claimed: Callable[[str, Sequence[str]], None]


def check(dbos: DBOS) -> None:
    """Compare the private members of the installed DBOS with the expected ones. Raises IncompatibleDBOS."""
    system = _system(dbos)
    _check_parameters(system, "start_queued_workflows", _CLAIM)
    _check_parameters(system, "get_queue", _READ)
    if not callable(getattr(getattr(dbos, "_active_workflows_set", None), "activeList", None)):
        raise _incompatible("DBOS._active_workflows_set.activeList() is not there")
    if not isinstance(getattr(dbos, "background_thread_stop_events", None), list):
        raise _incompatible("DBOS.background_thread_stop_events is not a list")


def check_queue(dbos: DBOS, name: str) -> None:
    """Check the object that DBOS returns for a registered queue. Raises IncompatibleDBOS."""
    queue = _system(dbos).get_queue(name)
    missing = [member for member in _QUEUE_MEMBERS if not hasattr(queue, member)]
    if missing:
        raise _incompatible(f"a queue has no {', '.join(missing)}")


def limit_claims(dbos: DBOS, limit: ClaimLimit) -> None:
    """Make DBOS claim at most the free number of runs from the limit's queues; other queues keep their own limits.

    DBOS counts a run only once it has started, so `claimed` is called before the lock is released.
    """
    system = _system(dbos)
    claim = system.start_queued_workflows

    def start_queued_workflows(
        queue: Any, executor: str, version: str, partition: Any = None, running: int = 0, *more: Any, **rest: Any
    ) -> Any:
        if queue.name not in limit.queues:
            return claim(queue, executor, version, partition, running, *more, **rest)
        with limit.lock:
            queue._worker_concurrency = running + limit.free(queue.name)
            keys, reason = claim(queue, executor, version, partition, running, *more, **rest)
            limit.claimed(queue.name, keys)
        return keys, reason

    system.start_queued_workflows = start_queued_workflows


def wait_before_polls(dbos: DBOS, queues: Collection[str], wait: Callable[[str], None]) -> None:
    """Make the polling threads of these queues block in `wait` before each poll, instead of sleeping an interval.

    A polling thread reads the row of its queue, sleeps for the interval in it, and polls.
    """
    system, waiting = _system(dbos), frozenset(queues)
    read = system.get_queue

    def get_queue(name: str, **options: Any) -> Any:
        # enqueueing reads the row as well, and must not wait
        if name not in waiting or threading.current_thread().name != f"queue-worker-{name}":
            return read(name, **options)
        wait(name)
        queue = read(name, **options)
        if queue is not None:
            queue._polling_interval_sec = _POLL_SECONDS
            # the row holds the limit of one process; `limit_claims` applies the real limit when runs are claimed
            queue._worker_concurrency = None
        return queue

    system.get_queue = get_queue


def active_workflows(dbos: DBOS) -> Sequence[str]:
    """The ids of the workflows that this process is executing."""
    return list(dbos._active_workflows_set.activeList())


def stop_background_threads(dbos: DBOS) -> None:
    """Ask every thread of DBOS to end; they start no further workflow."""
    for event in dbos.background_thread_stop_events:
        event.set()


def _system(dbos: DBOS) -> Any:
    system = getattr(dbos, "_sys_db", None)
    if system is None:
        raise _incompatible("DBOS._sys_db is not there")
    return system


def _check_parameters(system: Any, name: str, expected: tuple[str, ...]) -> None:
    method = getattr(system, name, None)
    if not callable(method):
        raise _incompatible(f"SystemDatabase.{name}() is not there")
    found = tuple(inspect.signature(method).parameters)
    if found != expected:
        raise _incompatible(f"SystemDatabase.{name}() takes ({', '.join(found)}), not ({', '.join(expected)})")


def _incompatible(reason: str) -> IncompatibleDBOS:
    return IncompatibleDBOS(
        f"dbos {version('dbos')} is installed, which this version cannot drive: {reason}; "
        "install the version that requirements/run.txt names"
    )
