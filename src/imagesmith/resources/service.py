"""Executes operations: idempotency, one unit of work per call, effects after the commit.

    call --> rules of its members --> token claimed --> source read (no transaction) --> BEGIN
                token known? --> same request: stored answer | other request: mismatch
                handler: checks, writes          --> remember the token --> COMMIT --> effects

Invariant: the answer of a write is stored in the transaction of the write, so a client that repeats a request after
a lost answer gets the same answer and nothing happens twice (spec/api.md 2.5). Meanwhile the same token is refused,
and so is a change that cannot lock its account and region within some seconds (spec/api.md 8, no. 18).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from imagesmith.engine.protocol import Builder
from imagesmith.resources.call import Call, Effect, WakeClock, carry_out
from imagesmith.resources.dispatch import CallBatch, Caller, NotNow
from imagesmith.resources.errors import ApiError, in_use, not_implemented, token_mismatch, unavailable
from imagesmith.resources.in_flight import InFlight, Key
from imagesmith.resources.managed import ManagedContent
from imagesmith.resources.operations import BuiltOperation, built_operations
from imagesmith.resources.sources import ReadSource, s3_reader
from imagesmith.settings import Settings
from imagesmith.store import client_tokens, counters
from imagesmith.store.audit_lines import put_line
from imagesmith.store.database import CommonCommit, Database, StoreBusy, StoreUnavailable
from imagesmith.store.outage import StoreDamaged, StoreFull
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.json_text import json_bytes
from imagesmith.values.names import sha256_hex

_log = logging.getLogger(__name__)

TURN_SECONDS = 5.0
"""How long a change waits for another one of its account and region (spec/api.md 8, no. 18)."""

_FORGET_TOKENS_EVERY = timedelta(minutes=5)

_PAGE_SECRET = "page-token-secret"  # noqa: S105 (the name of a counter)


class _JoinedCalls(threading.local):
    """The batch that the calls of this thread belong to."""

    calls: _ServiceBatch | None = None


class Service:
    """The production Dispatcher."""

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
        self._joined = _JoinedCalls()
        self._tokens_due: datetime | None = None
        """The next time at which expired client tokens are deleted."""

    @property
    def operations(self) -> frozenset[str]:
        return frozenset(self._operations)

    @property
    def short_reads(self) -> frozenset[str]:
        return self._short(writes=False)

    @property
    def short_changes(self) -> frozenset[str]:
        return self._short(writes=True)

    @property
    def changes(self) -> frozenset[str]:
        return frozenset(name for name, operation in self._operations.items() if operation.writes)

    def _short(self, *, writes: bool) -> frozenset[str]:
        """Only on SQLite: on PostgreSQL every statement is a message whose answer may be late."""
        if not self._database.is_sqlite:
            return frozenset()
        return frozenset(name for name, it in self._operations.items() if it.short and it.writes == writes)

    def begin_batch(self, *, patience: float) -> CallBatch:
        """See dispatch.Dispatcher."""
        try:
            return _ServiceBatch(
                self._database.begin_group(patience=patience), self._joined, self._in_flight, self._outage_error
            )
        except StoreUnavailable as error:
            raise NotNow from error

    def call(self, operation: str, caller: Caller, request: ApiRequest) -> ApiResponse:
        """Execute one operation; see dispatch.Dispatcher. Raises ApiError."""
        built = self._operations.get(operation)
        if built is None:
            raise not_implemented(operation)
        for rule in built.rules:
            rule(request, self._settings)
        try:
            if built.writes:
                return self._claimed(built, operation, caller, request)
            with self._database.read() as tx:
                return built.handler(self._make_call(operation, caller, request, None, tx), request)
        except StoreUnavailable as error:
            raise self._outage_error(error, caller.request_id) from error

    def _claimed(self, built: BuiltOperation, operation: str, caller: Caller, request: ApiRequest) -> ApiResponse:
        """Write while this call holds the client token."""
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

    def _outage_error(self, error: StoreUnavailable, request_id: str) -> ApiError:
        """Maps a database outage to an API error."""
        if isinstance(error, StoreBusy):
            message = (
                f"Timed out after {self._turn_seconds:g} seconds waiting for another change in this account "
                "and Region."
            )
            return in_use(f"{message} Retry later.")
        # the driver's text may name hosts and users: only the log may show it
        _log.warning("request %s: the database is not available: %s", request_id, error)
        if isinstance(error, StoreFull):
            return unavailable("No space is left on the disk of the database. Free some and try again.")
        if isinstance(error, StoreDamaged):
            return unavailable("The database is damaged; the log of the server names the file. Restore it.")
        return unavailable("The database is not available. Try again later.")

    def scoped(self, operation: str, caller: Caller, work: Callable[[Call], Any]) -> Any:
        """Run work of the server itself (the clock) as one unit of work, with effects after the commit."""
        with self._database.write(f"{caller.account}/{caller.region}") as tx:
            call = self._make_call(operation, caller, {}, None, tx)
            result = work(call)
        carry_out(call.effects)
        return result

    def reading(self, operation: str, caller: Caller, work: Callable[[Call], Any]) -> Any:
        """As scoped(), but read-only, so it blocks no other call."""
        with self._database.read() as tx:
            return work(self._make_call(operation, caller, {}, None, tx))

    def _write(self, built: BuiltOperation, operation: str, caller: Caller, request: ApiRequest) -> ApiResponse:
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
            answer = _answer_once(call, built, token) if token else built.handler(call, request)
            if caller.audit_line is not None:
                put_line(tx, caller.audit_line(answer))
        if self._joined.calls is not None:
            self._joined.calls.effects += call.effects
            return answer
        carry_out(call.effects)
        return answer

    def _forget_tokens(self, call: Call) -> None:
        """Delete expired tokens now and then: until then they are ignored, but kept."""
        if self._tokens_due is None or call.now >= self._tokens_due:
            self._tokens_due = call.now + _FORGET_TOKENS_EVERY
            client_tokens.forget_tokens(call.tx, call.tokens_since)

    def _replayed(self, operation: str, caller: Caller, request: ApiRequest) -> ApiResponse | None:
        """The answer of an already executed call: its source may no longer exist, and is not read again."""
        token = request.get("clientToken")
        if not token:
            return None
        with self._database.read() as tx:
            return _remembered(self._make_call(operation, caller, request, None, tx), token, _fingerprint(request))

    def _make_call(self, operation: str, caller: Caller, request: ApiRequest, fetched: Any, tx: Any) -> Call:
        return Call(
            operation=operation, caller=caller, request=request, now=self._clock(), tx=tx, settings=self._settings,
            managed=self._managed, page_secret=self._page_secret, fetched=fetched, builds=self._builds, effects=[],
            wake_clock=self._wake_clock,
        )  # fmt: skip

    def with_clock(self, wake: WakeClock) -> None:
        """Connect the scheduler, whose construction needs this service; `wake` is called for armed schedules."""
        self._wake_clock = wake


def _fingerprint(request: ApiRequest) -> str:
    members = {name: value for name, value in request.items() if name != "clientToken"}
    return sha256_hex(json_bytes(members, ordered=True, default=str))


def _remembered(call: Call, token: str, fingerprint: str) -> ApiDocument | None:
    """The stored answer of a token, or None for a new token. Raises ApiError for another request's token."""
    known = client_tokens.find_token(
        call.tx, call.account, call.region, call.operation, token, not_before=call.tokens_since
    )
    if known is None:
        return None
    if known[0] != fingerprint:
        raise token_mismatch(token)
    return known[1]


