"""Whether an advisory applies to a package: name, stream and version. Pure.

The one place that decides: scans ask it for the advisories of a package, and questions about all images ask it for
the packages of an advisory, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagesmith.inspection.packages import Package
from imagesmith.inspection.scanning.advisories import Affected
from imagesmith.inspection.scanning.ecosystems import Named, advisory_names, as_stated
from imagesmith.inspection.scanning.modules import same_stream
from imagesmith.inspection.scanning.versions import VersionOrder, in_range, is_listed


class Decisions:
    """Decides for many packages; parsed versions are kept, so use one for each scan."""

    def __init__(self) -> None:
        self._orders: dict[str, VersionOrder] = {}
        self.undecided = 0
        """Advisories that name versions which cannot be compared."""

    def names(self, package: Package, named: Named) -> Iterator[tuple[str, str]]:
        """(name, version) under which advisories may be about a package; none for a part of a system package."""
        # Files of a system package have the fixes of its distribution, whatever their own version is.
        if not package.owner:
            yield from advisory_names(package, named)

    def applies(self, package: Package, named: Named, version: str, affected: Affected) -> tuple[bool, str]:
        """Whether a package in this version is affected, and the version that fixes it (empty: none)."""
        if not same_stream(package, affected):
            return False, ""
        order = self._orders.setdefault(package.kind, VersionOrder(package.kind))
        compared = as_stated(version, named, affected.stated_versions) if package.kind == "rpm" else version
        undecided = False
        for events in affected.ranges:
            hit, fixed = in_range(order, compared, events)
            if hit:
                return True, fixed
            undecided |= hit is None
        if is_listed(order, compared, affected.versions):
            return True, ""
        self.undecided += undecided
        return False, ""
