"""A thread that repeats a piece of work until it is stopped.

    start() --> [work] --> wait, until wake() --> [work] --> ... --> stop() --> (a last [work]) --> joined

An exception ends only its round. Each text is logged once until a round succeeds: an outage of an hour is one line
instead of thousands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)
_MOST_TEXTS = 100
"""Texts that are remembered: an error whose text differs in every round takes no memory without end."""


class Periodic:
    """One thread; stop() may be called without start()."""

    def __init__(
        self,
        name: str,
        work: Callable[[], float | None],
        *,
        seconds: float,
        failing: str,
        working: str = "",
        at_once: bool = False,
        last: bool = False,
        expected: Callable[[Exception], bool] = lambda _: False,
        level: int = logging.WARNING,
    ) -> None:
        """`work` returns the seconds until its next call; None means `seconds`.

        `failing` is logged with the exception of a round, `working` at the first success after it. `at_once`: the
        first round does not wait; `last`: stop() runs one more round. An error that is not `expected` is logged
        with its traceback.
        """
        self._work = work
        self._seconds = seconds
        self._failing = failing
        self._working = working
        self._at_once = at_once
        self._last = last
        self._expected = expected
        self._level = level
        self._logged: set[str] = set()
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Start the next round now."""
        self._awake.set()

    def end(self) -> None:
        """Like stop(), without waiting; `work` itself may call it."""
        self._stopping.set()
        self._awake.set()

    def stop(self, patience_seconds: float | None = None) -> None:
        """End after the current round; wait for its end, at most `patience_seconds`."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(patience_seconds)

    def _run(self) -> None:
        if not self._at_once:
            self._rest(self._seconds)
        while True:
            is_last = self._stopping.is_set()
            if is_last and not self._last:
                return
            delay = self._round()
            if is_last:
                return
            self._rest(self._seconds if delay is None else delay)

    def _rest(self, seconds: float) -> None:
        self._awake.wait(seconds)
        if not self._stopping.is_set():
            self._awake.clear()

    def _round(self) -> float | None:
        try:
            delay = self._work()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if text not in self._logged:
                if len(self._logged) >= _MOST_TEXTS:
                    self._logged.clear()
                self._logged.add(text)
                _log.log(self._level, "%s: %s", self._failing, error, exc_info=not self._expected(error))
            return None
        if self._logged and self._working:
            _log.log(self._level, "%s", self._working)
        self._logged.clear()
        return delay