def _answer_once(call: Call, built: BuiltOperation, token: str) -> ApiDocument:
    fingerprint = _fingerprint(call.request)
    known = _remembered(call, token, fingerprint)
    if known is not None:
        return known
    answer = built.handler(call, call.request)
    client_tokens.remember_token(
        call.tx, call.account, call.region, call.operation, token,
        fingerprint=fingerprint,
        response={**answer, "requestId": call.caller.request_id},
        now=call.now,
    )  # fmt: skip
    return answer


class _ServiceBatch:
    """See dispatch.CallBatch."""

    def __init__(
        self,
        commit: CommonCommit,
        joined: _JoinedCalls,
        in_flight: InFlight,
        outage_error: Callable[[StoreUnavailable, str], ApiError],
    ) -> None:
        self._commit = commit
        self._joined = joined
        self._in_flight = in_flight
        self._outage_error = outage_error
        self.effects: list[Effect] = []
        """The effects after the commit, in order."""
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
            raise self._outage_error(error, "of several changes") from error
        finally:
            self._in_flight.release(self.claims)
        carry_out(self.effects)


def _shared_secret(database: Database) -> bytes:
    """The key that seals page tokens: one per database, so that several servers accept each other's tokens."""
    with database.write("page-secret") as tx:
        number = counters.counter(tx, _PAGE_SECRET)
        if number is None:
            number = secrets.randbits(62)
            counters.raise_counter(tx, _PAGE_SECRET, number)
    return number.to_bytes(8, "big")
