"""The interface between protocol and operations: `wire` imports only this module and `errors`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from imagesmith.store.audit_lines import AuditLine
from imagesmith.values.api import ApiRequest, ApiResponse


@dataclass(frozen=True)
class Caller:
    """The caller, from the verified credential. `request_id` is in the answer's header."""

    account: str
    region: str
    principal: str
    """ARN of the user or role, for messages and records."""
    request_id: str
    partition: str = "aws"
    access_key_id: str = ""
    """The key id that signed the request; empty when signatures are not verified."""
    audit_line: Callable[[ApiResponse], AuditLine] | None = None
    """Makes the line of the audit log from the answer of a change, which is stored in the same transaction."""

    @classmethod
    def owner(cls, account: str, region: str, partition: str) -> Caller:
        """The owner of an account, for work that no request asked for."""
        return cls(
            account=account,
            region=region,
            principal=f"arn:{partition}:iam::{account}:root",
            request_id="",
            partition=partition,
        )


class NotNow(Exception):
    """Another writer holds the database; each call must wait for it alone."""


class CallBatch(Protocol):
    """Open calls that share one commit. end() must be called in every case, from any thread."""

    def joined(self) -> AbstractContextManager[None]:
        """Calls of this thread in the context belong to the batch."""
        ...

    def end(self) -> None:
        """Commit. Raises ApiError: then none of the calls has an effect."""
        ...


class Dispatcher(Protocol):
    """Executes operations of the service model."""

    @property
    def operations(self) -> frozenset[str]:
        """Names of the operations that are built."""
        ...

    @property
    def short_reads(self) -> frozenset[str]:
        """Names of the operations that are cheaper than a thread hand-off; none where they may wait."""
        ...

    @property
    def short_changes(self) -> frozenset[str]:
        """Names of the operations that may be called `together`; none where that has no advantage."""
        ...

    @property
    def changes(self) -> frozenset[str]:
        """Names of the operations that change something."""
        ...

    def begin_batch(self, *, patience: float) -> CallBatch:
        """Start calls that share one commit, once the database is free. Raises NotNow after `patience` seconds."""
        ...

    def call(self, operation: str, caller: Caller, request: ApiRequest) -> ApiResponse:
        """Execute one operation on a request that satisfies the model; returns the output members.

        Raises ApiError. `request` holds only members of the model, without nulls; timestamps are `datetime`.
        """
        ...
