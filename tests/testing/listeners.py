"""Listening servers that tests share: starting one is quick, ending one takes uvicorn 0.2 s.

test --lease(app)--> a free listener, which serves this application until the lease ends
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from imagesmith.wire.app import App
from imagesmith.wire.messages import Request, Response
from imagesmith.wire.server import running


class _Front:
    """The application of a listener, which hands every request to the one that a test leased it for."""

    app: App | None = None

    def try_inline(self, request: Request, on_response: Callable[[Response], None], peer: str) -> bool:
        assert self.app is not None, "a request came after the end of its test"
        return self.app.try_inline(request, on_response, peer)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.app is not None, "a request came after the end of its test"
        await self.app(scope, receive, send)


class Listeners:
    """Lends listeners, one after the other to many tests."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._free: list[tuple[_Front, str]] = []

    @contextmanager
    def lease(self, app: App) -> Iterator[str]:
        """Serve an application; yields its URL."""
        front, url = self._free.pop() if self._free else self._start()
        front.app = app
        try:
            yield url
        finally:
            front.app = None
            self._free.append((front, url))

    def _start(self) -> tuple[_Front, str]:
        front = _Front()
        return front, self._stack.enter_context(running(front))


@contextmanager
def listeners() -> Iterator[Listeners]:
    """A pool whose listeners end with it."""
    with ExitStack() as stack:
        yield Listeners(stack)
