"""Both documents and the package-urls in them, held against programs and schemas of others."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from ntia_conformance_checker import SbomChecker
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import Inventory, take_inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.purls import package_url
from imagesmith.inspection.sbom.cyclonedx import cyclonedx_document
from imagesmith.inspection.sbom.spdx import spdx_document
from imagesmith.processes import Cancellation, Cancelled, check
from testing.inventories import APK, write
from testing.rpm_support import build_packages, install
from testing.sbom_samples import IMAGE, INVENTORY

pytestmark = pytest.mark.tool
SYFT = str(Path(sys.executable).parent / "syft")
# Syft keeps a cache at home, and as root it would make any folder for it
OFFLINE = {"PATH": "/usr/bin:/bin", "HOME": "/dev/null", "SYFT_CHECK_FOR_APP_UPDATE": "false"}
ODD = Inventory(
    OsRelease("Débian", "12", 'a "quoted" name', "debian"),
    (
        Package("nodejs", "1:18.1-1", "x86_64", "nodejs", kind="rpm", module="nodejs:18:8060:ad00"),
        Package("nodejs", "1:18.1-1", "x86_64", "nodejs", kind="rpm", module="nodejs:20:8060:ad00"),
        Package(" ", "1", "", " ", kind="npm", location="srv/ü/node_modules/ /package.json"),
        Package("sîx", "1.16.0", "", "sîx", kind="pypi", location="a b/METADATA", owner="python3-six"),
        Package("\N{PILE OF POO}", "\N{PILE OF POO}", "a&b=c", "x?y#z"),
    ),
)
SYSTEMS = {
    "debian": 'ID=debian\nVERSION_ID="12"\nNAME="Debian GNU/Linux"\n',
    "sid": 'ID=debian\nNAME="Debian GNU/Linux"\n',
    "rhel": 'ID="rhel"\nVERSION_ID="9.4"\nNAME="Red Hat Enterprise Linux"\n',
    "leap": 'ID="opensuse-leap"\nVERSION_ID="15.6"\nNAME="openSUSE Leap"\n',
    "alpine": 'ID=alpine\nVERSION_ID=3.20.3\nNAME="Alpine Linux"\n',
    "wolfi": 'ID=wolfi\nVERSION_ID="20230201"\nNAME="Wolfi"\n',
}


@pytest.mark.parametrize("inventory", [INVENTORY, ODD, Inventory(OsRelease(), ())])
def test_cyclonedx_fits_its_schema_and_is_read(inventory: Inventory) -> None:
    """The official schema, and the official library, take the document."""
    text = cyclonedx_document(IMAGE, inventory, Cancellation()).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = Bom.from_json(json.loads(text))  # type: ignore[attr-defined]
    assert len(bom.components) == len(inventory.packages) + bool(inventory.system.id)
    assert bom.validate()


@pytest.mark.parametrize("inventory", [INVENTORY, ODD, Inventory(OsRelease(), ())])
def test_spdx_is_valid(inventory: Inventory, tmp_path: Path) -> None:
    """The official library reads the document and finds nothing wrong with it."""
    path = tmp_path / "image.spdx.json"
    path.write_bytes(spdx_document(IMAGE, inventory, Cancellation()))
    document = parse_file(str(path))
    assert validate_full_spdx_document(document) == []
    assert len(document.packages) == len(inventory.packages) + 1


def test_ntias_minimum_elements_are_there(tmp_path: Path) -> None:
    """The checker of others agrees, for this machine's own packages."""
    write(tmp_path, {"etc/os-release": SYSTEMS["debian"]})
    copy_packages(tmp_path)
    with Root(tmp_path) as opened:
        inventory = take_inventory(opened, Cancellation())
    path = tmp_path / "image.spdx.json"
    path.write_bytes(spdx_document(IMAGE, inventory, Cancellation()))
    checker = SbomChecker(str(path), compliance="ntia", sbom_spec="spdx2", validate=True)
    assert (checker.compliant, checker.validation_messages) == (True, [])
    stated = sum(bool(item.license) for item in inventory.packages)
    assert len(inventory.packages) > 100 and stated > 0.85 * len(inventory.packages)


