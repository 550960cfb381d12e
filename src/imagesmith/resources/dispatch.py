"""The seam between the protocol and the meaning: `wire` knows only this module and `errors`."""

from __future__ import annotations

from collections.abc import Mapping
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


class Dispatcher(Protocol):
    """Carries out operations of the service model."""

    @property
    def operations(self) -> frozenset[str]:
        """Names of the operations that are built."""
        ...

    def call(self, operation: str, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation on a request that satisfies the model; give the output members.

        Raises ApiError. `request` holds only members of the model, without nulls; timestamps are `datetime`.
        """
        ...
