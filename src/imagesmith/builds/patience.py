"""Waiting of a run during an outage of the database, with log lines about it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

_log = logging.getLogger(__name__)


class RunPatience:
    """The waits of one run, which is in one thread; other threads may read `is_waiting`."""

    def __init__(self, pause: Callable[[], None], on_line: Callable[[str], None]) -> None:
        """`pause` waits a moment and raises when the run is to end; `on_line` writes a line of the log."""
        self._pause = pause
        self._on_line = on_line
        self._since: float | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits. Time limits do not run meanwhile: an outage must not make a step late."""
        return self._since is not None

    def wait(self, error: BaseException) -> None:
        """Pause once; the first pause of an outage is logged."""
        if self._since is None:
            self._since = time.monotonic()
            _log.warning("the database is not available; a build waits for it: %s", error)
            self._log_line("the database does not answer; the build waits for it")
        self._pause()

    def over(self) -> None:
        """Note that the database answers."""
        since, self._since = self._since, None
        if since is not None:
            self._log_line(
                f"the database answers again, after {time.monotonic() - since:.0f} s; the build continues"
            )

    def _log_line(self, line: str) -> None:
        # the disk of the log may be full
        with contextlib.suppress(OSError):
            self._on_line(line)
