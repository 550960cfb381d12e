r"""Effects after a commit of the scheduler: builds are enqueued, log lines written.

    unit of work 1 --> unit of work 2 --> unit of work 3 -->      the thread that ticks
                  \--> effects 1      \--> effects 2               two threads beside it

The three wait for different things: the store, the journal, files. Only the effects of one unit of work are under
way at a time, in any order. A failed effect is logged by name and tried again at the next tick, a log line at most
ten times; a process that dies before its effects leaves PENDING images, which the next start enqueues.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from imagesmith.resources.call import Effect, EffectKind

_log = logging.getLogger(__name__)

_LOG_TRIES: Final = 10


class Effects:
    """Executes effects; for use by one thread."""

    def __init__(self) -> None:
        self._failed: deque[tuple[Effect, int]] = deque()
        """Failed effects, each with the number of its tries."""
        self._beside: ThreadPoolExecutor | None = None
        self._under_way: Sequence[Future[None]] = ()

    def begin(self, effects: Sequence[Effect]) -> None:
        """Wait for the earlier effects, then start these; call finish() later."""
        if not effects:
            return
        if self._beside is None:
            self._beside = ThreadPoolExecutor(2, thread_name_prefix="scheduler-effects")
        self._wait()
        self._under_way = [self._beside.submit(self._carry_out, effect) for effect in effects]

    def finish(self) -> None:
        """Wait for all started effects."""
        if self._beside is not None:
            self._beside.shutdown()
            self._beside = None
        self._wait()

    def _wait(self) -> None:
        done, self._under_way = self._under_way, ()
        for effect in done:
            # only raises a BaseException that ends the process
            effect.result()

    def retry(self) -> None:
        """Retry failed effects."""
        for _ in range(len(self._failed)):
            effect, tries = self._failed.popleft()
            self._carry_out(effect, tries + 1)

    def _carry_out(self, effect: Effect, tries: int = 1) -> None:
        try:
            effect.action()
        except Exception as error:
            if tries >= _LOG_TRIES and effect.kind is EffectKind.PIPELINE_LOG:
                _log.warning("%s failed %d times and is not retried: %r", effect, tries, error)
                return
            if tries == 1:
                # logged once: an effect that fails twice usually fails for longer
                _log.warning("%s failed; it is retried at the next tick: %r", effect, error, exc_info=True)
            self._failed.append((effect, tries))
            return
        if tries > 1:
            _log.warning("%s succeeded at attempt %d", effect, tries)
