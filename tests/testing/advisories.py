"""Advisories that tests write, and what a scan with them reports."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.osv import read_osv
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.processes import Cancellation

NOW = datetime(2026, 11, 28, tzinfo=UTC)


ROCKY = OsRelease("Rocky Linux", "9.3", "Rocky Linux 9.3 (Blue Onyx)", "rocky")


RHEL = OsRelease("Red Hat Enterprise Linux", "9.4", "Red Hat Enterprise Linux 9.4 (Plow)", "rhel")


DEBIAN = OsRelease("Debian GNU/Linux", "12", "Debian GNU/Linux 12 (bookworm)", "debian")


UBUNTU = OsRelease("Ubuntu", "22.04", "Ubuntu 22.04.5 LTS", "ubuntu")


def advisory(ecosystem: str, name: str, fixed: str, **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": fixed}]
    return {
        "id": "TEST-1",
        "modified": "2026-01-01T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": events}],
                **more,
            }
        ],
    }


def found(folder: Path, system: OsRelease, packages: tuple[Package, ...], *documents: dict[str, Any]) -> list[str]:
    """Names of the packages that a scan reports."""
    database = AdvisoryDatabase(folder / "advisories")
    read = [item for document in documents if (item := read_osv(document)) is not None]
    assert len(read) == len(documents)
    database.replace("test", read, NOW)
    target = ScanTarget(Inventory(system, packages), Path("/nowhere"))
    report = EmbeddedScanner(database).scan(target, Cancellation())
    return sorted(package.name for finding in report.findings for package in finding.packages)
