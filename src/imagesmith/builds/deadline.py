"""Time limits over several steps: the flag that cancels a run also ends it at its deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imagesmith.periodic import Periodic
from imagesmith.processes import Cancellation, Cancelled

_LOOK_SECONDS = 0.1


class DeadlinePassed(Exception):
    """The time limit ended the work; its processes were killed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"the time limit of {seconds:.0f} seconds was reached")


@contextmanager
def limited(
    outer: Cancellation, seconds: float, *, is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[Cancellation]:
    """A cancellation for work of at most `seconds`; raises DeadlinePassed, or Cancelled if `outer` was requested.

    The time does not run while `is_stopped` returns True, because the work is blocked then.
    """
    inner, late = Cancellation(), threading.Event()
    left = seconds

    def check_time() -> float:
        nonlocal left
        if not is_stopped():
            left -= _LOOK_SECONDS
        is_late = left <= 0 and not outer.requested
        if is_late:
            late.set()
        if is_late or outer.requested:
            inner.cancel()
            watcher.end()
        return min(_LOOK_SECONDS, max(left, 0.0))

    watcher = Periodic(
        "deadline", check_time, seconds=min(_LOOK_SECONDS, max(seconds, 0.0)), failing="a time limit cannot be kept"
    )
    watcher.start()
    try:
        yield inner
    except Cancelled:
        if late.is_set() and not outer.requested:
            raise DeadlinePassed(seconds) from None
        raise
    finally:
        watcher.stop()
