"""The embedded scanner: the inventory of an image against the advisories on disk. No program, no network.

    package -> (ecosystems of its kind and of the operating system, name that feeds use) -> advisories -> ranges

Distributions write advisories about source packages (Debian, Ubuntu, Alpine) or about binary ones (rpm), so each
kind is looked up under the name and version that its feeds use.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase, AdvisoryReader
from imagesmith.inspection.scanning.findings import Finding, VulnerablePackage, merged
from imagesmith.inspection.scanning.osv import ADVISORY_MEMBERS, Advisory, Affected, normal_name
from imagesmith.inspection.scanning.protocol import ScanFailed, ScanReport, ScanTarget, ScanTimedOut
from imagesmith.inspection.scanning.versions import VersionOrder, in_range
from imagesmith.processes import Cancellation

WHAT_TO_DO = (
    "set `source` in [advisories] of the settings and run `imagesmith advisories update`, or run "
    "`imagesmith advisories import PATH` with a folder of OSV files or the JSON of the Debian security tracker"
)
DEFAULT_SECONDS = 600.0
_SYSTEM_KINDS = ("deb", "rpm", "apk")


class EmbeddedScanner:
    """Matches packages against an AdvisoryDatabase."""

    name = "embedded"

    def __init__(self, database: AdvisoryDatabase, *, seconds: float = DEFAULT_SECONDS) -> None:
        self._database = database
        self._seconds = seconds

    def scan(self, target: ScanTarget, cancellation: Cancellation) -> ScanReport:
        """Raises ScanFailed when there is no advisory for the image's operating system; see the module text."""
        try:
            with self._database.reader() as reader:
                return _Match(reader, target.inventory, self._seconds, cancellation).report()
        except AdvisoriesError as error:
            raise ScanFailed(f"{error}; {WHAT_TO_DO}") from error


class _Match:
    """One scan."""

    def __init__(
        self, reader: AdvisoryReader, inventory: Inventory, seconds: float, cancellation: Cancellation
    ) -> None:
        self._reader = reader
        self._inventory = inventory
        self._until = time.monotonic() + seconds
        self._cancellation = cancellation
        self._orders: dict[str, VersionOrder] = {}
        self._undecided = 0

    def report(self) -> ScanReport:
        covered: dict[str, tuple[str, ...]] = {}
        notes = []
        for kind in sorted({package.kind for package in self._inventory.packages}):
            known = ecosystems(kind, self._inventory.system)
            covered[kind] = tuple(item for item in known if self._reader.covers(item))
            if covered[kind]:
                continue
            words = " or ".join(known) or f"{kind} packages of {self._inventory.system.os_version or 'this system'}"
            if kind in _SYSTEM_KINDS:
                # Finding nothing because nothing is known would look like a clean image.
                raise ScanFailed(f"the imported advisories say nothing about {words}; {WHAT_TO_DO}")
            count = sum(package.kind == kind for package in self._inventory.packages)
            notes.append(f"{count} {kind} packages were not checked: there are no advisories for {words}")
        found = [finding for package in self._inventory.packages for finding in self._match(package, covered)]
        if self._undecided:
            notes.append(f"{self._undecided} advisories name versions that cannot be compared; they were left out")
        return ScanReport(merged(found), tuple(notes))

    def _match(self, package: Package, covered: dict[str, tuple[str, ...]]) -> Iterator[Finding]:
        self._cancellation.check()
        if time.monotonic() > self._until:
            raise ScanTimedOut("the scan did not end within its time")
        version = lookup_version(package)
        order = self._orders.setdefault(package.kind, VersionOrder(package.kind))
        for ecosystem in covered[package.kind]:
            for number, affected in self._reader.affecting(ecosystem, lookup_name(package, ecosystem)):
                hit, fixed = self._decide(order, version, affected)
                if hit:
                    yield _finding(self._reader.advisory(number), package, fixed)

    def _decide(self, order: VersionOrder, version: str, affected: Affected) -> tuple[bool, str]:
        undecided = False
        for events in affected.ranges:
            hit, fixed = in_range(order, version, events)
            if hit:
                return True, fixed
            undecided |= hit is None
        if version in affected.versions:
            return True, ""
        self._undecided += undecided
        return False, ""


def ecosystems(kind: str, system: OsRelease) -> tuple[str, ...]:
    """Under which names of OSV the advisories for a kind of package stand; empty for a system without any."""
    major = system.version_id.partition(".")[0]
    match kind, system.id:
        case "pypi", _:
            return ("PyPI",)
        case "npm", _:
            return ("npm",)
        case "deb", "ubuntu":
            return (f"Ubuntu:{system.version_id}:LTS", f"Ubuntu:{system.version_id}")
        case "deb", "debian":
            return (f"Debian:{system.version_id or 'sid'}", "Debian")
        case "apk", "alpine":
            return (f"Alpine:v{'.'.join(system.version_id.split('.')[:2])}",)
        case "apk", "wolfi" | "chainguard":
            return (system.id.capitalize(),)
        case "rpm", "rocky":
            return (f"Rocky Linux:{major}",)
        case "rpm", "almalinux":
            return (f"AlmaLinux:{major}",)
        case "rpm", "rhel":
            return tuple(f"Red Hat:enterprise_linux:{major}::{part}" for part in ("baseos", "appstream", "crb"))
        case "rpm", "opensuse-leap":
            return (f"openSUSE:Leap {system.version_id}",)
        case "rpm", "sles":
            return (f"SUSE:Linux Enterprise Server {system.version_id.replace('.', ' SP')}",)
        case "rpm", "mageia":
            return (f"Mageia:{major}",)
    return ()


def lookup_name(package: Package, ecosystem: str) -> str:
    return package.source if package.kind in ("deb", "apk") else normal_name(ecosystem, package.name)


def lookup_version(package: Package) -> str:
    """The version that advisories speak of: that of the source package where they are about source packages."""
    return (package.source_version or package.version) if package.kind == "deb" else package.version


def _finding(advisory: Advisory, package: Package, fixed: str) -> Finding:
    shared = {name: getattr(advisory, name) for name in ADVISORY_MEMBERS if name != "id"}
    affected = VulnerablePackage(
        package.name, package.version, package.architecture, package.kind, package.location, fixed
    )
    return Finding(vulnerability_id=advisory.id, packages=(affected,), **shared)
