"""Maps a system's packages to OSV ecosystems and to the package names that their advisories use.

    (kind of package, ID of os-release) -> ecosystem, the releases behind its colon, source or binary names

Advisories about source packages affect every binary package built from them, with the version of the source; rpm's
sources have the epoch of their binaries, which no name of a source package states. Where feeds name either, both
count: a package is as old as the source that it was built from. The OSV schema, section "Defined ecosystems",
states the kind of names of each ecosystem, except for AlmaLinux, whose records name binary packages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.values.package_names import normal_name


class Named(Enum):
    """The kind of package that an advisory names."""

    SOURCE = "source"
    BINARY = "binary"
    EITHER = "either"


@dataclass(frozen=True)
class _Release:
    """The part after the colon: for people, and as a pattern for the spelling of feeds."""

    shown: str
    pattern: str

    @classmethod
    def exactly(cls, text: str, *, then: str = "") -> _Release:
        return cls(text, re.escape(text) + then)


@dataclass(frozen=True)
class Ecosystem:
    """One source of advisories that applies to a system: `pattern` matches the whole name that OSV uses."""

    shown: str
    pattern: re.Pattern[str]
    named: Named

    def among(self, known: Iterable[str]) -> tuple[str, ...]:
        """The names of imported ecosystems that match this one."""
        return tuple(name for name in known if self.pattern.fullmatch(name))


@dataclass(frozen=True)
class _Row:
    """How packages of one kind of system are named in advisories."""

    kind: str
    ids: tuple[str, ...]
    ecosystem: str
    named: Named
    releases: tuple[Callable[[OsRelease], _Release], ...] = ()
    """The parts after the colon, the most frequent first; none: the ecosystem has no releases."""
    bare: bool = False
    """Whether records without a release apply to every release."""


def _major_of(system: OsRelease) -> str:
    return system.version_id.partition(".")[0]


def _major(system: OsRelease) -> _Release:
    """Nearly always `9`; the whole VERSION_ID, `9.3`, is the same release."""
    minor = system.version_id.removeprefix(_major_of(system))
    return _Release.exactly(_major_of(system), then=f"(?:{re.escape(minor)})?")


def _exact(system: OsRelease) -> _Release:
    return _Release.exactly(system.version_id)


def _debian(system: OsRelease) -> _Release:
    """Unstable has no VERSION_ID."""
    return _Release.exactly(system.version_id or "sid")


def _ubuntu(system: OsRelease) -> _Release:
    """Fixes of Ubuntu Pro are other ecosystems (`Ubuntu:Pro:...`): not every system can have them."""
    return _Release(f"{system.version_id}:LTS", f"{re.escape(system.version_id)}(?::LTS)?")


def _alpine(system: OsRelease) -> _Release:
    return _Release.exactly(f"v{'.'.join(system.version_id.split('.')[:2])}")


def _red_hat(system: OsRelease) -> _Release:
    """The channels of the main stream, such as baseos, appstream and crb, without extended support."""
    name = f"enterprise_linux:{_major_of(system)}"
    return _Release(f"{name}::baseos", rf"{re.escape(name)}(?:\.[0-9]+)?(?:::[a-z_]+)?")


def _leap(system: OsRelease) -> _Release:
    return _Release.exactly(f"Leap {system.version_id}")


def _leap_micro(system: OsRelease) -> _Release:
    return _Release.exactly(f"Leap Micro {system.version_id}")


def _tumbleweed(_system: OsRelease) -> _Release:
    return _Release.exactly("Tumbleweed")


def _service_pack(system: OsRelease) -> str:
    """`15 SP5` for VERSION_ID 15.5; since 16 the releases are `16.0`."""
    major = _major_of(system)
    return system.version_id.replace(".", " SP") if major.isdecimal() and int(major) < 16 else system.version_id


def _sles(system: OsRelease) -> _Release:
    return _Release.exactly(f"Linux Enterprise Server {_service_pack(system)}", then="(?:-[A-Za-z]+)?")


def _sles_for_sap(system: OsRelease) -> _Release:
    return _Release.exactly(f"Linux Enterprise Server for SAP Applications {_service_pack(system)}")


def _suse_modules(system: OsRelease) -> _Release:
    """Nearly all packages of a SUSE Linux Enterprise Server are in modules of the same service pack."""
    pack = _service_pack(system)
    name = "Linux Enterprise Module for"
    return _Release(f"{name} Basesystem {pack}", f"{name} [A-Za-z0-9 ]+ {re.escape(pack)}")


def _sle_micro(system: OsRelease) -> _Release:
    version = system.version_id
    return _Release(f"Linux Enterprise Micro {version}", f"Linux (?:Enterprise )?Micro {re.escape(version)}")


def _open_euler(system: OsRelease) -> _Release:
    """PRETTY_NAME `openEuler 24.03 (LTS-SP1)` is `24.03-LTS-SP1`."""
    match = re.search(r"\((LTS(?:-SP[0-9]+)?)\)", system.pretty)
    return _Release.exactly(f"{system.version_id}-{match[1]}" if match else system.version_id)


_ROWS = (
    _Row("deb", ("debian",), "Debian", Named.SOURCE, releases=(_debian,), bare=True),
    _Row("deb", ("ubuntu",), "Ubuntu", Named.SOURCE, releases=(_ubuntu,)),
    _Row("deb", ("echo",), "Echo", Named.SOURCE, bare=True),
    _Row("apk", ("alpine",), "Alpine", Named.SOURCE, releases=(_alpine,)),
    _Row("apk", ("alpaquita",), "Alpaquita", Named.SOURCE, releases=(_exact,)),
    _Row(
        "apk", ("bellsoft-hardened-containers",), "BellSoft Hardened Containers", Named.SOURCE, releases=(_exact,)
    ),
    _Row("apk", ("wolfi",), "Wolfi", Named.EITHER, bare=True),
    _Row("apk", ("chainguard",), "Chainguard", Named.EITHER, bare=True),
    _Row("apk", ("minimos",), "MinimOS", Named.EITHER, bare=True),
    _Row("apk", ("cleanstart", "clnstrt"), "CleanStart", Named.EITHER, bare=True),
    _Row("rpm", ("rocky",), "Rocky Linux", Named.SOURCE, releases=(_major,), bare=True),
    _Row("rpm", ("almalinux",), "AlmaLinux", Named.BINARY, releases=(_major,), bare=True),
    _Row("rpm", ("rhel",), "Red Hat", Named.BINARY, releases=(_red_hat,)),
    _Row("rpm", ("opensuse-leap",), "openSUSE", Named.SOURCE, releases=(_leap,)),
    _Row("rpm", ("opensuse-leap-micro",), "openSUSE", Named.SOURCE, releases=(_leap_micro,)),
    _Row("rpm", ("opensuse-tumbleweed",), "openSUSE", Named.SOURCE, releases=(_tumbleweed,)),
    _Row("rpm", ("sles", "sled"), "SUSE", Named.SOURCE, releases=(_sles, _suse_modules)),
    _Row("rpm", ("sles_sap",), "SUSE", Named.SOURCE, releases=(_sles_for_sap, _sles, _suse_modules)),
    _Row("rpm", ("sle-micro", "sl-micro", "suse-microos"), "SUSE", Named.SOURCE, releases=(_sle_micro,)),
    _Row("rpm", ("mageia",), "Mageia", Named.SOURCE, releases=(_major,)),
    _Row("rpm", ("openeuler",), "openEuler", Named.SOURCE, releases=(_open_euler,)),
    _Row("rpm", ("azurelinux", "mariner"), "Azure Linux", Named.SOURCE, releases=(_major,)),
    _Row("rpm", ("photon",), "Photon OS", Named.EITHER, releases=(_exact,)),
    _Row("pypi", (), "PyPI", Named.BINARY, bare=True),
    _Row("npm", (), "npm", Named.BINARY, bare=True),
)
"""The only table of the ecosystems' kinds of names. No `ids`: for all systems."""


