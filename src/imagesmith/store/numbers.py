"""Counter numbers for many rows of one unit of work: read once, handed out here, written once."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from imagesmith.store import counters


class Numbers:
    """Hands out the numbers of counters.next_number(). Needs the turn to write in the scope of the counters.

    No number is taken before save(), which must be called before the end of the unit of work.
    """

    def __init__(self, tx: Connection) -> None:
        self._tx = tx
        self._last: dict[str, int] = {}

    def next(self, key: str) -> int:
        """The next number of a counter; the first is 1."""
        if key not in self._last:
            self._last[key] = counters.counter(self._tx, key) or 0
        self._last[key] += 1
        return self._last[key]

    def save(self) -> None:
        for key, number in self._last.items():
            counters.raise_counter(self._tx, key, number)
