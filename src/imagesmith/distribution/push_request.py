"""One push: its constant inputs, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.failures import DeliveryFailed
from imagesmith.processes import Cancellation
from imagesmith.settings import Registry


class PushFailed(DeliveryFailed):
    """An image did not reach its registry; `permanent`: an unchanged retry cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True)
class AttemptFailure:
    """One failed attempt: its action, its output without secrets, and whether a retry cannot help."""

    doing: str
    output: str
    permanent: bool
    hint: str


@dataclass(frozen=True)
class Push:
    """The constant inputs of one push."""

    layout: Path
    reference: str
    digest: str
    registry: Registry
    repository: str
    tags: tuple[str, ...]
    retry_policy: RetryPolicy
    cancellation: Cancellation | None
    on_line: Callable[[str], None]
    environment: Mapping[str, str] | None
    timeout: float
    scratch: Path | None

    @property
    def target(self) -> str:
        return f"{self.registry.url.rstrip('/')}/{self.repository}"

    def fail(self, failure: AttemptFailure, *, tag: str, attempt: int) -> NoReturn:
        tries = {0: "before any attempt", 1: "after 1 attempt"}.get(attempt, f"after {attempt} attempts")
        named = f"tag {tag!r}" if tag else f"tags {list(self.tags)!r}"
        raise PushFailed(
            f"push to registry {self.registry.url!r}, repository {self.repository!r}, {named} failed {tries}: "
            f"{failure.doing}: {failure.output or 'no output'}\nwhat to try: {failure.hint}",
            permanent=failure.permanent,
        )
