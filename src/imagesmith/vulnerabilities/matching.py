"""Advisories against the packages of all images at once.

    names of an advisory -> distinct packages of these names -> decision -> the images that hold the package

A scan asks for the advisories of each package of one image. Here the question is turned round: a package that ten
thousand images have is compared once. Both ask `Decisions`, so they agree.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import Connection

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.advisories import Affected
from imagesmith.inspection.scanning.decisions import Decisions
from imagesmith.inspection.scanning.ecosystems import Named, ecosystems
from imagesmith.store.inventories import packages_named, systems

KINDS: Final = ("deb", "rpm", "apk", "pypi", "npm")


@dataclass(frozen=True)
class Match:
    """An advisory that applies to a package on an operating system."""

    record: int
    """The number of the record in the advisory database."""
    affected: Affected
    package: int
    system: str
    """As inventories store it."""
    fixed: str
    """The version that fixes it; empty: none."""


@dataclass(frozen=True)
class _Lookup:
    """Where the names of an ecosystem are looked up."""

    system: str
    kind: str
    named: Named


class FleetMatcher:
    """Compares advisories with the packages of the images that a transaction sees."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx
        self._decisions = Decisions()
        self._systems = {text: read_system(text) for text in systems(tx)}
        self._lookups: dict[str, tuple[_Lookup, ...]] = {}

    @property
    def undecided(self) -> int:
        """Advisories that name versions which cannot be compared."""
        return self._decisions.undecided

    def matches(self, found: Iterable[tuple[int, Affected]]) -> Iterator[Match]:
        """The packages that records apply to."""
        relevant = [(number, item, self._of(item.ecosystem)) for number, item in found]
        relevant = [row for row in relevant if row[2]]
        known = self._candidates({(item.name, lookup.kind) for _, item, lookups in relevant for lookup in lookups})
        for number, affected, lookups in relevant:
            for lookup in lookups:
                for package_number, package in known.get((affected.name, lookup.kind), ()):
                    for name, version in self._decisions.names(package, lookup.named):
                        if name != affected.name:
                            continue
                        hit, fixed = self._decisions.applies(package, lookup.named, version, affected)
                        if hit:
                            yield Match(
                                record=number, affected=affected, package=package_number,
                                system=lookup.system, fixed=fixed,
                            )  # fmt: skip

    def _candidates(
        self, wanted: Iterable[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Sequence[tuple[int, Package]]]:
        """(name, kind) -> packages that have the name, or whose source has it."""
        by_kind: dict[str, set[str]] = defaultdict(set)
        for name, kind in wanted:
            by_kind[kind].add(name)
        found: dict[tuple[str, str], list[tuple[int, Package]]] = defaultdict(list)
        for kind, names in by_kind.items():
            for stored in packages_named(self._tx, names, (kind,)):
                package = read_package(stored.document)
                decisions = (name for named in Named for name, _ in self._decisions.names(package, named))
                for name in dict.fromkeys(decisions):
                    found[name, kind].append((stored.number, package))
        return found

    def _of(self, ecosystem: str) -> tuple[_Lookup, ...]:
        if ecosystem not in self._lookups:
            self._lookups[ecosystem] = tuple(
                _Lookup(text, kind, item.named)
                for text, system in self._systems.items()
                for kind in KINDS
                for item in ecosystems(kind, system)
                if item.pattern.fullmatch(ecosystem)
            )
        return self._lookups[ecosystem]


def read_package(document: Mapping[str, object]) -> Package:
    """A package as an inventory stored it; members of other versions are ignored."""
    known = {name: str(document.get(name, "")) for name in ("name", "version", "architecture", "source")}
    more = {name: str(document.get(name, "")) for name in ("source_version", "location", "owner", "module")}
    return Package(**known, kind=str(document.get("kind", "")), **more)


def plain_package(name: str, version: str, kind: str) -> Package:
    """A package, as far as statements about it need it."""
    return Package(name=name, version=version, architecture="", source="", kind=kind)


def read_system(text: str) -> OsRelease:
    """An operating system as an inventory stored it; an unknown one has Python and npm packages at most."""
    stored = json.loads(text) if text else {}
    return OsRelease(**{name: str(stored.get(name, "")) for name in ("name", "version_id", "pretty", "id", "like")})
