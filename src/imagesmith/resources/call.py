"""What a handler gets besides the request: who asks, when, and the open unit of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.engine.protocol import Builder
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.errors import dry_run_passed
from imagesmith.resources.managed import ManagedContent
from imagesmith.settings import Settings
from imagesmith.store.queries import Selection
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant

Effect = Callable[[], None]

WakeClock = Callable[[datetime], None]
"""Tells the scheduler of this process that a schedule was armed anew: its next fire time."""


@dataclass(frozen=True)
class Call:
    """One operation being carried out. Handlers read the clock, ids and settings only from here."""

    operation: str
    caller: Caller
    request: Mapping[str, Any]
    now: datetime
    tx: Connection
    settings: Settings
    managed: ManagedContent
    page_secret: bytes
    fetched: str | None = None
    """The text behind an `s3://` source of the request, read before the unit of work began."""
    builds: Builder | None = None
    effects: list[Effect] = field(default_factory=list)
    """What happens after the commit, in order: enqueue, cancel."""
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
        return Arn(self.caller.partition, self.region, self.account, kind, slug, version, number, family)

    def own(self, kind: str, **wanted: Any) -> Selection:
        """A selection of the caller's resources."""
        return Selection(account=self.account, region=self.region, kind=kind, **wanted)

    def end_of_checks(self) -> None:
        """A dry run stops here: every check passed, nothing was written (spec/api.md 2.3)."""
        if self.request.get("dryRun"):
            raise dry_run_passed()
