"""The copiers of a build whose stages copy at once: one for each copy that runs, used again by later ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imagesmith.copying.copier import FileCopier


class Copiers:
    """close() ends them all."""

    def __init__(self, make: Callable[[int], FileCopier], *, given: FileCopier | None = None) -> None:
        """`make` makes one with a number, which is part of its name. `given` is used first, and stays open."""
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[FileCopier] = [given] if given else []
        self._made: list[FileCopier] = []

    @contextmanager
    def borrowed(self) -> Iterator[FileCopier]:
        """A copier for one copy."""
        with self._lock:
            copier = self._idle.pop() if self._idle else None
            if copier is None:
                copier = self._make(len(self._made))
                self._made.append(copier)
        try:
            yield copier
        finally:
            with self._lock:
                self._idle.append(copier)

    def close(self) -> None:
        while self._made:
            self._made.pop().close()
