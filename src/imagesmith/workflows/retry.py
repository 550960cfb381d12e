"""A retry: an image that did not succeed goes back to its test or distribution phase (spec/workflows.md 11.2).

    FAILED | CANCELLED -> TESTING -> DISTRIBUTING -> ...     a run of the engine of its own (journal.retry_key)
                       '------------> DISTRIBUTING -> ...

What is kept of the run before: the plan, the output AMI, and what the finished workflows put out, all of it in the
store. What is repeated has records of its own: those of the first try stay, and are `retried`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from imagesmith.recipes.plan import BuildPlan
from imagesmith.store.records import Build
from imagesmith.workflows.journal import retry_key

Phase = Literal["TESTING", "DISTRIBUTING"]

REPEATED: Final[Mapping[Phase, str]] = {"TESTING": "TEST", "DISTRIBUTING": "DISTRIBUTION"}
"""Phase -> the type of the workflows that it begins with."""

_AFTER: Final[Mapping[str, Phase]] = {
    "TESTING": "TESTING", "DISTRIBUTING": "DISTRIBUTING", "INTEGRATING": "DISTRIBUTING",
}  # fmt: skip


@dataclass(frozen=True)
class Retry:
    """Which time this is that an image is run; number 0 is the first, which no retry began."""

    number: int = 0
    phase: Phase | Literal[""] = ""
    """Where it begins."""
    tests: int = 0
    """The number of the run whose tests count: a retry of the distribution keeps those before."""

    @classmethod
    def of(cls, outcome: Mapping[str, Any]) -> Retry:
        """The latest of a build, from its outcome."""
        return cls(**outcome.get("retry", {}))

    def next(self, phase: Phase) -> Retry:
        number = self.number + 1
        return Retry(number, phase, number if phase == "TESTING" else self.tests)

    def times(self, type: str) -> int:
        """The number of the run that workflows of a type belong to."""
        return {"BUILD": 0, "TEST": self.tests}.get(type, self.number)

    def name_of(self, type: str, position: int) -> str:
        """What tells a workflow's record from all others of the image; `position` is its place in the plan."""
        times = self.times(type)
        return f"{type.lower()}-{position}" + (f"~{times}" if times else "")

    def place_of(self, plan: BuildPlan, type: str, position: int) -> int:
        """Its place in the order of creation."""
        return self.times(type) * len(plan.workflows) + position


def current_key(build: Build) -> str:
    """The key of the latest run of an image."""
    return retry_key(build.image_arn, Retry.of(build.outcome).number)


def phase_to_repeat(plan: BuildPlan, ended_in: str, *, built: bool) -> Phase | None:
    """Where a run that ended in a state goes on; None when it has no output AMI to go on from.

    `built`: the BUILD workflow ended, however soon after that the run did.
    """
    if ended_in in _AFTER:
        return _AFTER[ended_in]
    if not built:
        return None
    scans = plan.scan is not None and plan.scan.on_demand
    tests = plan.tests_enabled and any(item.type == "TEST" for item in plan.workflows)
    return "TESTING" if scans or tests else "DISTRIBUTING"
