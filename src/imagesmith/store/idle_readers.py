"""Connections between transactions that only read, on SQLite.

A pool checks, resets and announces a connection each time it changes hands, which takes as long as the
statements of a short read. A reader here is handed over as it is, once its transaction is rolled back.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import Connection, Engine

from imagesmith.store.prepared import driver_of

_MOST: Final = 8


class IdleReaders:
    """The connections that no thread reads with at the moment; the last one used is the next one taken."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: list[Connection] = []

    def take(self) -> Connection:
        """A connection without a transaction."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._engine.connect()

    def give_back(self, connection: Connection) -> None:
        """End the transaction of a connection, which others may take then."""
        try:
            if connection.in_transaction():
                connection.rollback()
            driver_of(connection).rollback()
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < _MOST:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
