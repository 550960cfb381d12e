"""Advisories against all images say what scans of each image say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.osv import read_osv
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.processes import Cancellation
from imagesmith.store.database import Database
from imagesmith.vulnerabilities.question import vulnerable_images
from testing.advisories import DEBIAN, NOW, RHEL, ROCKY, UBUNTU, advisory
from testing.fleet import deb, image_arn, put_image

ALPINE = OsRelease("Alpine Linux", "3.20.3", "Alpine Linux v3.20", "alpine")


def rpm(name: str, version: str, **more: str) -> Package:
    return Package(name, version, "x86_64", name.removesuffix("-libs"), "rpm", **more)


RED_HAT = "Red Hat:enterprise_linux:9::baseos"
EL9 = "module+el9"
NEXT = f"18.2-1.{EL9}"


CASES: tuple[tuple[str, OsRelease, Package, tuple[str, str, str]], ...] = (
    ("source of Debian", DEBIAN, deb("libssl3", "3.0.1", "openssl"), ("Debian:12", "openssl", "3.0.2")),
    ("not under its own name", DEBIAN, deb("libssl3", "3.0.1", "openssl"), ("Debian:12", "libssl3", "3.0.2")),
    ("another release", DEBIAN, deb("bash", "5"), ("Debian:11", "bash", "6")),
    ("fixed", DEBIAN, deb("bash", "6"), ("Debian:12", "bash", "6")),
    ("older by epoch", DEBIAN, deb("bash", "6"), ("Debian:12", "bash", "1:1")),
    ("with LTS", UBUNTU, deb("bash", "5"), ("Ubuntu:22.04:LTS", "bash", "6")),
    ("Pro alone", UBUNTU, deb("bash", "5"), ("Ubuntu:Pro:22.04:LTS", "bash", "6")),
    ("binary of Red Hat", RHEL, rpm("openssl-libs", "3"), (RED_HAT, "openssl-libs", "4")),
    ("epoch of a source", ROCKY, rpm("openssl", "1:3.0.7-1"), ("Rocky Linux:9", "openssl", "0:3.0.7-2")),
    ("a stream", ROCKY, rpm("nodejs", f"18.1-1.{EL9}", module="nodejs:18:1:a"), ("Rocky Linux:9", "nodejs", NEXT)),
    ("outside of a stream", ROCKY, rpm("nodejs", "18.1-1"), ("Rocky Linux:9", "nodejs", NEXT)),
    ("apk", ALPINE, Package("libcrypto3", "3-r0", "x86_64", "openssl", "apk"), ("Alpine:v3.20", "openssl", "3-r1")),
    ("spelling of Python", DEBIAN, Package("Foo_Bar", "1.0", "", "", "pypi"), ("PyPI", "foo-bar", "1.1")),
    ("part of a system package", DEBIAN, Package("foo", "1", "", "", "pypi", owner="foo"), ("PyPI", "foo", "1.1")),
    ("npm", DEBIAN, Package("@a/b", "1.0.0", "", "", "npm"), ("npm", "@a/b", "1.0.1")),
    ("a version that is none", DEBIAN, deb("bash", "ü"), ("Debian:12", "bash", "6")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("system", "package", "named"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_question_about_all_images_finds_what_a_scan_finds(
    system: OsRelease,
    package: Package,
    named: tuple[str, str, str],
    sqlite_database: Database,
    advisories: AdvisoryDatabase,
) -> None:
    """Both look at the same table of systems, names, streams and versions."""
    # another package of every kind has an advisory, so that a scan is never refused for want of any
    names = ("Debian:12", "Ubuntu:22.04:LTS", "Rocky Linux:9", "Alpine:v3.20", "PyPI", "npm", RED_HAT)
    documents: list[dict[str, Any]] = [
        {**advisory(name, "another", "1"), "id": f"OTHER-{number}"} for number, name in enumerate(names)
    ]
    records = [read_osv(item) for item in (*documents, advisory(*named))]
    advisories.replace("test", [item for item in records if item is not None], NOW)
    put_image(sqlite_database, "web", [package], system=system)
    report = EmbeddedScanner(advisories).scan(ScanTarget(Inventory(system, (package,)), Path()), Cancellation())
    scanned = [(item.name, item.fixed_version) for finding in report.findings for item in finding.packages]
    with advisories.reader() as reader, sqlite_database.read() as tx:
        found = vulnerable_images(tx, reader, "TEST-1").images
    assert [(item.name, item.fixed) for item in found.get(image_arn("web"), ())] == scanned
