"""The embedded scanner: the inventory of an image against the advisories on disk. No program, no network.

package -> ecosystems of its kind and system, their names and versions -> advisories -> ranges
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import Package
from imagesmith.inspection.scanning.advisories import Advisory, Affected, rated
from imagesmith.inspection.scanning.database import AdvisoriesError, AdvisoryDatabase, AdvisoryReader
from imagesmith.inspection.scanning.decisions import Decisions
from imagesmith.inspection.scanning.ecosystems import Named, ecosystems
from imagesmith.inspection.scanning.findings import Finding, VulnerablePackage, merged
from imagesmith.inspection.scanning.scanner import ScanFailed, ScanReport, ScanTarget, ScanTimedOut
from imagesmith.processes import Cancellation

WHAT_TO_DO = (
    "set `source` in [advisories] of the settings and run `imagesmith advisories update`, or run "
    "`imagesmith advisories import PATH` with a folder of OSV files or the JSON of the Debian security tracker"
)
DEFAULT_SECONDS = 600.0
_SYSTEM_KINDS = ("deb", "rpm", "apk")

Covered = dict[str, tuple[tuple[str, Named], ...]]
"""Kind of packages -> its imported ecosystems, and the kind of their names."""


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
        self._decisions = Decisions()

    def report(self) -> ScanReport:
        imported = self._reader.ecosystems()
        covered: Covered = {}
        notes = []
        # Files of a system package have the fixes of its distribution, whatever their own version is.
        owned = sum(bool(package.owner) for package in self._inventory.packages)
        packages = [package for package in self._inventory.packages if not package.owner]
        for kind in sorted({package.kind for package in packages}):
            known = ecosystems(kind, self._inventory.system)
            covered[kind] = tuple((name, item.named) for item in known for name in item.among(imported))
            if covered[kind]:
                continue
            words = (
                " or ".join(item.shown for item in known)
                or f"{kind} packages of {self._inventory.system.os_version or 'this system'}"
            )
            if kind in _SYSTEM_KINDS:
                # No findings for lack of advisories would look like a clean image.
                raise ScanFailed(f"the imported advisories do not cover {words}; {WHAT_TO_DO}")
            count = sum(package.kind == kind for package in packages)
            notes.append(f"{count} {kind} packages were not checked: there are no advisories for {words}")
        if packages and not any(covered.values()):
            # An image of Python packages alone, say: nothing at all was compared.
            raise ScanFailed(f"{'; '.join(notes)}; {WHAT_TO_DO}")
        if owned:
            notes.append(f"{owned} Python and npm packages were checked as parts of their system packages")
        found = merged(finding for package in packages for finding in self._match(package, covered))
        notes += _unknown_sources(packages, covered, found)
        if undecided := self._decisions.undecided:
            notes.append(f"{undecided} advisories name versions that cannot be compared; they were ignored")
        return ScanReport(found, tuple(notes))

    def _match(self, package: Package, covered: Covered) -> Iterator[Finding]:
        self._cancellation.check()
        if time.monotonic() > self._until:
            raise ScanTimedOut("the scan exceeded its time limit")
        for ecosystem, named in covered[package.kind]:
            for name, version in self._decisions.names(package, named):
                for number, affected in self._reader.affecting(ecosystem, name):
                    hit, fixed = self._decisions.applies(package, named, version, affected)
                    if hit:
                        yield _finding(self._reader.advisory(number), affected, package, fixed)


def _unknown_sources(packages: Sequence[Package], covered: Covered, found: Sequence[Finding]) -> list[str]:
    """A note about packages whose advisories name sources that the image does not state. Raises ScanFailed.

    No findings for such a package would look like a clean image: advisories for libssl3 are under openssl.
    """
    count = sum(
        not package.source and any(named is Named.SOURCE for _, named in covered[package.kind])
        for package in packages
    )
    words = f"the image does not name the sources of {count} packages, and advisories name sources"
    if count and not found:
        raise ScanFailed(f"nothing was found under the names of the packages themselves, but {words}")
    return [f"{words}: they were looked up under their own names"] if count else []


def _finding(advisory: Advisory, affected: Affected, package: Package, fixed: str) -> Finding:
    advisory = rated(advisory, affected)
    vulnerable = VulnerablePackage(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        kind=package.kind,
        location=package.location,
        fixed_version=fixed,
    )
    return Finding(advisory, (vulnerable,))
