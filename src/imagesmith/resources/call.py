"""The context of a handler: the caller, the time and the open unit of work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.engine.protocol import Builder
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.errors import dry_run_passed
from imagesmith.resources.managed import ManagedContent
from imagesmith.settings import Settings
from imagesmith.store.queries import Selection
from imagesmith.values.api import ApiRequest, ApiResponse
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant

_log = logging.getLogger(__name__)


class EffectKind(StrEnum):
    """The kinds of effects, in the words of the log."""

    START = "the start of"
    CANCEL = "the cancellation of"
    ANSWER = "the answer to"
    CLOCK = "the clock's wake-up for"
    PIPELINE_LOG = "a line of the log of"


@dataclass(frozen=True)
class Effect:
    """One action after the commit, and the name under which its failure is reported."""

    kind: EffectKind
    subject: str
    """ARNs, or other names that fit the kind."""
    action: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


def carry_out(effects: Iterable[Effect]) -> None:
    """Execute each in order, even after failures. Raises the first failure of an effect that is not a log line."""
    failed: Exception | None = None
    for effect in effects:
        try:
            effect.action()
        except Exception as error:
            _log.warning("%s failed after its commit: %r", effect, error)
            if effect.kind is not EffectKind.PIPELINE_LOG:
                failed = failed or error
    if failed is not None:
        raise failed


WakeClock = Callable[[datetime], None]
"""Notifies the scheduler of this process of a schedule's new fire time."""


@dataclass(frozen=True)
class Call:
    """One operation under execution. Handlers read the clock, ids and settings only from here."""

    operation: str
    caller: Caller
    request: ApiRequest
    now: datetime
    tx: Connection
    settings: Settings
    managed: ManagedContent
    page_secret: bytes
    fetched: str | None = None
    """The text behind an `s3://` source of the request, read before the start of the unit of work."""
    builds: Builder | None = None
    effects: list[Effect] = field(default_factory=list)
    """The effects after the commit, in order: enqueue, cancel."""
    wake_clock: WakeClock | None = None

    @property
    def account(self) -> str:
        return self.caller.account

    @property
    def region(self) -> str:
        return self.caller.region

    @property
    def stamp(self) -> str:
        return iso_instant(self.now)

    @property
    def tokens_since(self) -> datetime:
        return self.now - timedelta(hours=self.settings.idempotency_hours)

    def arn(
        self,
        kind: str,
        slug: str,
        *,
        version: str | None = None,
        build: int | None = None,
        family: str | None = None,
    ) -> Arn:
        """An ARN that belongs to the caller."""
        number = None if build is None else str(build)
        return Arn(
            partition=self.caller.partition,
            region=self.region,
            owner=self.account,
            kind=kind,
            slug=slug,
            version=version,
            build=number,
            family=family,
        )

    def own(self, kind: str, **wanted: Any) -> Selection:
        """A selection of the caller's resources."""
        return Selection(account=self.account, region=self.region, kind=kind, **wanted)

    def afterwards(self, kind: EffectKind, subject: str, action: Callable[[], None]) -> None:
        """Add an effect."""
        self.effects.append(Effect(kind, subject, action))

    def stop_if_dry_run(self) -> None:
        """End a dry run here: every check passed, nothing was written (spec/api.md 2.3)."""
        if self.request.get("dryRun"):
            raise dry_run_passed()


Handler = Callable[[Call, ApiRequest], ApiResponse]
"""Executes one operation. Raises ApiError."""
