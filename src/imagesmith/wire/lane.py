"""Short changes: answered in the event loop, as many together as wait, which share a commit made by one thread.

    submit --> waiting --next turn of the loop--> answered there, at most `_MOST` --thread: COMMIT--> told
                              |
                              somebody else has the database: the thread waits for the turn and answers them itself
                              |
                              not in time: told None, each is answered elsewhere

Changes of a SQLite database run one after another whatever asks for them. A thread for them would fight the event
loop for the interpreter several times for each change, and both would be slower; what does not need the interpreter
is the flush to the disk. Meanwhile the loop reads the requests of the next commit.
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
"""How long changes wait together for their turn; longer than that each waits alone."""

Told = Callable[[Response | None], None]
"""Called in the event loop with the answer; None: the request is to be answered elsewhere, nothing was done."""


class Batch(Protocol):
    """Answers that share a commit; see service.AnsweredTogether."""

    def answer(self, requests: Iterator[Request]) -> None: ...

    def end(self) -> Sequence[Response]: ...


class Begin(Protocol):
    def __call__(self, *, patience: float) -> Batch | None:
        """Begin a batch; None when the turn does not come within `patience` seconds."""
        ...


class WriteLane:
    """Answers requests in the order they came. Used in one event loop; one batch is under way at a time.

    `fault` gives the response for those whose answer could not be made by a fault of ours.
    """

    def __init__(self, begin: Begin, fault: Callable[[], Response]) -> None:
        self._begin = begin
        self._fault = fault
        self._waiting: deque[tuple[Request, Told]] = deque()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changes")

    def submit(self, request: Request, told: Told) -> None:
        """Answer a request soon; called in the event loop."""
        self._waiting.append((request, told))
        if not self._busy:
            self._busy = True
            # not at once: other requests of this turn of the loop get into the same commit
            loop = asyncio.get_running_loop()
            loop.call_soon(self._carry_out, loop)

    def close(self) -> None:
        """Wait for the commit that is under way, and end the thread; the event loop has ended."""
        self._thread.shutdown(wait=True)

    def _carry_out(self, loop: asyncio.AbstractEventLoop) -> None:
        asked: list[Told] = []
        batch = self._begun(patience=0)
        if batch is not None:
            self._answer(batch, asked)
        self._thread.submit(self._finish, loop, batch, asked)

    def _finish(self, loop: asyncio.AbstractEventLoop, batch: Batch | None, asked: list[Told]) -> None:
        """In the thread: commit what was answered in the loop, or else answer what waits."""
        if batch is None:
            batch = self._begun(patience=_SOON_SECONDS)
            if batch is not None:
                self._answer(batch, asked)
        responses = [None for _ in self._take(asked)] if batch is None else self._ended(batch, len(asked))
        # a server that was told twice to stop does not wait for its answers
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._tell, loop, asked, responses)

    def _tell(
        self, loop: asyncio.AbstractEventLoop, asked: Sequence[Told], responses: Sequence[Response | None]
    ) -> None:
        for told, response in zip(asked, responses, strict=True):
            told(response)
        if self._waiting:
            loop.call_soon(self._carry_out, loop)
        else:
            self._busy = False

    def _begun(self, *, patience: float) -> Batch | None:
        try:
            return self._begin(patience=patience)
        except Exception:
            # each request finds out alone what is wrong, and is told so
            _log.exception("no changes could be begun together")
            return None

    def _answer(self, batch: Batch, asked: list[Told]) -> None:
        try:
            batch.answer(self._take(asked))
        except Exception:
            _log.exception("%d changes were not answered", len(asked))

    def _ended(self, batch: Batch, count: int) -> list[Response]:
        """The responses to as many requests; a fault where there is none."""
        responses: Sequence[Response] = ()
        try:
            responses = batch.end()
        except Exception:
            _log.exception("%d changes were not committed", count)
        return [*responses, *(self._fault() for _ in range(count - len(responses)))]

    def _take(self, asked: list[Told]) -> Iterator[Request]:
        """What waits, one after the other, until nothing does; `asked` get its answers."""
        while self._waiting and len(asked) < _MOST:
            request, told = self._waiting.popleft()
            asked.append(told)
            yield request
