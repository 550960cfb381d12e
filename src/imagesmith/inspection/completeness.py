"""Checks whether an inventory is credible: a distribution without any package is one whose database was not read.

An image of one static program really has no distribution and no packages. But a root with an os-release, or with
traces of a package manager, from which no package was read, would look clean in a scan.
"""

from __future__ import annotations

from collections.abc import Iterable

from imagesmith.inspection.chisel import CHISEL
from imagesmith.inspection.files import Files
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.rpm import RPM_FOLDERS

SYSTEM_KINDS = ("deb", "rpm", "apk")
"""Kinds of packages of distributions."""

_KIND_OF_SYSTEM = {
    "debian": "deb", "ubuntu": "deb", "rhel": "rpm", "fedora": "rpm", "centos": "rpm", "amzn": "rpm",
    "rocky": "rpm", "almalinux": "rpm", "ol": "rpm", "suse": "rpm", "opensuse": "rpm", "sles": "rpm",
    "opensuse-leap": "rpm", "opensuse-tumbleweed": "rpm", "mageia": "rpm", "azurelinux": "rpm", "mariner": "rpm",
    "photon": "rpm", "alpine": "apk", "wolfi": "apk", "chainguard": "apk",
}  # fmt: skip

RELEASES = (
    "etc/os-release", "usr/lib/os-release", "etc/debian_version", "etc/redhat-release", "etc/system-release",
    "etc/fedora-release", "etc/oracle-release", "etc/alpine-release", "etc/SuSE-release", "etc/arch-release",
    "etc/gentoo-release", "etc/slackware-version", "etc/lsb-release", "etc/NIXOS", "etc/openwrt_release",
)  # fmt: skip
"""Files that show a distribution."""

_KIND_OF_RELEASE = {
    "etc/debian_version": "deb", "etc/redhat-release": "rpm", "etc/fedora-release": "rpm",
    "etc/oracle-release": "rpm", "etc/SuSE-release": "rpm", "etc/alpine-release": "apk",
}  # fmt: skip

_DATABASES = {
    "var/lib/dpkg": "dpkg",
    CHISEL: "chisel",
    **dict.fromkeys(RPM_FOLDERS, "rpm"),
    "var/lib/rpmmanifest": "rpm",
    "lib/apk": "apk",
    "usr/lib/apk": "apk",
    "etc/apk": "apk",
}
"""Places of package managers whose databases are read."""

FOREIGN = {
    "var/lib/pacman": "pacman", "var/db/pkg": "Portage", "nix/store": "Nix", "gnu/store": "Guix",
    "var/db/xbps": "XBPS", "var/lib/pkgtools": "Slackware's pkgtools", "var/log/packages": "Slackware's pkgtools",
    "usr/lib/opkg": "opkg", "var/lib/opkg": "opkg", "var/lib/eopkg": "eopkg", "usr/share/clear": "swupd",
}  # fmt: skip
"""Places of package managers whose databases are not read."""


def what_is_missing(files: Files, system: OsRelease, packages: Iterable[Package]) -> str:
    """Why the inventory is incomplete, as a sentence; empty when there is no sign of that."""
    found = {package.kind for package in packages}.intersection(SYSTEM_KINDS)
    expected = _expected_kind(files, system)
    if expected and expected not in found:
        return f"no {expected} package was found of {_name(system, expected)}: {_reason(files)}"
    if found:
        return ""
    signs = [path for path in (*RELEASES, *_DATABASES, *FOREIGN) if files.exists(path)]
    if not signs:
        return ""
    return f"no package was found of {_name(system, signs[0])}: {_reason(files)}"


def _expected_kind(files: Files, system: OsRelease) -> str:
    for word in (system.id, *system.like.split()):
        if word in _KIND_OF_SYSTEM:
            return _KIND_OF_SYSTEM[word]
    if system.id:
        return ""
    return next((kind for path, kind in _KIND_OF_RELEASE.items() if files.exists(path)), "")


def _name(system: OsRelease, sign: str) -> str:
    return system.pretty or system.os_version or f"a system that has {sign}"


def _reason(files: Files) -> str:
    managers = sorted({name for path, name in FOREIGN.items() if files.exists(path)})
    if managers:
        return f"the packages of {', '.join(managers)} cannot be read"
    managers = sorted({name for path, name in _DATABASES.items() if files.exists(path)})
    if managers:
        return f"the database of {', '.join(managers)} is missing, empty or damaged"
    return "there is no database of dpkg, rpm, apk or chisel"
