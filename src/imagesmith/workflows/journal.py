"""What a run needs of a durable engine; `engine/durable.py` has it from DBOS.

    run(key, journal)     called again from its beginning after a crash, a stop, or a wait
      journal.step(...)   work that ended is not done again: its result comes from the journal
      journal.wait(...)   leaves the engine until somebody wakes the run; holds no thread and no place meanwhile

A run must be deterministic apart from its steps: given the same results, the same steps in the same order.
A key names a run for ever:

    <image ARN>           the run of an image
    <image ARN>~<number>  the same image once more: its first, second, ... retry
    <image ARN>#<name>    one of its parallel parts, whose name no other run of the image has
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from imagesmith.processes import Cancellation
from imagesmith.store.runs import Fence

Json = dict[str, Any]
"""Plain data that survives JSON."""

Work = Callable[[Cancellation], Json]
Poll = Callable[[Cancellation], Json | None]


class WorkFailed(RuntimeError):
    """Work raised what it should have explained itself: a fault of ours, the same at every replay."""


class Runs(Protocol):
    """Starts, stops and wakes runs. Every call may be repeated."""

    def start(self, key: str) -> None:
        """Enqueue a run. Calling twice for one key starts one run."""
        ...

    def cancel(self, key: str) -> None:
        """Stop what runs under a key, soon; a run that waits looks again at what it waits for."""
        ...

    def wake(self, key: str) -> None:
        """Have a run that waits look again at what it waits for."""
        ...


class Journal(Runs, Protocol):
    """The journal of one run."""

    @property
    def fence(self) -> Fence | None:
        """The right to write for the run, where several processes share the work."""
        ...

    def step(self, name: str, work: Work) -> Json:
        """The result of `work`, which is called until it ended once.

        Raises Cancelled and WorkFailed, also when it is replayed.
        """
        ...

    def conclude(self, name: str, work: Work) -> Json:
        """A step that a cancel does not end: its cancellation is requested only when the process stops."""
        ...

    def wait(self, name: str, poll: Poll, *, seconds: float) -> Json:
        """What `poll` gives, once that is not None. Raises Cancelled.

        It is called at once, whenever the run is woken or cancelled, and after `seconds`.
        """
        ...


def part_key(image_arn: str, name: str) -> str:
    """The key of a part of an image's run."""
    return f"{image_arn}#{name}"


def retry_key(image_arn: str, number: int) -> str:
    """The key of an image's run: the first one's, or that of a retry with a number."""
    return f"{image_arn}~{number}" if number else image_arn


def image_of(key: str) -> str:
    """The image that a run is for."""
    return key.partition("#")[0].partition("~")[0]


def part_of(key: str) -> str:
    """The name of the part; empty for the run of an image."""
    return key.partition("#")[2]


def is_part(key: str) -> bool:
    return "#" in key
