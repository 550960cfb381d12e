"""An image and its inventory for tests of SBOMs."""

from __future__ import annotations

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.sbom import DescribedImage

IMAGE = DescribedImage.of("web:1.0.0-1", "sha256:" + "ab" * 32, "2026-11-23T12:00:00.123456789Z", account="0")


PACKAGES = (
    Package(
        "libssl3", "3.0.11-1", "amd64", "openssl", source_version="3.0.11",
        license="Apache-2.0 AND LicenseRef-odd", supplier="Debian OpenSSL Team <openssl@example>",
    ),
    Package("Jinja2", "3.1.2", "", "Jinja2", kind="pypi", location="srv/a/METADATA", license="BSD-3-Clause"),
    Package("Jinja2", "3.1.2", "", "Jinja2", kind="pypi", location="srv/b/METADATA"),
)  # fmt: skip


INVENTORY = Inventory(OsRelease("Debian GNU/Linux", "12", "Debian 12", "debian"), PACKAGES)
