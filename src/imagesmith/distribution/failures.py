"""Errors of distribution: of one delivery, and of the distribution as a whole, with members for the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class DeliveryFailed(RuntimeError):
    """An image did not reach a destination; the text names the destination, the reason, and what to try."""


@dataclass
class FailedWithOutputs(Exception):
    """A failure that keeps what was completed. `reason`: text for users; `context`: members of failureContext."""

    reason: str
    context: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Outputs of the action in spite of the failure."""
    containers: Sequence[Mapping[str, Any]] = ()
    """Pushed images in spite of the failure, in the shape of outputResources.containers."""

    def __str__(self) -> str:
        return self.reason


class DistributionFailed(FailedWithOutputs):
    """A distribution did not complete; `outputs` and `containers` are its completed deliveries."""
