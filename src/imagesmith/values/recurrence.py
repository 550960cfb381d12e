"""The common part of cron and rate schedules: errors, and the walk from one fire time to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime


class ScheduleError(ValueError):
    """An expression that breaks the grammar (spec/pipelines.md 2.2, 2.3).

    `position` counts characters from 0 inside the parentheses of a cron expression and is None for the others;
    `text` is the message alone; `detail` is the text after "is not valid. " in the API's message;
    `column` counts from 0 in the whole expression, for a caret under the wrong character.
    """

    def __init__(self, position: int | None, text: str, detail: str, *, column: int = 0) -> None:
        self.position = position
        self.text = text
        self.detail = detail
        self.column = column
        super().__init__(detail)


class UnknownZone(ValueError):
    """A time zone name that the installed zone database does not have."""


class Recurrence(ABC):
    """A rule that names instants; immutable."""

    __slots__ = ()

    @abstractmethod
    def next_after(self, moment: datetime, anchor: datetime | None = None) -> datetime | None:
        """The first instant strictly after `moment` (both aware), in UTC; None when there is none.

        `anchor` is the moment the schedule was created or last changed; only rates use it.
        """

    @abstractmethod
    def explain(self) -> str:
        """The rule in plain English, one sentence."""

    def upcoming(self, moment: datetime, count: int, anchor: datetime | None = None) -> list[datetime]:
        """The next `count` instants after `moment`, fewer when the rule ends."""
        found: list[datetime] = []
        while len(found) < count:
            following = self.next_after(found[-1] if found else moment, anchor)
            if following is None:
                break
            found.append(following)
        return found


def require_aware(moment: datetime, what: str) -> None:
    """Raise ValueError for a time without a zone, which would silently be in this machine's zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{what} {moment.isoformat()} has no time zone; give an aware datetime")