def copy_packages(root: Path) -> None:
    """This machine's dpkg, with the copyright files of its packages."""
    (root / "var/lib/dpkg").mkdir(parents=True)
    shutil.copy("/var/lib/dpkg/status", root / "var/lib/dpkg/status")
    for place in sorted(Path("/usr/share/doc").glob("*/copyright")):
        target = root / "usr/share/doc" / place.parent.name
        target.mkdir(parents=True)
        shutil.copy(place, target / "copyright")


@pytest.mark.parametrize("write_document", [cyclonedx_document, spdx_document])
def test_syft_reads_each_document(write_document: object, tmp_path: Path) -> None:
    """A reader of others finds the packages in it."""
    assert callable(write_document)
    path = tmp_path / "document.json"
    path.write_bytes(write_document(IMAGE, INVENTORY, Cancellation()))
    answer = json.loads(check([SYFT, "convert", str(path), "-o", "syft-json"], env=OFFLINE).stdout)
    found = {item["name"]: [entry["spdxExpression"] for entry in item["licenses"]] for item in answer["artifacts"]}
    assert found["libssl3"] == ["Apache-2.0 AND LicenseRef-odd"] and "Jinja2" in found


@pytest.mark.parametrize("write_document", [cyclonedx_document, spdx_document])
def test_a_document_stops_when_it_is_cancelled(write_document: object) -> None:
    """Cancelled is raised between two packages."""
    assert callable(write_document)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        write_document(IMAGE, INVENTORY, cancellation)


@pytest.mark.parametrize("system", ["debian", "sid"])
def test_package_urls_of_dpkg_are_those_of_syft(tmp_path: Path, system: str) -> None:
    """Every package of this machine has the url that Syft writes for it."""
    write(tmp_path, {"etc/os-release": SYSTEMS[system]})
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    shutil.copy("/var/lib/dpkg/status", tmp_path / "var/lib/dpkg/status")
    assert ours(tmp_path) == syfts(tmp_path)


@pytest.mark.parametrize("system", ["rhel", "leap"])
@pytest.mark.parametrize("backend", ["sqlite", "ndb"])
def test_package_urls_of_rpm_are_those_of_syft(tmp_path: Path, system: str, backend: str) -> None:
    """Vendor, epoch and source of packages that rpmbuild made are told as Syft tells them."""
    root = tmp_path / "root"
    install(build_packages(tmp_path), root, backend)
    write(root, {"etc/os-release": SYSTEMS[system]})
    assert ours(root) == syfts(root)
    assert len(ours(root)) == 2


@pytest.mark.parametrize("system", ["alpine", "wolfi"])
def test_package_urls_of_apk_are_those_of_syft(tmp_path: Path, system: str) -> None:
    """The origin is told where it differs."""
    write(tmp_path, {"etc/os-release": SYSTEMS[system], "lib/apk/db/installed": APK.replace("V:broken\n\n", "")})
    assert ours(tmp_path) == syfts(tmp_path)


def test_package_urls_of_languages_are_those_of_syft(tmp_path: Path) -> None:
    """Names of Python are told in lower case, scopes of npm are namespaces."""
    write(
        tmp_path,
        {
            "srv/a/Jinja2-3.1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n",
            "srv/b.egg/EGG-INFO/PKG-INFO": "Metadata-Version: 2.1\nName: My_Lib\nVersion: 5.0\n",
            "srv/node_modules/@babel/core/package.json": '{"name": "@babel/core", "version": "7.0.0"}',
            "srv/node_modules/lodash/package.json": '{"name": "lodash", "version": "4.17.20"}',
        },
    )
    assert ours(tmp_path) == syfts(tmp_path)


def ours(root: Path) -> set[str]:
    with Root(root) as opened:
        inventory = take_inventory(opened, Cancellation())
    assert inventory.problems == () or not any(item.kind in ("deb", "rpm", "apk") for item in inventory.packages)
    return {package_url(item, inventory.system) for item in inventory.packages}


def syfts(root: Path) -> set[str]:
    argv = [SYFT, "scan", f"dir:{root}", "--quiet", "-o", "syft-json", "--override-default-catalogers", "image"]
    document = json.loads(check(argv, env=OFFLINE, limit=64 * 1024 * 1024).stdout)
    return {item["purl"] for item in document["artifacts"]}
