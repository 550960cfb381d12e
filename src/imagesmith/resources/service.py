"""Carries out operations: idempotency, one unit of work per call, effects after the commit.

    call --> token claimed --> source read (no transaction) --> BEGIN
                token known? --> same request: stored answer | other request: mismatch
                handler: checks, writes          --> remember the token --> COMMIT --> effects

Invariant: the answer of a write is remembered in the transaction that made it true, so a client that asks again
after a lost answer gets the same one and nothing happens twice (spec/api.md 2.5). Meanwhile the same token is
refused, and so is a change that cannot have its turn within some seconds (spec/api.md 8, no. 18).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from imagesmith.engine.protocol import Builder
from imagesmith.resources.call import Call, Effect, WakeClock
from imagesmith.resources.dispatch import Caller, NotNow, Together
from imagesmith.resources.errors import ApiError, in_use, not_implemented, token_mismatch, unavailable
from imagesmith.resources.in_flight import InFlight, Key
from imagesmith.resources.managed import ManagedContent
from imagesmith.resources.operations import Operation, built_operations
from imagesmith.resources.sources import ReadSource, s3_reader
from imagesmith.settings import Settings
from imagesmith.store import queries
from imagesmith.store.database import Database, StoreBusy, StoreUnavailable
from imagesmith.store.database import Together as CommonCommit
from imagesmith.values.json_text import json_bytes
from imagesmith.values.names import sha256_hex

_log = logging.getLogger(__name__)

TURN_SECONDS = 5.0
"""How long a change waits for another one of its account and region (spec/api.md 8, no. 18)."""

_FORGET_TOKENS_EVERY = timedelta(minutes=5)

_PAGE_SECRET = "page-token-secret"  # noqa: S105 (the name of a counter)


class _Joined(threading.local):
    """Where what this thread calls is part of a commit that is shared."""

    calls: _Together | None = None


class Service:
    """The Dispatcher of the real thing."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        managed: ManagedContent,
        builds: Builder | None = None,
        read_source: ReadSource | None = None,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._managed = managed
        self._builds = builds
        self._wake_clock: WakeClock | None = None
        self._read_source = read_source or s3_reader(settings)
        self._turn_seconds = turn_seconds
        self._in_flight = InFlight()
        self._operations = built_operations()
        self._page_secret = _shared_secret(database)
        self._joined = _Joined()
        self._tokens_due: datetime | None = None
        """When client tokens that are too old are forgotten next."""

    @property
    def operations(self) -> frozenset[str]:
        return frozenset(self._operations)

    @property
    def short_reads(self) -> frozenset[str]:
        return self._short(writes=False)

    @property
    def short_changes(self) -> frozenset[str]:
        return self._short(writes=True)

    def _short(self, *, writes: bool) -> frozenset[str]:
        """On SQLite only: on PostgreSQL every statement is a message that may have to be waited for."""
        if not self._database.is_sqlite:
            return frozenset()
        return frozenset(name for name, it in self._operations.items() if it.short and it.writes == writes)

    def together(self, *, patience: float) -> Together:
        """See dispatch.Dispatcher."""
        try:
            return _Together(self._database.together(patience=patience), self._joined, self._in_flight, self._told)
        except StoreUnavailable as error:
            raise NotNow from error

    def call(self, operation: str, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation; see dispatch.Dispatcher. Raises ApiError."""
        built = self._operations.get(operation)
        if built is None:
            raise not_implemented(operation)
        try:
            if built.writes:
                return self._claimed(built, operation, caller, request)
            with self._database.read() as tx:
                return built.handler(self._make_call(operation, caller, request, None, tx), request)
        except StoreUnavailable as error:
            raise self._told(error, caller.request_id) from error

    def _claimed(
        self, built: Operation, operation: str, caller: Caller, request: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write while the client token is this call's."""
        token = request.get("clientToken")
        if not token or request.get("dryRun"):
            return self._write(built, operation, caller, request)
        key = (caller.account, caller.region, operation, token)
        self._in_flight.claim(key)
        if self._joined.calls is not None:
            self._joined.calls.claims.append(key)
            return self._write(built, operation, caller, request)
        try:
            return self._write(built, operation, caller, request)
        finally:
            self._in_flight.release([key])

    def _told(self, error: StoreUnavailable, request_id: str) -> ApiError:
        """What a caller is told when the database is not had."""
        if isinstance(error, StoreBusy):
            message = f"Another call holds what this one changes for longer than {self._turn_seconds:g} seconds."
            return in_use(f"{message} Retry later.")
        # the driver's words may name hosts and users: they are for the log
        _log.warning("request %s: the database is not available: %s", request_id, error)
        return unavailable("The database is not available. Try again later.")

    def scoped(self, operation: str, caller: Caller, work: Callable[[Call], Any]) -> Any:
        """Run work of the server itself (the clock) as one unit of work, with effects after the commit."""
        with self._database.write(f"{caller.account}/{caller.region}") as tx:
            call = self._make_call(operation, caller, {}, None, tx)
            result = work(call)
        for effect in call.effects:
            effect()
        return result

    def reading(self, operation: str, caller: Caller, work: Callable[[Call], Any]) -> Any:
        """As scoped(), but what runs may only read, and holds nobody up."""
        with self._database.read() as tx:
            return work(self._make_call(operation, caller, {}, None, tx))

    def _write(
        self, built: Operation, operation: str, caller: Caller, request: Mapping[str, Any]
    ) -> dict[str, Any]:
        fetched = None
        if built.source and built.source in request:
            known = self._replayed(operation, caller, request)
            if known is not None:
                return known
            fetched = self._read_source(built.source, request[built.source])
        with self._database.write(f"{caller.account}/{caller.region}", patience=self._turn_seconds) as tx:
            call = self._make_call(operation, caller, request, fetched, tx)
            token = request.get("clientToken")
            if token:
                self._forget_tokens(call)
            answer = _once(call, built, token) if token else built.handler(call, request)
        if self._joined.calls is not None:
            self._joined.calls.effects += call.effects
            return answer
        for effect in call.effects:
            effect()
        return answer

    def _forget_tokens(self, call: Call) -> None:
        """Now and then: what is too old is not found in between, only kept."""
        if self._tokens_due is None or call.now >= self._tokens_due:
            self._tokens_due = call.now + _FORGET_TOKENS_EVERY
            queries.forget_tokens(call.tx, call.tokens_since)

    def _replayed(self, operation: str, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer of a call that was carried out already: its source may be gone, and is not read again."""
        token = request.get("clientToken")
        if not token:
            return None
        with self._database.read() as tx:
            return _remembered(self._make_call(operation, caller, request, None, tx), token, _fingerprint(request))

    def _make_call(self, operation: str, caller: Caller, request: Mapping[str, Any], fetched: Any, tx: Any) -> Call:
        return Call(
            operation=operation, caller=caller, request=request, now=self._clock(), tx=tx, settings=self._settings,
            managed=self._managed, page_secret=self._page_secret, fetched=fetched, builds=self._builds, effects=[],
            wake_clock=self._wake_clock,
        )  # fmt: skip

    def with_builds(self, builds: Builder) -> None:
        """Connect the engine, which needs the store before it can be made."""
        self._builds = builds

    def with_clock(self, wake: WakeClock) -> None:
        """Connect the scheduler, which is made of this service; `wake` hears of schedules that were armed."""
        self._wake_clock = wake


def _fingerprint(request: Mapping[str, Any]) -> str:
    members = {name: value for name, value in request.items() if name != "clientToken"}
    return sha256_hex(json_bytes(members, ordered=True, default=str))


def _remembered(call: Call, token: str, fingerprint: str) -> dict[str, Any] | None:
    """The answer that a token stands for, or None for a new token. Raises ApiError for another request's token."""
    known = queries.find_token(
        call.tx, call.account, call.region, call.operation, token, not_before=call.tokens_since
    )
    if known is None:
        return None
    if known[0] != fingerprint:
        raise token_mismatch(token)
    return known[1]


def _once(call: Call, built: Operation, token: str) -> dict[str, Any]:
    fingerprint = _fingerprint(call.request)
    known = _remembered(call, token, fingerprint)
    if known is not None:
        return known
    answer = built.handler(call, call.request)
    queries.remember_token(
        call.tx, call.account, call.region, call.operation, token,
        fingerprint=fingerprint,
        response={**answer, "requestId": call.caller.request_id},
        now=call.now,
    )  # fmt: skip
    return answer


class _Together:
    """See dispatch.Together."""

    def __init__(
        self,
        commit: CommonCommit,
        joined: _Joined,
        in_flight: InFlight,
        told: Callable[[StoreUnavailable, str], ApiError],
    ) -> None:
        self._commit = commit
        self._joined = joined
        self._in_flight = in_flight
        self._told = told
        self.effects: list[Effect] = []
        """What happens after the commit, in order."""
        self.claims: list[Key] = []
        """Client tokens that are in use until then."""

    @contextmanager
    def joined(self) -> Iterator[None]:
        self._joined.calls = self
        try:
            with self._commit.joined():
                yield
        finally:
            self._joined.calls = None

    def end(self) -> None:
        try:
            self._commit.end()
        except StoreUnavailable as error:
            raise self._told(error, "of several changes") from error
        finally:
            self._in_flight.release(self.claims)
        for effect in self.effects:
            effect()


def _shared_secret(database: Database) -> bytes:
    """The key that seals page tokens: one per database, so that several servers accept each other's tokens."""
    with database.write("page-secret") as tx:
        number = queries.counter(tx, _PAGE_SECRET)
        if number is None:
            number = secrets.randbits(62)
            queries.raise_counter(tx, _PAGE_SECRET, number)
    return number.to_bytes(8, "big")
