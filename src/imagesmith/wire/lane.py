"""One thread for short changes: it answers as many together as wait, which then share a commit.

    event loop --submit--> waiting --take, at most `_MOST`--> answered in one commit --> futures of the event loop
                                                  \\--> somebody else holds the database: None, answered elsewhere

Changes of a SQLite database run one after another whatever asks for them. In threads of their own they would wake
each other, and fight for the interpreter, several times for each change. Requests that come while others are
answered still get into their commit; those that come later are read while it is on its way to the disk.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from imagesmith.wire.messages import Request, Response

_log = logging.getLogger(__name__)

_MOST = 32

Answer = Callable[[Iterable[Request]], Sequence[Response] | None]
Waiting = tuple[Request, "asyncio.Future[Response | None]"]


class WriteLane:
    """Answers requests in the order they came. `answer` gives a response for each, or None when it did nothing."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._waiting: deque[Waiting] = deque()
        self._called = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(self, request: Request) -> asyncio.Future[Response | None]:
        """The answer to come, None when the request is to be answered elsewhere; called in the event loop."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="changes", daemon=True)
            self._thread.start()
        future: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._called.set()
        return future

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        self._closing = True
        self._called.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._called.wait()
            self._called.clear()
            while self._waiting:
                self._carry_out()
            if self._closing:
                return

    def _carry_out(self) -> None:
        futures: list[asyncio.Future[Response | None]] = []
        settle: Callable[[], None]
        try:
            answered = self._answer(self._take(futures, _MOST))
            given_back = [None for _ in self._take(futures, _MOST)] if answered is None else ()
            settle = partial(_settle, futures, answered or given_back)
        except Exception as error:
            if not futures:
                list(self._take(futures, 1))
            _log.exception("%d changes were not answered", len(futures))
            settle = partial(_fail, futures, error)
        futures[0].get_loop().call_soon_threadsafe(settle)

    def _take(self, futures: list[asyncio.Future[Response | None]], most: int) -> Iterator[Request]:
        """What waits, one after the other, until nothing does; `futures` get its answers."""
        while self._waiting and len(futures) < most:
            request, future = self._waiting.popleft()
            futures.append(future)
            yield request


def _settle(futures: Sequence[asyncio.Future[Response | None]], responses: Sequence[Response | None]) -> None:
    for future, response in zip(futures, responses, strict=True):
        if not future.done():
            future.set_result(response)


def _fail(futures: Sequence[asyncio.Future[Response | None]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
