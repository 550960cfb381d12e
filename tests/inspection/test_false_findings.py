"""What a scan must not report: packages that their distribution keeps, and fixes of another module stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import Inventory, take_inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.modules import streams_named
from imagesmith.inspection.scanning.osv import read_osv
from imagesmith.inspection.scanning.scanner import ScanReport, ScanTarget
from imagesmith.processes import Cancellation
from testing.advisories import DEBIAN, NOW, RHEL, ROCKY, advisory

ROCKY_8 = OsRelease("Rocky Linux", "8.10", "Rocky Linux 8.10 (Green Obsidian)", "rocky")


def scan(folder: Path, system: OsRelease, packages: tuple[Package, ...], *documents: dict[str, Any]) -> ScanReport:
    database = AdvisoryDatabase(folder / "advisories")
    database.replace("test", [item for document in documents if (item := read_osv(document)) is not None], NOW)
    target = ScanTarget(Inventory(system, packages), Path("/nowhere"))
    return EmbeddedScanner(database).scan(target, Cancellation())


def test_python_and_npm_packages_of_the_system_are_not_matched_against_their_registries(tmp_path: Path) -> None:
    """Debian fixed 2.28.1 by a patch: only what somebody installed besides is older than 2.31.0."""
    packages = (
        Package("python3-requests", "2.28.1+dfsg-1+deb12u1", "all", "requests"),
        Package("requests", "2.28.1", "", "requests", "pypi", location="usr/lib/python3", owner="python3-requests"),
        Package("semver", "7.3.5", "", "semver", "npm", location="usr/share/nodejs", owner="node-semver"),
        Package("requests", "2.28.1", "", "requests", "pypi", location="srv/app"),
    )
    documents = (
        advisory("PyPI", "requests", "2.31.0"),
        {**advisory("npm", "semver", "7.5.2"), "id": "TEST-2"},
        {**advisory("Debian:12", "requests", "2.28.1+dfsg-1+deb12u1"), "id": "TEST-3"},
    )
    report = scan(tmp_path, DEBIAN, packages, *documents)
    assert [[item.location for item in found.packages] for found in report.findings] == [["srv/app"]]
    assert report.notes == ("2 Python and npm packages were checked as parts of their system packages",)
    assert scan(tmp_path, DEBIAN, packages[:3], *documents).findings == ()


def test_a_root_whose_python_packages_dpkg_owns_is_clean(tmp_path: Path) -> None:
    """From the files of a root to the findings; one that pip put beside it is found."""
    root = tmp_path / "root"
    place = "usr/lib/python3/dist-packages/requests-2.28.1.egg-info"
    files = {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": (
            "Package: python3-requests\nStatus: install ok installed\nArchitecture: all\nSource: requests\n"
            "Version: 2.28.1+dfsg-1+deb12u1\n"
        ),
        "var/lib/dpkg/info/python3-requests.list": f"/.\n/usr\n/{place}\n/{place}/PKG-INFO\n",
        f"{place}/PKG-INFO": "Name: requests\nVersion: 2.28.1\n",
        "usr/local/lib/python3.11/dist-packages/requests-2.30.0.dist-info/METADATA": (
            "Name: requests\nVersion: 2.30.0\n"
        ),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    with Root(root) as mounted:
        inventory = take_inventory(mounted, Cancellation())
    documents = (
        advisory("PyPI", "requests", "2.31.0"),
        {**advisory("Debian:12", "requests", "2.28.1+dfsg-1+deb12u1"), "id": "TEST-2"},
    )
    report = scan(tmp_path, inventory.system, inventory.packages, *documents)
    assert [[item.version for item in found.packages] for found in report.findings] == [["2.30.0"]]


NODE_18 = Package(
    "nodejs", "1:18.19.1-1.module+el8.9.0+21+c01b2e5f", "x86_64", "nodejs", "rpm",
    module="nodejs:18:8090020240301094436:a75119d5",
)  # fmt: skip
NPM_18 = Package(
    "npm", "1:10.2.4-1.18.19.1.1.module+el8.9.0+21+c01b2e5f", "x86_64", "nodejs", "rpm",
    source_version="1:18.19.1-1.module+el8.9.0+21+c01b2e5f", module="nodejs:18:8090020240301094436:a75119d5",
)  # fmt: skip
UNMARKED = Package("nodejs", "1:18.19.1-1.fc39", "x86_64", "nodejs", "rpm", module=NODE_18.module)
UNLABELLED = Package("nodejs", NODE_18.version, "x86_64", "nodejs", "rpm")
PLAIN = Package("nodejs", "1:16.20.2-8.el9_4", "x86_64", "nodejs", "rpm")
FIX_18 = "1:18.20.2-1.module+el8.9.0+22+abcdef01"
FIX_20 = "1:20.12.2-2.module+el8.9.0+23+abcdef01"
OLD_18 = "1:18.18.0-1.module+el8.9.0+20+abcdef01"


@pytest.mark.parametrize(
    ("package", "fixed", "title", "hit"),
    [
        (NODE_18, FIX_18, "Important: nodejs:18 security update", True),
        (NODE_18, FIX_18, "", True),
        (NODE_18, OLD_18, "Important: nodejs:18 security update", False),
        (NODE_18, FIX_20, "Important: nodejs:20 security update", False),
        (NODE_18, FIX_20, "", False),
        (NODE_18, FIX_18, "Important: nodejs:18 and nodejs-devel:18 security update", True),
        (NODE_18, "1:20.12.2-2.el9", "Important: nodejs security update", False),
        (NPM_18, FIX_18, "Important: nodejs:18 security update", True),
        (NPM_18, FIX_20, "Important: nodejs:20 security update", False),
        (UNMARKED, "1:18.20.2-1.fc39", "Important: nodejs security update", True),
        (UNMARKED, FIX_18, "Important: nodejs:18 security update", True),
        (UNMARKED, FIX_20, "Important: nodejs:20 security update", False),
        (UNLABELLED, FIX_18, "Important: nodejs:18 security update", True),
        (UNLABELLED, "1:20.12.2-2.el8", "Important: nodejs security update", False),
        (PLAIN, FIX_20, "Important: nodejs:20 security update", False),
        (PLAIN, "1:18.20.2-1.module_el9.4.0+100+71fc9528", "", False),
        (PLAIN, "1:16.20.2-9.el9_4", "Important: nodejs security update", True),
    ],
)
def test_module_streams_are_told_apart(
    tmp_path: Path, package: Package, fixed: str, title: str, *, hit: bool
) -> None:
    """A stream is compared with its own fixes, and what belongs to no module with those of none."""
    document = {**advisory("Rocky Linux:8", "nodejs", fixed), "summary": title}
    assert bool(scan(tmp_path, ROCKY_8, (package,), document).findings) is hit


@pytest.mark.parametrize(("stream", "hit"), [("18", True), ("20", False)])
def test_the_package_url_of_an_advisory_names_its_module(tmp_path: Path, stream: str, *, hit: bool) -> None:
    """As in Red Hat's data, whatever the title says."""
    fixed = "1:21.0.0-1.module+el9.4.0+1+abcdef01"
    name = "Red Hat:enterprise_linux:9::appstream"
    document = {**advisory(name, "nodejs", fixed), "summary": "nodejs:22"}
    purl = f"pkg:rpm/redhat/nodejs?arch=src&rpmmod=nodejs%3A{stream}%3A9040020240301%3Arhel9"
    document["affected"][0]["package"]["purl"] = purl
    assert bool(scan(tmp_path, RHEL, (NODE_18,), document).findings) is hit


def test_an_advisory_without_versions_means_every_stream(tmp_path: Path) -> None:
    """Everything is affected, and nothing is fixed."""
    document = advisory("Rocky Linux:9", "nodejs", "1")
    document["affected"][0]["ranges"][0]["events"] = [{"introduced": "0"}]
    assert len(scan(tmp_path, ROCKY, (PLAIN,), document).findings) == 1
    assert len(scan(tmp_path, ROCKY, (NODE_18,), document).findings) == 1


@pytest.mark.parametrize(
    ("title", "streams"),
    [
        ("Important: nodejs:18 security update", "nodejs:18"),
        ("Moderate: idm:DL1 and idm:client security update", "idm:DL1 idm:client"),
        ("Moderate: container-tools:rhel8 security, bug fix", "container-tools:rhel8"),
        ("Important: openssl security update", ""),
        ("Important:openssl, see https://example.org/a:b", "Important:openssl"),
        ("", ""),
    ],
)
def test_streams_in_titles(title: str, streams: str) -> None:
    """A word, a colon and a word without a blank; what such a title of no module says is never asked for."""
    assert streams_named(title, "") == streams
