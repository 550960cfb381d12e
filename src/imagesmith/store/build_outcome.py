"""The outcome of a build so far: the column `outcome` of its row, as a type.

Empty members are not stored, and members that an older version did not store are empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imagesmith.values.states import ImageStatus


@dataclass(frozen=True, kw_only=True)
class BuildParent:
    """The parent that the BUILD workflow started on, for the end of that workflow, also after a crash."""

    digest: str = ""
    image: str = ""
    """A container's id in the storage; a machine's disk reference, or its snapshot."""
    triggers: tuple[str, ...] = ()
    """ONBUILD lines of the parent, which become lines of the Dockerfile."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BuildParent:
        return cls(
            digest=stored.get("digest", ""),
            image=stored.get("image", ""),
            triggers=tuple(stored.get("triggers", ())),
        )

    def to_json(self) -> Mapping[str, Any]:
        return {"digest": self.digest, "image": self.image, "triggers": list(self.triggers)}


@dataclass(frozen=True, kw_only=True)
class UnpackedDisk:
    """The disk whose root file system a container changes, in a build without a machine."""

    digest: str
    entry: str
    """How to enter machines of the disk."""
    size: int
    """Smallest size of the image's disk in bytes."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> UnpackedDisk:
        return cls(digest=stored["digest"], entry=stored["entry"], size=stored["bytes"])

    def to_json(self) -> Mapping[str, Any]:
        return {"digest": self.digest, "entry": self.entry, "bytes": self.size}


@dataclass(frozen=True)
class Retry:
    """The latest retry of an image; number 0 stands for the first run."""

    number: int = 0
    phase: ImageStatus | None = None
    """The stage that it begins with: TESTING or DISTRIBUTING."""
    tests: int = 0
    """The number of the run whose tests count: a retry of the distribution keeps the earlier tests."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Retry:
        phase = stored.get("phase", "")
        return cls(stored.get("number", 0), ImageStatus(phase) if phase else None, stored.get("tests", 0))

    def to_json(self) -> Mapping[str, Any]:
        return {"number": self.number, "phase": self.phase or "", "tests": self.tests}

    def next(self, phase: ImageStatus) -> Retry:
        number = self.number + 1
        return Retry(number, phase, number if phase == ImageStatus.TESTING else self.tests)

    def times(self, type: str) -> int:
        """The number of the run to which workflows of a type belong."""
        return {"BUILD": 0, "TEST": self.tests}.get(type, self.number)

    def name_of(self, type: str, index: int) -> str:
        """The unique name of a workflow's record within the image; `index` is its index in the plan."""
        times = self.times(type)
        return f"{type.lower()}-{index}" + (f"~{times}" if times else "")

    def position_of(self, type: str, index: int, *, workflows: int) -> int:
        """The position of the record in the order of creation, for a plan with `workflows` workflows."""
        return self.times(type) * workflows + index


@dataclass(frozen=True, kw_only=True)
class BuildOutcome:
    """The output of a run and its progress."""

    digest: str = ""
    """The digest of the output image."""
    size: int = 0
    parent_digest: str = ""
    parent: BuildParent = field(default_factory=BuildParent)
    origin: UnpackedDisk | None = None
    cached: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Step of the BUILD workflow -> what it took from earlier builds."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Part of the run -> seconds."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Piece of work -> number of its attempts."""
    retry: Retry = field(default_factory=Retry)
    """The latest retry."""
    ended_in: str = ""
    """The state of the image at the end of a run, if it did not become AVAILABLE."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BuildOutcome:
        return cls(
            digest=stored.get("digest", ""),
            size=stored.get("size", 0),
            parent_digest=stored.get("parent_digest", ""),
            parent=BuildParent.from_json(stored.get("parent", {})),
            origin=UnpackedDisk.from_json(stored["origin"]) if "origin" in stored else None,
            cached=stored.get("cached", {}),
            stages=stored.get("stages", {}),
            attempts=stored.get("attempts", {}),
            retry=Retry.from_json(stored.get("retry", {})),
            ended_in=stored.get("ended_in", ""),
        )

    def to_json(self) -> Mapping[str, Any]:
        members = {
            "digest": self.digest,
            "size": self.size,
            "parent_digest": self.parent_digest,
            "parent": self.parent.to_json() if self.parent != BuildParent() else None,
            "origin": self.origin.to_json() if self.origin is not None else None,
            "cached": {part: [dict(item) for item in items] for part, items in self.cached.items()},
            "stages": dict(self.stages),
            "attempts": dict(self.attempts),
            "retry": self.retry.to_json() if self.retry.number else None,
            "ended_in": self.ended_in,
        }
        return {name: value for name, value in members.items() if value}

    def with_stages(self, seconds: Mapping[str, float]) -> BuildOutcome:
        """The outcome with times of parts of the run added."""
        added = {name: round(self.stages.get(name, 0.0) + value, 3) for name, value in seconds.items()}
        return replace(self, stages={**self.stages, **added})

    def with_attempts(self, name: str, count: int) -> BuildOutcome:
        return replace(self, attempts={**self.attempts, name: count})


@dataclass(frozen=True, kw_only=True)
class BuildUpdate:
    """What a step changes in the outcome of its build. None: unchanged."""

    parent: BuildParent | None = None
    origin: UnpackedDisk | None = None
    cached: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    """Replaces what these steps took before: a step that runs again takes it again."""

    def added_to(self, outcome: BuildOutcome) -> BuildOutcome:
        return replace(
            outcome, parent=self.parent or outcome.parent, origin=self.origin or outcome.origin,
            cached={**outcome.cached, **(self.cached or {})},
        )  # fmt: skip
