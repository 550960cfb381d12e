"""Selects the copy of the IANA time zone database: the newer of the system's and the package's.

`zoneinfo` itself uses the system's copy, however old, and the package `tzdata` only for zones that the
system lacks. A release changes the offsets of whole countries, so fire times would depend on the age of the host.

    system     the first folder of zoneinfo.TZPATH that exists; its version is in `tzdata.zi`, `+VERSION` or
               `version`
    package    `tzdata` of the lock file, which always states its version

A system copy without a version is used only if its folder was configured (PYTHONTZPATH). Zones that the copy in
use lacks come from the other copy.
"""

from __future__ import annotations

import re
import sysconfig
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

_VERSION = re.compile(rb"(?:# version )?([0-9]{4}[a-z]{1,2})(?![0-9a-z])")
_STAMPS = ("tzdata.zi", "+VERSION", "version")
_MAX_STAMP = 256


@dataclass(frozen=True)
class Copy:
    """One copy of the zone database; `version` as IANA writes it, `2026f`, or empty when it states none."""

    source: str
    version: str

    def __str__(self) -> str:
        return f"{self.version or 'unknown version'} of {self.source}"

    def older_than(self, other: Copy | None) -> bool:
        """2025z < 2025za < 2026a; a copy without a version is older than all others."""
        return other is not None and _age(self.version) < _age(other.version)


@dataclass(frozen=True)
class ZoneData:
    """The used copy and the other one; None: there is none."""

    used: Copy
    other: Copy | None
    packaged: bool

    def __str__(self) -> str:
        return str(self.used) if self.other is None else f"{self.used}; {self.other} is not used"


def zone_data() -> ZoneData:
    """The zone database of this process, selected at the first use."""
    return _decided(tuple(zoneinfo.TZPATH))


def installed_since() -> ZoneData | None:
    """The copy that this process would select now, if it differs from the selected one."""
    now = _decide(tuple(zoneinfo.TZPATH))
    return None if now == zone_data() else now


def packaged_zone(name: str) -> ZoneInfo | None:
    """A zone of the package where that is newer; None: use zoneinfo. Raises OSError, ValueError: no zone."""
    return _from_package(name) if zone_data().packaged else None


def choose(system: Copy | None, package: Copy | None, *, chosen: bool) -> ZoneData:
    """The newer copy; `chosen`: the system's folder was configured. Equal ones: the system's, as in zoneinfo."""
    if system is None or package is None:
        return ZoneData(system or package or Copy("nothing", ""), None, system is None and package is not None)
    old = system.older_than(package) if system.version else not chosen
    return ZoneData(package, system, True) if old else ZoneData(system, package, False)


def system_copy(folders: Sequence[str]) -> Copy | None:
    """The copy that zoneinfo would use."""
    folder = next((found for item in folders if (found := Path(item)).is_dir()), None)
    if folder is None:
        return None
    parents = [folder, folder.parent] if folder.name in ("posix", "right") else [folder]
    stamps = (_stamp(parent / name) for parent in parents for name in _STAMPS)
    return Copy(str(folder), next((version for version in stamps if version), ""))


def _stamp(path: Path) -> str:
    try:
        with path.open("rb") as file:
            match = _VERSION.match(file.read(_MAX_STAMP).strip())
    except OSError:
        return ""
    return match[1].decode() if match else ""


def _age(version: str) -> tuple[int, int, str]:
    return (int(version[:4]), len(version), version) if version else (0, 0, "")


@cache
def _decided(folders: tuple[str, ...]) -> ZoneData:
    return _decide(folders)


def _decide(folders: tuple[str, ...]) -> ZoneData:
    default = tuple((sysconfig.get_config_var("TZPATH") or "").split(":"))
    return choose(system_copy(folders), _package_copy(), chosen=folders != default)


def _package_copy() -> Copy | None:
    try:
        import tzdata
    except ImportError:
        return None
    return Copy("the package tzdata", tzdata.IANA_VERSION)


@lru_cache(maxsize=2048)
def _from_package(name: str) -> ZoneInfo | None:
    try:
        with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
            return ZoneInfo.from_file(file, key=name)
    except (FileNotFoundError, NotADirectoryError):
        return None
