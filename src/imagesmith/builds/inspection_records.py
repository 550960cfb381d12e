"""Records of inspections of an image: its packages, the state of its scan, its vulnerabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.store import inventories, queries
from imagesmith.store.database import Database
from imagesmith.store.findings import put_findings
from imagesmith.store.patience import persistent
from imagesmith.values.arn import Arn
from imagesmith.values.names import shortened_reason
from imagesmith.values.states import FINAL_IMAGE, ScanStatus


@dataclass(frozen=True)
class InspectionRecords:
    """Writes inventories, scan states and findings."""

    database: Database
    clock: Callable[[], datetime]

    @persistent
    def put_inventory(
        self,
        image_arn: str,
        packages: Sequence[Mapping[str, Any]],
        *,
        os_version: str,
        system: Mapping[str, str] | None = None,
    ) -> None:
        """Store what an image contains; `system` as OsRelease has it: without it advisories cannot be looked up."""
        with self._scope(image_arn) as tx:
            inventories.put_inventory(tx, image_arn, packages, system)
            record = queries.get(tx, image_arn)
            if record is not None and os_version:
                queries.replace(tx, replace(record, document={**record.document, "osVersion": os_version}))

    @persistent
    def set_scan_state(self, image_arn: str, status: ScanStatus, reason: str = "") -> None:
        """Write the scan state of an image (spec/api.md 5.2)."""
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is not None and record.status not in FINAL_IMAGE:
                state = {"status": status} | ({"reason": shortened_reason(reason)} if reason else {})
                queries.replace(tx, replace(record, document={**record.document, "scanState": state}))

    @persistent
    def put_findings(self, image_arn: str, documents: Sequence[Mapping[str, Any]]) -> None:
        """Store the findings of a scan, worst first, over those of an earlier attempt."""
        with self._scope(image_arn) as tx:
            record = queries.get(tx, image_arn)
            if record is not None:
                put_findings(
                    tx, image_arn, record.source, account=record.account, region=record.region,
                    observed=self.clock(), documents=documents,
                )  # fmt: skip

    def _scope(self, image_arn: str) -> AbstractContextManager[Connection]:
        return self.database.write(Arn.parse(image_arn).scope)
