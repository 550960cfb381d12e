"""Outcomes of builds, written during their runs: output, attempts, times."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from imagesmith.store import stored_builds
from imagesmith.store.build_outcome import BuildOutcome
from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.patience import CountOnce, persistent
from imagesmith.values.arn import Arn


@dataclass(frozen=True)
class BuildOutcomes:
    """Reads and changes the outcomes of builds; the outcome of a deleted image stays empty."""

    database: Database

    @persistent
    def get(self, image_arn: str) -> BuildOutcome:
        with self.database.read() as tx:
            build = stored_builds.get_build(tx, image_arn)
        return BuildOutcome() if build is None else build.outcome

    @persistent
    def keep_output(self, image_arn: str, *, digest: str, size: int, parent_digest: str) -> None:
        """Record the output image and its parent."""
        with self._scope(image_arn) as tx:
            stored_builds.change_outcome(
                tx,
                image_arn,
                lambda outcome: replace(outcome, digest=digest, size=size, parent_digest=parent_digest),
            )

    def count_attempt(self, image_arn: str, name: str) -> int:
        """Count an attempt of a piece of work; returns the number of attempts."""
        return self._add_attempt(image_arn, name, CountOnce(1))

    def uncount_attempt(self, image_arn: str, name: str) -> None:
        """Uncount an attempt that an orderly stop of the server or a cancel ended."""
        with contextlib.suppress(StoreUnavailable):
            self._add_attempt(image_arn, name, CountOnce(-1))

    @persistent
    def _add_attempt(self, image_arn: str, name: str, step: CountOnce) -> int:
        def count(outcome: BuildOutcome) -> BuildOutcome:
            return outcome.with_attempts(name, step.after(outcome.attempts.get(name, 0)))

        with self._scope(image_arn) as tx:
            counted = stored_builds.change_outcome(tx, image_arn, count) or count(BuildOutcome())
        return counted.attempts[name]

    @persistent
    def note_stages(self, image_arn: str, seconds: Mapping[str, float]) -> None:
        """Add times of parts of the run."""
        if seconds:
            with self._scope(image_arn) as tx:
                stored_builds.change_outcome(tx, image_arn, lambda outcome: outcome.with_stages(seconds))

    def _scope(self, image_arn: str) -> AbstractContextManager[Connection]:
        return self.database.write(Arn.parse(image_arn).scope)
