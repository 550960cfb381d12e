"""The seam between the protocol and the meaning: `wire` knows only this module and `errors`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Caller:
    """Who asks, from the verified credential. `request_id` is what the answer's header carries."""

    account: str
    region: str
    principal: str
    """ARN of the user or role, for messages and records."""
    request_id: str
    partition: str = "aws"
    access_key_id: str = ""
    """What the request was signed with; empty when signatures are not verified."""


class NotNow(Exception):
    """Somebody else is at work in the database; each call waits for its turn alone."""


class Together(Protocol):
    """Calls that share one commit, begun already. end() must come, whatever happens, from any thread."""

    def joined(self) -> AbstractContextManager[None]:
        """What this thread calls until the end of the context is part of it."""
        ...

    def end(self) -> None:
        """Commit. Raises ApiError: then nothing of what was called is done."""
        ...


class Dispatcher(Protocol):
    """Carries out operations of the service model."""

    @property
    def operations(self) -> frozenset[str]:
        """Names of the operations that are built."""
        ...

    @property
    def short_reads(self) -> frozenset[str]:
        """Names of the operations that are sooner done than handed to a thread; none where they may wait."""
        ...

    @property
    def short_changes(self) -> frozenset[str]:
        """Names of the operations that may be called `together`; none where that brings nothing."""
        ...

    def together(self, *, patience: float) -> Together:
        """Begin calls that share one commit, once the turn has come. Raises NotNow after `patience` seconds."""
        ...

    def call(self, operation: str, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation on a request that satisfies the model; give the output members.

        Raises ApiError. `request` holds only members of the model, without nulls; timestamps are `datetime`.
        """
        ...
