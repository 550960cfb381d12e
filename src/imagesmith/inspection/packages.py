"""The result types of all readers of an image's root: packages and an operating system. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MAX_FILE = 256 * 1024 * 1024
"""Most bytes of a database that is read as text."""

MAX_PACKAGES = 100_000
MAX_FIELD = 1024
"""Most characters of a field; a package with a longer one is unreadable."""


@dataclass(frozen=True)
class Package:
    """One installed package; `source` is the name of the source package it was built from, if known.

    `kind` is a package-url type: deb, rpm, apk, pypi, npm. `source_version` is stated only where it differs from
    `version`, and `location`, a path in the image, only for packages that no system-wide database knows.

    `owner` is the name of the system package that installed the files of a Python or npm package: such a package
    has the fixes of its distribution, whatever its own version is. `module` is the modularity label of an rpm,
    `NAME:STREAM:VERSION:CONTEXT`. Both may be empty.

    `license` is the SPDX expression of what its metadata states, and `supplier` the maintainer or vendor as written
    there, often `Name <address>`; both are empty when nothing is stated.
    """

    name: str
    version: str
    architecture: str
    source: str
    kind: str = "deb"
    source_version: str = ""
    location: str = ""
    owner: str = ""
    module: str = ""
    license: str = ""
    supplier: str = ""

    @property
    def order(self) -> tuple[str, ...]:
        """The sort key of inventories."""
        return (self.kind, self.name, self.version, self.architecture, self.source, self.location)

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class OsRelease:
    """The identity of an operating system; a part that the image does not state is empty."""

    name: str = ""
    version_id: str = ""
    pretty: str = ""
    id: str = ""
    like: str = ""
    """Identities of the systems that it is derived from, separated by blanks."""

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @property
    def os_version(self) -> str:
        """The short form that the API shows as `osVersion`: `Debian 12`, `Amazon Linux 2023`, `Alpine 3.20`."""
        version = self.version_id
        if self.id == "alpine":
            version = ".".join(version.split(".")[:2])
        return f"{self._short_name} {version}".strip() or self.pretty

    @property
    def _short_name(self) -> str:
        known = {"amzn": "Amazon Linux", "rhel": "RHEL", "sles": "SUSE"}.get(self.id)
        if known is not None:
            return known
        words = (self.name or self.id.capitalize()).split()
        return words[0] if words else ""
