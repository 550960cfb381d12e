"""Group commit: short changes are answered in the event loop, and all that wait share a commit made by one thread.

    submit --> waiting --next turn of the loop--> answered there, at most `_MOST` --thread: COMMIT--> answered
                              |
                              the database is locked: the thread waits for it and answers them itself
                              |
                              not in time: None, each is answered elsewhere

Changes of a SQLite database always run one after another. A thread for them would compete with the event loop for
the interpreter several times for each change, and both would be slower; only the flush to the disk does not need
the interpreter. Meanwhile the loop reads the requests of the next commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from imagesmith.wire.messages import Request, Response

_log = logging.getLogger(__name__)

_MOST = 32
_SOON_SECONDS = 0.05
"""How long changes wait together for the database; after that each waits alone."""

OnResponse = Callable[[Response | None], None]
"""Called in the event loop with the answer; None: nothing was done, the request must be answered elsewhere."""


class Batch(Protocol):
    """Answers that share a commit; see service.AnsweredTogether."""

    def answer(self, requests: Iterator[Request]) -> None: ...

    def end(self) -> Sequence[Response]: ...


class Begin(Protocol):
    def __call__(self, *, patience: float) -> Batch | None:
        """Start a batch; None when the database is not free within `patience` seconds."""
        ...


class WriteBatcher:
    """Answers requests in their order of arrival. Used in one event loop; one batch is under way at a time.

    `fault` returns the response for requests that an internal error left without an answer.
    """

    def __init__(self, begin: Begin, fault: Callable[[], Response]) -> None:
        self._begin = begin
        self._fault = fault
        self._waiting: deque[tuple[Request, OnResponse]] = deque()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changes")

    def submit(self, request: Request, on_response: OnResponse) -> None:
        """Answer a request soon; called in the event loop."""
        self._waiting.append((request, on_response))
        if not self._busy:
            self._busy = True
            # not at once: other requests of this turn of the loop get into the same commit
            loop = asyncio.get_running_loop()
            loop.call_soon(self._carry_out, loop)

    def close(self) -> None:
        """Wait for the current commit and end the thread, after the event loop has ended."""
        self._thread.shutdown(wait=True)

    def _carry_out(self, loop: asyncio.AbstractEventLoop) -> None:
        callbacks: list[OnResponse] = []
        batch = self._try_begin(patience=0)
        if batch is not None:
            self._answer(batch, callbacks)
        self._thread.submit(self._finish, loop, batch, callbacks)

    def _finish(self, loop: asyncio.AbstractEventLoop, batch: Batch | None, callbacks: list[OnResponse]) -> None:
        """In the thread: commit the answers made in the loop, or else answer the waiting requests."""
        if batch is None:
            batch = self._try_begin(patience=_SOON_SECONDS)
            if batch is not None:
                self._answer(batch, callbacks)
        responses = (
            [None for _ in self._next_requests(callbacks)] if batch is None else self._commit(batch, len(callbacks))
        )
        # a server that was stopped twice does not wait for its answers
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._deliver, loop, callbacks, responses)

    def _deliver(
        self, loop: asyncio.AbstractEventLoop, callbacks: Sequence[OnResponse], responses: Sequence[Response | None]
    ) -> None:
        for on_response, response in zip(callbacks, responses, strict=True):
            on_response(response)
        if self._waiting:
            loop.call_soon(self._carry_out, loop)
        else:
            self._busy = False

    def _try_begin(self, *, patience: float) -> Batch | None:
        try:
            return self._begin(patience=patience)
        except Exception:
            # each request then runs alone and gets its own error
            _log.exception("a group of changes could not be started")
            return None

    def _answer(self, batch: Batch, callbacks: list[OnResponse]) -> None:
        try:
            batch.answer(self._next_requests(callbacks))
        except Exception:
            _log.exception("%d changes were not answered", len(callbacks))

    def _commit(self, batch: Batch, count: int) -> list[Response]:
        """The responses to a number of requests; a fault where there is none."""
        responses: Sequence[Response] = ()
        try:
            responses = batch.end()
        except Exception:
            _log.exception("%d changes were not committed", count)
        return [*responses, *(self._fault() for _ in range(count - len(responses)))]

    def _next_requests(self, callbacks: list[OnResponse]) -> Iterator[Request]:
        """The waiting requests one after the other, until none is left; `callbacks` receive the answers."""
        while self._waiting and len(callbacks) < _MOST:
            request, on_response = self._waiting.popleft()
            callbacks.append(on_response)
            yield request
