r"""What follows a commit of the clock: builds are enqueued, logs told.

    unit of work 1 --> unit of work 2 --> unit of work 3 -->      the thread that ticks
                  \--> effects 1      \--> effects 2               two threads beside it

Each waits for something else: the store, the journal, files. No more than the effects of one unit of work are under
way, in no order. One that fails is tried again at the next tick; a process that dies before them leaves PENDING
images, which the next start enqueues.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from imagesmith.resources.call import Effect

_log = logging.getLogger(__name__)


class Effects:
    """Carries out effects; one thread uses it."""

    def __init__(self) -> None:
        self._failed: deque[Effect] = deque()
        self._beside: ThreadPoolExecutor | None = None
        self._under_way: Sequence[Future[None]] = ()

    def begin(self, effects: Sequence[Effect]) -> None:
        """Start with these when those before them are done; finish() comes some time after."""
        if not effects:
            return
        if self._beside is None:
            self._beside = ThreadPoolExecutor(2, thread_name_prefix="scheduler-effects")
        self._wait()
        self._under_way = [self._beside.submit(self._carry_out, effect) for effect in effects]

    def finish(self) -> None:
        """Wait for all that were begun."""
        if self._beside is not None:
            self._beside.shutdown()
            self._beside = None
        self._wait()

    def _wait(self) -> None:
        done, self._under_way = self._under_way, ()
        for effect in done:
            # raises what is no Exception: the process is to end
            effect.result()

    def retry(self) -> None:
        """Try those again that failed."""
        for _ in range(len(self._failed)):
            self._carry_out(self._failed.popleft())

    def _carry_out(self, effect: Effect) -> None:
        try:
            effect()
        except Exception:
            _log.warning("a build could not be enqueued; it is tried again at the next tick", exc_info=True)
            self._failed.append(effect)
