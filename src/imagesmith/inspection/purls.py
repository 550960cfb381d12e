"""Package-urls of packages: `pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=debian-12`. Pure.

Namespaces and qualifiers are Syft's, so that inventories of both can be compared and matched.
"""

from __future__ import annotations

from packageurl import PackageURL

from imagesmith.inspection.packages import OsRelease, Package

_NAMESPACES = {"rhel": "redhat"}
"""Systems whose package-urls have the vendor as namespace."""


def package_url(package: Package, system: OsRelease) -> str:
    """Empty for a name or a version that no package-url can have, such as a blank."""
    qualifiers: dict[str, str] = {}
    namespace, name, version = "", package.name, package.version
    if package.kind in ("deb", "rpm", "apk"):
        namespace = _NAMESPACES.get(system.id, system.id)
        if system.id:
            qualifiers["distro"] = f"{system.id}-{system.version_id}".rstrip("-")
        if package.architecture:
            qualifiers["arch"] = package.architecture
        if package.kind == "rpm" and ":" in version:
            qualifiers["epoch"], _, version = version.partition(":")
        upstream = _upstream(package, version)
        if upstream:
            qualifiers["upstream"] = upstream
    elif package.kind == "npm" and name.startswith("@"):
        namespace, _, name = name.partition("/")
    try:
        url = PackageURL(package.kind, namespace or None, name, version, qualifiers or None)
    except ValueError:
        return ""
    return url.to_string() if url.name and url.version else ""


def _upstream(package: Package, version: str) -> str:
    """The source of the package: its name, and its version where that differs; for rpm a file."""
    if package.kind == "rpm":
        return f"{package.source}-{package.source_version.rpartition(':')[2] or version}.src.rpm"
    if package.source_version:
        return f"{package.source}@{package.source_version}"
    return package.source if package.source != package.name else ""
