"""The whole inventory of an image: its operating system and every package that can be found in its root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from packageurl import PackageURL

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.apk import read_apk
from imagesmith.inspection.languages import read_language_packages
from imagesmith.inspection.packages import OsRelease, Package, read_os_release, read_packages, reader_for
from imagesmith.inspection.rpm import read_rpm


@dataclass(frozen=True)
class Inventory:
    """What an image holds; `packages` sorted by kind and name."""

    system: OsRelease
    packages: tuple[Package, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Plain data for the store."""
        return [package.to_json() for package in self.packages]

    def words(self) -> str:
        """`92 deb, 3 pypi on Debian 12`."""
        kinds = sorted({package.kind for package in self.packages})
        counts = ", ".join(f"{sum(item.kind == kind for item in self.packages)} {kind}" for kind in kinds)
        return f"{counts or 'no'} packages on {self.system.os_version or 'an unknown system'}"


def take_inventory(root: Root) -> Inventory:
    """Read a mounted root from outside; nothing in it runs, and what cannot be read counts as absent."""
    open_file, list_folder = reader_for(root)
    packages = (
        *read_packages(open_file, list_folder),
        *read_rpm(open_file),
        *read_apk(open_file),
        *read_language_packages(root),
    )
    return Inventory(read_os_release(open_file), tuple(sorted(packages, key=lambda item: item.order)))


_DATABASES = (
    "etc/os-release", "usr/lib/os-release", "var/lib/dpkg/status", "var/lib/dpkg/status.d/", "lib/apk/db/",
    "usr/lib/apk/db/", "var/lib/rpm/", "usr/lib/sysimage/rpm/",
)  # fmt: skip
_LANGUAGES = (".dist-info/METADATA", ".egg-info", "/PKG-INFO", "/package.json")


def is_read(path: str, folder: bool) -> bool:
    """Whether an inventory reads a path of a root (without its leading `/`), for copies of nothing else."""
    if folder:
        return path not in ("proc", "sys", "dev", "run")
    return path.startswith(_DATABASES) or path.endswith(_LANGUAGES) or path.count("/") == 0


def package_url(package: Package, system: OsRelease) -> PackageURL | None:
    """The package-url of a package: `pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=debian-12`.

    None for a name that no package-url can have, such as a blank.
    """
    qualifiers: dict[str, str] = {}
    namespace, name = "", package.name
    version = package.version
    if package.kind in ("deb", "rpm", "apk"):
        namespace = system.id
        if system.id:
            qualifiers["distro"] = f"{system.id}-{system.version_id}".rstrip("-")
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if package.kind == "rpm" and ":" in version:
            qualifiers["epoch"], _, version = version.partition(":")
        if package.source != package.name:
            qualifiers["upstream"] = package.source
    elif package.kind == "npm" and name.startswith("@"):
        namespace, _, name = name.partition("/")
    try:
        url = PackageURL(package.kind, namespace or None, name, version, qualifiers or None)
    except ValueError:
        return None
    return url if url.name and url.version else None
