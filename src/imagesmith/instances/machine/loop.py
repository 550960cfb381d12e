"""Runs an asyncio loop in a thread of its own, for asyncio-only libraries; its callers are synchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_POLL_SECONDS = 0.2
_END_SECONDS = 10.0


class LoopThread:
    """A running loop; close() ends its tasks and the thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(
        self,
        work: Coroutine[Any, Any, Result],
        *,
        timeout: float | None = None,
        check: Callable[[], None] | None = None,
    ) -> Result:
        """Run a coroutine to its end. Raises its errors, and TimeoutError after `timeout` seconds.

        `check` is called periodically; its exception ends the coroutine and is raised here.
        """
        limited = asyncio.wait_for(work, timeout)
        future = asyncio.run_coroutine_threadsafe(limited, self._loop)
        while True:
            try:
                return future.result(_POLL_SECONDS if check is not None else None)
            except concurrent.futures.TimeoutError:
                if future.done():
                    raise
                if check is not None:
                    self._check(future, check)

    @staticmethod
    def _check(future: concurrent.futures.Future[Any], check: Callable[[], None]) -> None:
        try:
            check()
        except BaseException:
            future.cancel()
            with contextlib.suppress(BaseException):
                future.exception(_END_SECONDS)
            raise

    def close(self) -> None:
        """End everything; safe to call twice."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end_tasks(), self._loop).result(_END_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_SECONDS)
        self._loop.close()

    async def _end_tasks(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
