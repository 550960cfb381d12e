"""Which requests the audit log records, and what it says about them.

    AuditedCall   begin() once the caller is known and the operation changes something --> end() with the answer
    Auditor       record() for a request of its own; recorded() around the commit of several

Only authenticated requests are recorded: what an unknown client sends must not fill the disk. Requests that share a
commit are written before it and flushed beside it, since two flushes one after the other would halve the changes a
second; a commit that fails adds a second line with the error under the same request id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from imagesmith.accounts.audit import AuditLog, AuditRecord, AuditUnavailable
from imagesmith.wire.messages import Request, Response
from imagesmith.wire.signature import Signer

_log = logging.getLogger(__name__)

_MAKES: Final = ("Create", "Import", "Distribute")
"""Beginnings of operations whose answer names the new resource."""


class AuditedCall:
    """What is known about a request so far."""

    def __init__(self, request: Request, request_id: str) -> None:
        self._request = request
        self._request_id = request_id
        self._identity: Signer | None = None
        self._operation = ""
        self.resource = ""

    @property
    def is_audited(self) -> bool:
        """Whether it is an authenticated request that changes something."""
        return self._identity is not None

    def begin(self, identity: Signer, operation: str, resource: str) -> None:
        self._identity, self._operation, self.resource = identity, operation, resource

    def end(self, answer: Mapping[str, Any]) -> None:
        """Note what the operation made."""
        if self._operation.startswith(_MAKES):
            made = (value for name, value in answer.items() if name.endswith("Arn") and isinstance(value, str))
            self.resource = next(made, self.resource)

    def record(self, moment: datetime, result: str) -> AuditRecord:
        assert self._identity is not None
        identity = self._identity
        return AuditRecord(
            time=moment, principal=identity.principal, source=self._request.address, operation=self._operation,
            resource=self.resource, result=result, account=identity.account, region=identity.region,
            access_key_id=identity.access_key_id, request_id=self._request_id,
            agent=self._request.header("user-agent"),
        )  # fmt: skip


Audited = Sequence[tuple[AuditedCall, Response]]


class Auditor:
    """Writes the records of a server. Without a log it records nothing. Call close() after the last request."""

    def __init__(self, log: AuditLog | None, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="audit")

    def close(self) -> None:
        self._flusher.shutdown(wait=True)
        if self._log is not None:
            self._log.close()

    def reserve(self) -> None:
        """Raises AuditUnavailable when a change could not be recorded."""
        if self._log is not None:
            self._log.reserve()

    def record(self, call: AuditedCall, response: Response) -> bool:
        """Record a request durably; returns False if that failed."""
        if self._log is None:
            return True
        try:
            self._log.record(call.record(self._clock(), response.error or "OK"))
        except AuditUnavailable as error:
            _log.error("a request is not recorded: %s", error)
            return False
        return True

    @contextmanager
    def recorded(self, audited: Audited) -> Iterator[Callable[[], bool]]:
        """Write the lines and flush them during the block; the value waits for that and returns its success."""
        if self._log is None or not audited:
            yield lambda: True
            return
        flushed: Future[None] = Future()
        try:
            moment = self._clock()
            number = self._log.append([call.record(moment, response.error or "OK") for call, response in audited])
            flushed = self._flusher.submit(self._log.sync, number)
        except AuditUnavailable as error:
            flushed.set_exception(error)
        yield lambda: _succeeded(flushed)

    def correct(self, audited: Audited, result: str) -> None:
        """Record that changes were not made although their lines say so."""
        if self._log is None:
            return
        moment = self._clock()
        wrong = [call.record(moment, result) for call, response in audited if not response.error]
        try:
            self._log.record(*wrong)
        except AuditUnavailable as error:
            _log.error("the end of %d requests is not recorded: %s", len(wrong), error)


def _succeeded(flushed: Future[None]) -> bool:
    try:
        flushed.result()
    except AuditUnavailable as error:
        _log.error("requests are not recorded: %s", error)
        return False
    return True
