"""A small feed in the real formats, and packages it knows something about."""

from __future__ import annotations

from typing import Any

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package

DEBIAN = OsRelease("Debian GNU/Linux", "12", "Debian GNU/Linux 12 (bookworm)", "debian")

TRACKER: dict[str, Any] = {
    "openssl": {
        "CVE-2024-0001": {
            "description": "A flaw in the handling of keys.",
            "scope": "remote",
            "releases": {
                "bookworm": {
                    "status": "resolved", "repositories": {"bookworm": "3.0.11-1~deb12u2"},
                    "fixed_version": "3.0.11-1~deb12u3", "urgency": "high",
                },
                "trixie": {"status": "resolved", "fixed_version": "0", "urgency": "high"},
            },
        },
        "CVE-2024-0002": {
            "description": "A flaw that is not fixed yet.",
            "releases": {"bookworm": {"status": "open", "urgency": "unimportant"}},
        },
        "CVE-2024-0003": {"releases": {"bookworm": {"status": "undetermined", "urgency": "low"}}},
        "CVE-2020-0004": {
            "releases": {"bookworm": {"status": "resolved", "fixed_version": "1.1.1-1", "urgency": "medium"}}
        },
    },
}  # fmt: skip

OSV_DEBIAN: dict[str, Any] = {
    "schema_version": "1.7.0",
    "id": "DEBIAN-CVE-2024-0001",
    "upstream": ["CVE-2024-0001"],
    "details": "The same flaw, as OSV tells it.",
    "published": "2024-01-09T00:00:00Z",
    "modified": "2024-02-01T00:00:00Z",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [
        {
            "package": {"ecosystem": "Debian:12", "name": "openssl", "purl": "pkg:deb/debian/openssl?arch=source"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.11-1~deb12u3"}]}],
        }
    ],
}

GHSA: dict[str, Any] = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "aliases": ["CVE-2024-22195"],
    "summary": "Jinja vulnerable to HTML attribute injection",
    "details": "The `xmlattr` filter can be abused.",
    "published": "2024-01-11T15:20:48Z",
    "modified": "2024-01-20T00:00:00Z",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:L/I:L/A:N"}],
    "database_specific": {"severity": "MODERATE"},
    "references": [{"type": "WEB", "url": "https://example.org/advisory"}],
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "jinja2"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.3"}]}],
            "versions": ["3.1.2"],
        }
    ],
}

NPM: dict[str, Any] = {
    "id": "GHSA-dddd-eeee-ffff",
    "summary": "Prototype pollution",
    "database_specific": {"severity": "HIGH"},
    "affected": [
        {
            "package": {"ecosystem": "npm", "name": "lodash"},
            "ranges": [
                {
                    "type": "SEMVER",
                    "events": [
                        {"introduced": "3.0.0"}, {"fixed": "3.9.9"}, {"introduced": "4.0.0"}, {"fixed": "4.17.21"},
                    ],
                }
            ],
        }
    ],
}  # fmt: skip

WITHDRAWN: dict[str, Any] = {**GHSA, "id": "GHSA-gone", "withdrawn": "2024-01-01T00:00:00Z"}

PACKAGES = (
    Package("libssl3", "3.0.11-1~deb12u2", "amd64", "openssl"),
    Package("openssl", "3.0.11-1~deb12u2", "amd64", "openssl"),
    Package("bash", "5.2.15-2+b7", "amd64", "bash", source_version="5.2.15-2"),
    Package("Jinja2", "3.1.2", "", "Jinja2", kind="pypi", location="srv/Jinja2.dist-info/METADATA"),
    Package("lodash", "4.17.20", "", "lodash", kind="npm", location="srv/node_modules/lodash/package.json"),
)
INVENTORY = Inventory(DEBIAN, PACKAGES)

STATUS = """\
Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.0.11-1~deb12u2

Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib
Version: 1:1.2.13.dfsg-1
"""
"""The dpkg status of an image with one package that is known to be vulnerable and one that is not."""
