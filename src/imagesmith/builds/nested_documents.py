"""Components that ExecuteDocument names: from the run's plan, or looked up during the run
(spec/components.md 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imagesmith.components.managed import ManagedDocuments
from imagesmith.components.services import SourceDocument
from imagesmith.recipes.plan import BuildPlan, PlannedDocument
from imagesmith.store import queries
from imagesmith.store.database import Database
from imagesmith.store.records import Record
from imagesmith.store.usable import first_usable
from imagesmith.values.arn import Arn, ArnError
from imagesmith.values.states import ResourceStatus
from imagesmith.values.version import Version, VersionError, VersionPattern


@dataclass(frozen=True)
class RunDocuments:
    """A DocumentSource. Documents outside the plan are looked up for the run's account, and `on_line` logs them."""

    plan: BuildPlan
    planned: Sequence[PlannedDocument]
    database: Database
    on_line: Callable[[str], None]

    def get(self, arn: str) -> SourceDocument:
        for item in self.planned:
            if item.asked == arn:
                return SourceDocument(item.arn, item.text)
        found = self._look_up(arn)
        self.on_line(f"the component {arn} was resolved in this run: {found.label}")
        return found

    def _look_up(self, text: str) -> SourceDocument:
        try:
            arn = Arn.parse(text)
            wanted = VersionPattern.for_reading(arn.version or "x.x.x")
        except (ArnError, VersionError) as error:
            raise LookupError(str(error)) from error
        if arn.kind != "component" or arn.region != self.plan.region:
            raise LookupError(f"{text} is not a component of the Region {self.plan.region}")
        if arn.owner == "aws":
            return ManagedDocuments().get(text)
        if arn.owner != self.plan.account:
            raise LookupError(f"{text} belongs to another account, and {self.plan.account} may not use it")
        with self.database.read() as tx:
            stored = queries.versions(tx, arn.owner, arn.region, "component", arn.slug)
        record = _select(stored, arn, wanted)
        if record is None:
            raise LookupError(f"there is no component {text}")
        if record.status == ResourceStatus.DISABLED:
            raise LookupError(f"the component {record.arn} is DISABLED")
        return SourceDocument(record.arn, record.document["data"])


def _select(stored: Sequence[Record], arn: Arn, wanted: VersionPattern) -> Record | None:
    if arn.build in (None, "x"):
        return first_usable(stored, wanted, exact=wanted.is_exact)
    version = Version.parse(arn.version or "") if wanted.is_exact else None
    return next((item for item in stored if item.version == version and str(item.build) == arn.build), None)
