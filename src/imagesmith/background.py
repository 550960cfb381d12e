"""Runs a program beside its caller, in a thread of its own.

    Background(argv) --> thread: processes.run(argv) --> completed
         |                         ^
         +-- cancel(), close() ----+

The thread stays for as long as the program runs: the signal that ends a child with this process (processes.py)
belongs to the thread that started it. It also reads the output, so a full pipe never blocks the program.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from imagesmith import processes
from imagesmith.processes import Cancellation, Cancelled, Completed, OnOutput


class Background:
    """One running program; `close()` ends it and waits for its end."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
        limit: int = processes.DEFAULT_LIMIT,
    ) -> None:
        """`name` names the thread; `env` and `limit` are passed to processes.run."""
        self.completed: Completed | None = None
        """Result of a program that ended by itself; None while it runs, and if it was killed or did not start."""
        self.failure: OSError | None = None
        """Why it did not start."""
        self._argv = tuple(argv)
        self._env = env
        self._on_output = on_output
        self._limit = limit
        self._cancellation = Cancellation()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; returns whether it has ended."""
        return self._ended.wait(seconds)

    def cancel(self) -> None:
        """Request that the program is killed, without waiting for its end."""
        self._cancellation.cancel()

    def close(self, seconds: float | None = None) -> None:
        """Kill the program and wait for its end, at most `seconds`; safe to call twice."""
        self.cancel()
        self._thread.join(seconds)

    def _live(self) -> None:
        try:
            self.completed = processes.run(
                self._argv, env=self._env, on_output=self._on_output, cancellation=self._cancellation,
                limit=self._limit,
            )  # fmt: skip
        except Cancelled:
            pass
        except OSError as error:
            self.failure = error
        finally:
            self._ended.set()
