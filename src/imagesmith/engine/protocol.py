"""The interface of an engine for the floors above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imagesmith.builds.journal import Runs


class Builder(Runs, Protocol):
    """Starts, cancels and wakes builds; the plan is in the store under the image's ARN."""

    def start_many(self, keys: Sequence[str]) -> None:
        """Runs.start() for each, at the cost of a few."""
        ...
