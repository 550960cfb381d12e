"""What callers do that wait for the database during an outage: transactions that are repeated until they succeed.

persistent method --action--> answered
     ^                 |
     +---- wait() -----+  StoreUnavailable, StoreAway
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from imagesmith.retries import Failure, retrying
from imagesmith.store.outage import StoreAway, StoreUnavailable

Value = TypeVar("Value")
Given = ParamSpec("Given")


class Patience(Protocol):
    """Waiting for the database during an outage."""

    def wait(self, error: BaseException) -> None:
        """Wait a moment; raises a BaseException that is not an Exception when the caller should stop waiting."""
        ...

    def over(self) -> None:
        """The database answered; called whether or not there was an outage."""
        ...


class _OutageOfAttempt(Exception):
    """An attempt met an outage, perhaps in a BaseException."""

    def __init__(self, outage: BaseException) -> None:
        super().__init__(str(outage))
        self.outage = outage


def persistently(action: Callable[[], Value], patience: Patience) -> Value:
    """The result of `action`, which is retried while the database is unavailable."""

    def attempt() -> Value:
        try:
            return action()
        except (StoreUnavailable, StoreAway) as error:
            raise _OutageOfAttempt(error) from error

    def wait(failed: Failure, _pause: float) -> None:
        assert isinstance(failed.error, _OutageOfAttempt)
        patience.wait(failed.error.outage)

    return retrying(attempt, retry=lambda failed: isinstance(failed.error, _OutageOfAttempt), before_retry=wait)


class CountOnce:
    """One increment of a stored number that repeated transactions apply only once.

    A COMMIT without an answer may have succeeded; the stored number shows whether it did.
    """

    def __init__(self, by: int) -> None:
        self._by = by
        self._written: set[int] = set()

    def after(self, stored: int) -> int:
        """The number to store now; only one process may write the number meanwhile."""
        if stored in self._written:
            return stored
        self._written.add(stored + self._by)
        return stored + self._by


class Persisting(Protocol):
    """A database that may retry an action during an outage."""

    def persist(self, action: Callable[[], Value]) -> Value: ...


class Stored(Protocol):
    """An object whose methods read and write a database."""

    @property
    def database(self) -> Persisting: ...


Owner = TypeVar("Owner", bound=Stored)


def persistent(
    method: Callable[Concatenate[Owner, Given], Value],
) -> Callable[Concatenate[Owner, Given], Value]:
    """Decorator for a repeatable method of one transaction: with patience it is retried until it succeeds.

    It is also repeated when its end is unknown: the connection may break between the COMMIT and its answer.
    """

    @wraps(method)
    def call(owner: Owner, /, *arguments: Given.args, **named: Given.kwargs) -> Value:
        return owner.database.persist(lambda: method(owner, *arguments, **named))

    return call
