"""A time limit over several steps: the same flag that cancels a run also ends it when its time is up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imagesmith.processes import Cancellation, Cancelled

_LOOK_SECONDS = 0.1


class DeadlinePassed(Exception):
    """The time limit ended the work; everything it ran was killed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"the time limit of {seconds:.0f} seconds was reached")


@contextmanager
def limited(outer: Cancellation, seconds: float) -> Iterator[Cancellation]:
    """A cancellation for work that may take `seconds`; raises DeadlinePassed, or Cancelled when `outer` was."""
    inner, done, late = Cancellation(), threading.Event(), threading.Event()

    def watch() -> None:
        left = seconds
        while left > 0 and not done.wait(min(_LOOK_SECONDS, left)):
            left -= _LOOK_SECONDS
            if outer.requested:
                inner.cancel()
                return
        if not done.is_set():
            late.set()
            inner.cancel()

    watcher = threading.Thread(target=watch, name="deadline", daemon=True)
    watcher.start()
    try:
        yield inner
    except Cancelled:
        if late.is_set() and not outer.requested:
            raise DeadlinePassed(seconds) from None
        raise
    finally:
        done.set()
        watcher.join()
