"""Which requests the audit log records, and what it says about them.

    AuditedCall   begin() once the caller is known and the operation changes something --> line() in the transaction
                  of the change
    Auditor       settle() after the transactions, before the answers

Only authenticated requests are recorded: what an unknown client sends must not fill the disk. The line of a change
is in the database with it, and so durable as soon as it is. A refusal, which has no transaction, is flushed to the
file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from imagesmith.accounts.audit import AuditRecord, AuditUnavailable
from imagesmith.accounts.audit_outbox import AuditOutbox
from imagesmith.store.audit_lines import AuditLine
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
        self.line: AuditLine | None = None
        """The line that is in the transaction of the change."""

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


Answered = Sequence[tuple[AuditedCall, Response]]


class Auditor:
    """Writes the records of a server. Without a log it records nothing. Call close() after the last request."""

    def __init__(self, log: AuditOutbox | None, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def reserve(self) -> None:
        """Raises AuditUnavailable when a change could not be recorded."""
        if self._log is not None:
            self._log.reserve()

    def lines_of(self, call: AuditedCall) -> Callable[[Mapping[str, Any]], AuditLine] | None:
        """What makes the line of a change from its answer, in its transaction; None: none is recorded."""
        log = self._log
        if log is None or not call.is_audited:
            return None

        def line(answer: Mapping[str, Any]) -> AuditLine:
            call.end(answer)
            call.line = log.line(call.record(self._clock(), "OK"))
            return call.line

        return line

    def settle(self, answered: Answered) -> bool:
        """Write the lines of requests whose transactions have ended; returns False if a success is not recorded."""
        log = self._log
        if log is None:
            return True
        log.committed([call.line for call, response in answered if call.line and not response.error])
        others = [
            (call, response) for call, response in answered if call.is_audited and (response.error or not call.line)
        ]
        if not others:
            return True
        moment = self._clock()
        try:
            log.record(*(call.record(moment, response.error or "OK") for call, response in others))
        except AuditUnavailable as error:
            _log.error("%d requests are not recorded: %s", len(others), error)
            return all(response.error for _, response in others)
        return True