_DISTRIBUTIONS = frozenset(row.ecosystem for row in _ROWS if row.ids)


def ecosystems(kind: str, system: OsRelease) -> tuple[Ecosystem, ...]:
    """The sources of advisories for a kind of package on a system; empty where OSV has none."""
    return tuple(
        found
        for row in _ROWS
        if row.kind == kind and (not row.ids or system.id.lower() in row.ids)
        for found in _of_row(row, system)
    )


def is_distribution(ecosystem: str) -> bool:
    """Whether an ecosystem, with or without a release, is a distribution."""
    return ecosystem.partition(":")[0] in _DISTRIBUTIONS


def _of_row(row: _Row, system: OsRelease) -> Iterator[Ecosystem]:
    for release in (of(system) for of in row.releases):
        pattern = re.compile(f"{re.escape(row.ecosystem)}:{release.pattern}")
        yield Ecosystem(f"{row.ecosystem}:{release.shown}", pattern, row.named)
    if row.bare:
        yield Ecosystem(row.ecosystem, re.compile(re.escape(row.ecosystem)), row.named)


def advisory_names(package: Package, named: Named) -> tuple[tuple[str, str], ...]:
    """(name, version) of a package in advisories."""
    binary = (normal_name(package.kind, package.name), package.version)
    source = (package.source or package.name, package.source_version or package.version)
    match named:
        case Named.SOURCE:
            return (source,)
        case Named.BINARY:
            return (binary,)
        case Named.EITHER:
            return tuple(dict.fromkeys((binary, source)))


def as_stated(version: str, named: Named, stated: Iterable[str]) -> str:
    """A package's version in the form of an advisory's versions.

    Some distributions generate their records from names of source packages, which have no epoch: if all of `stated`
    lack it, every package with an epoch would compare as later than any fix.
    """
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal() or named is Named.BINARY:
        return version
    return version if any(":" in item for item in stated) else rest
