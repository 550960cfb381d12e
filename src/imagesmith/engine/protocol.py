"""What the floors above need of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imagesmith.workflows.journal import Runs


class Builder(Runs, Protocol):
    """Starts, stops and wakes builds; the plan is in the store under the image's ARN."""

    def start_many(self, keys: Sequence[str]) -> None:
        """Runs.start() for each, at the price of a few."""
        ...
