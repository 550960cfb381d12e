"""The interface of a durable engine for runs; `engine/process.py` and its neighbours implement it on DBOS.

    run(key, journal)     called again from its beginning after a crash, a stop, or a wait
      journal.step(...)   work that ended is not repeated: its result comes from the journal
      journal.wait(...)   leaves the engine until the run is woken; holds no thread and no slot meanwhile

A run must be deterministic apart from its steps: the same results lead to the same steps in the same order.
A key names a run permanently:

    <image ARN>           the run of an image
    <image ARN>~<number>  the same image once more: its first, second, ... retry
    <image ARN>#<name>    one of its child runs, whose name no other run of the image has
    lce-<uuid>            a lifecycle execution
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from imagesmith.processes import Cancellation
from imagesmith.store.runs import Fence

Json = Mapping[str, Any]
"""Plain data that JSON preserves."""

Work = Callable[[Cancellation], Json]
Poll = Callable[[Cancellation], Json | None]


class WorkFailed(RuntimeError):
    """Work raised an unexpected error: a bug, and the same error at every replay."""


class Runs(Protocol):
    """Starts, cancels and wakes runs. Every call may be repeated."""

    def start(self, key: str) -> None:
        """Enqueue a run. Two calls with one key start one run."""
        ...

    def cancel(self, key: str) -> None:
        """Request the cancel of a run; a waiting run checks its condition again."""
        ...

    def wake(self, key: str) -> None:
        """Make a waiting run check its condition again."""
        ...


class Journal(Runs, Protocol):
    """The journal of one run."""

    @property
    def fence(self) -> Fence | None:
        """The right to write for the run, if several processes share the work."""
        ...

    def pause(self) -> None:
        """Wait a moment, because records cannot be read or written now.

        Raises a BaseException if the run is to end in this process.
        """
        ...

    def step(self, name: str, work: Work) -> Json:
        """The result of `work`, which is repeated until it has ended once.

        Raises Cancelled and WorkFailed, also at a replay.
        """
        ...

    def finalize(self, name: str, work: Work) -> Json:
        """A step that a cancel does not end: its cancellation is requested only if the process stops."""
        ...

    def wait(self, name: str, poll: Poll, *, seconds: float) -> Json:
        """The first result of `poll` that is not None. Raises Cancelled.

        `poll` is called at once, whenever the run is woken or cancelled, and after `seconds`.
        """
        ...


def child_key(image_arn: str, name: str) -> str:
    """The key of a child run of an image."""
    return f"{image_arn}#{name}"


def retry_key(image_arn: str, number: int) -> str:
    """The key of an image's run: of the first run, or of the retry with a number."""
    return f"{image_arn}~{number}" if number else image_arn


def image_of(key: str) -> str:
    """The image of a run."""
    return key.partition("#")[0].partition("~")[0]


def child_of(key: str) -> str:
    """The name of a child run; empty for the run of an image."""
    return key.partition("#")[2]


def is_child(key: str) -> bool:
    return "#" in key


LIFECYCLE_KEY = "lce-"
"""The beginning of the keys of lifecycle executions, which belong to no image."""


def takes_no_slot(key: str) -> bool:
    """Whether a run is short work beside the builds: a child run, or a lifecycle execution."""
    return is_child(key) or key.startswith(LIFECYCLE_KEY)
