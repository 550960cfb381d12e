"""Packages of rpm, apk, Python and Node.js in a root, and the whole inventory."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection import languages
from imagesmith.inspection.apk import read_apk
from imagesmith.inspection.files import RootFiles
from imagesmith.inspection.inventory import take_inventory
from imagesmith.inspection.languages import read_language_packages
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.purls import package_url
from imagesmith.inspection.rpm import read_rpm
from imagesmith.inspection.rpm.header import parse_header, read_header
from imagesmith.processes import Cancellation
from testing.inventories import APK, BASH, KEY, OPENSSL, rpm_database, rpm_header, write
from testing.memory_files import MemoryFiles

NODE = rpm_header({1000: "nodejs", 1001: "18.1", 1002: "1.module_el8", 5096: "nodejs:18:8060020230306:ad008a3a"})


def languages_of(root: Root) -> list[Package]:
    """The packages of Python and npm, sorted."""
    return sorted(read_language_packages(root, Cancellation().check).packages, key=lambda item: item.order)


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("place", ["var/lib/rpm", "usr/lib/sysimage/rpm"])
def test_rpm_packages_of_the_sqlite_database(tmp_path: Path, place: str, *, journal: bool) -> None:
    """Name, epoch, version, release, architecture and source are read, from the log too; keys are no packages."""
    rpm_database(tmp_path / place / "rpmdb.sqlite", [OPENSSL, BASH, KEY, b"junk"], journal=journal)
    with Root(tmp_path) as root:
        found = read_rpm(RootFiles(root, Cancellation()))
    assert found.packages == {
        Package("bash", "5.1.8-9.el9", "x86_64", "bash", kind="rpm"),
        Package("openssl-libs", "1:3.0.7-27.el9", "x86_64", "openssl", kind="rpm"),
    }
    assert found.problems == (f"1 entry of {place}/rpmdb.sqlite cannot be read",)


def test_an_rpm_database_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """A view in the place of the table that computes forever ends by itself, and is a problem."""
    path = tmp_path / "rpmdb.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE n(hnum) AS (SELECT 1 UNION ALL SELECT hnum + 1 FROM n) "
        "SELECT hnum, NULL AS blob FROM n WHERE hnum < 0"
    )
    connection.commit()
    connection.close()
    found = read_rpm(MemoryFiles({"var/lib/rpm/rpmdb.sqlite": path.read_bytes()}))
    assert (found.packages, found.problems) == (
        frozenset(), ("var/lib/rpm/rpmdb.sqlite cannot be read: interrupted",),
    )  # fmt: skip


def test_the_module_stream_of_an_rpm_is_kept() -> None:
    """The modularity label tells packages of two streams apart that have one name."""
    found = parse_header(NODE)
    assert found is not None and found.module == "nodejs:18:8060020230306:ad008a3a"


@given(st.binary(max_size=200))
def test_any_header_is_a_package_or_none(blob: bytes) -> None:
    """Damaged headers never raise."""
    header = read_header(blob)
    assert header is None or header.package is None or (header.package.name and header.package.version)
    assert header is None or list(header.files()) is not None


@given(st.integers(0, len(OPENSSL) - 1), st.integers(0, 255))
def test_a_header_with_one_wrong_byte_never_raises(place: int, value: int) -> None:
    """Offsets and counts that point anywhere are bounded by the header."""
    parse_header(OPENSSL[:place] + bytes([value]) + OPENSSL[place + 1 :])


@given(st.binary())
def test_any_bytes_are_no_rpm_database(data: bytes) -> None:
    """Whatever stands in the file, reading ends without an error."""
    assert read_rpm(MemoryFiles(lambda _: data)).packages == frozenset()


def test_apk_packages_with_their_origin() -> None:
    """Each paragraph with a name and a version is a package; the origin is its source."""
    found = read_apk(MemoryFiles({"lib/apk/db/installed": APK.encode()}))
    assert found.packages == {
        Package("libcrypto3", "3.3.1-r0", "x86_64", "openssl", kind="apk"),
        Package("musl", "1.2.5-r0", "x86_64", "musl", kind="apk"),
    }
    assert found.problems == ("1 entry of lib/apk/db/installed cannot be read",)


@given(st.binary())
def test_any_bytes_are_read_as_an_apk_database(data: bytes) -> None:
    """Whatever stands in the file, reading ends without an error."""
    assert isinstance(read_apk(MemoryFiles(lambda _: data)).problems, tuple)


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        ("a.dist-info/METADATA", b"\xef\xbb\xbfName: a\nVersion: 1\n", ("a", "1")),
        ("a.dist-info/METADATA", b"\n\nName: a\nVersion: 1\n", ("a", "1")),
        ("a.dist-info/METADATA", b"Name: a\r\nVersion: 1\r\n\r\nName: b\r\n", ("a", "1")),
        ("my_pkg-1.2rc1.dist-info/METADATA", b"Metadata-Version: 2.1\n\ntext\n", ("my_pkg", "1.2rc1")),
        ("a-2!1.0+local.1.dist-info/METADATA", "Name: a\nVersion: 2\n".encode("utf-16"), ("a", "2!1.0+local.1")),
        ("a-1.0-py3.11.egg-info/PKG-INFO", b"Name: a\n", ("a", "1.0")),
        ("a-1.0-py3.11.egg/EGG-INFO/PKG-INFO", b"{}", ("a", "1.0")),
        ("a-1.0.DIST-INFO/METADATA", b"Version: 3\n", ("a", "3")),
        ("a-1.0.dist-info/METADATA", b" \n", None),
        ("odd.dist-info/METADATA", b"no headers\n", None),
        ("a-b.dist-info/METADATA", b"no headers\n", None),
    ],
)
def test_odd_descriptions_of_python_packages(
    tmp_path: Path, path: str, content: bytes, found: tuple[str, str] | None
) -> None:
    """A byte order mark and blank lines say nothing; what no header says, the name of the folder does."""
    (tmp_path / "srv" / path).parent.mkdir(parents=True)
    (tmp_path / "srv" / path).write_bytes(content)
    with Root(tmp_path) as root:
        packages = take_inventory(root, Cancellation()).packages
    assert [(item.name, item.version) for item in packages] == ([found] if found else [])


def test_python_and_npm_packages_wherever_they_are(tmp_path: Path) -> None:
    """dist-info, both forms of egg-info and package.json below node_modules count; other package.json do not."""
    write(
        tmp_path,
        {
            "usr/lib/python3/dist-packages/six-1.16.0.egg-info": "Metadata: 1.2\nName: six\nVersion: 1.16.0\n",
            "opt/venv/lib/python3.11/site-packages/Jinja2-3.1.2.dist-info/METADATA": (
                "Name: Jinja2\nVersion: 3.1.2\n\nVersion: 9\n"
            ),
            "srv/old-2.0.egg-info/PKG-INFO": "Name: old\nVersion: 2.0\n",
            "srv/app/package.json": '{"name": "app", "version": "1.0.0"}',
            "srv/app/node_modules/lodash/package.json": '{"name": "lodash", "version": "4.17.20"}',
            "srv/app/node_modules/@babel/core/package.json": '{"name": "@babel/core", "version": "7.0.0"}',
            "srv/app/node_modules/lodash/sub/package.json": '{"name": "sub", "version": "1.0.0"}',
            "srv/app/node_modules/a/node_modules/b/package.json": '{"name": "b", "version": "1.0.0"}',
            "srv/app/node_modules/odd/package.json": '["no", "object"]',
            "proc/x.dist-info/METADATA": "Name: proc\nVersion: 1\n",
        },
    )
    (tmp_path / "srv/loop").symlink_to("/srv")
    with Root(tmp_path) as root:
        found = languages_of(root)
    assert [(item.kind, item.name, item.version) for item in found] == [
        ("npm", "@babel/core", "7.0.0"),
        ("npm", "b", "1.0.0"),
        ("npm", "lodash", "4.17.20"),
        ("pypi", "Jinja2", "3.1.2"),
        ("pypi", "old", "2.0"),
        ("pypi", "six", "1.16.0"),
    ]
    assert found[0].location == "srv/app/node_modules/@babel/core/package.json"


def test_the_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root of more folders than the limit is not walked to its end; links and pipes are not opened."""
    for number in range(20):
        write(tmp_path, {f"d{number:02}/p{number}.dist-info/METADATA": f"Name: p{number}\nVersion: 1\n"})
    os.mkfifo(tmp_path / "pipe.egg-info")
    monkeypatch.setattr(languages, "MAX_FOLDERS", 6)
    with Root(tmp_path) as root:
        found = read_language_packages(root, Cancellation().check)
    assert (len(found.packages), found.problems) == (
        5, ("the image has more than 6 folders, not all were searched",),
    )  # fmt: skip


def test_the_inventory_of_a_root_of_all_kinds(tmp_path: Path) -> None:
    """Every reader contributes; the rows are plain JSON, sorted by kind and name."""
    rpm_database(tmp_path / "var/lib/rpm/rpmdb.sqlite", [BASH])
    write(
        tmp_path,
        {
            "etc/os-release": "ID=debian\nVERSION_ID=12\nNAME=Debian\n",
            "var/lib/dpkg/status": "Package: zlib1g\nStatus: install ok installed\nVersion: 1\nPriority: x\n",
            "lib/apk/db/installed": APK,
            "srv/x.dist-info/METADATA": "Name: x\nVersion: 1\n",
        },
    )
    with Root(tmp_path) as root:
        inventory = take_inventory(root, Cancellation())
    assert [item.kind for item in inventory.packages] == ["apk", "apk", "deb", "pypi", "rpm"]
    assert inventory.summary() == (
        "2 apk, 1 deb, 1 pypi, 1 rpm packages on Debian 12; warning: 1 entry of lib/apk/db/installed cannot be read"
    )
    assert json.loads(json.dumps(inventory.rows())) == inventory.rows()


@pytest.mark.parametrize(
    ("package", "url"),
    [
        (
            Package("libssl3", "3.0.11-1~deb12u2", "amd64", "openssl"),
            "pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl",
        ),
        (
            Package("openssl-libs", "1:3.0.7-27.el9", "x86_64", "openssl-libs", kind="rpm"),
            "pkg:rpm/debian/openssl-libs@3.0.7-27.el9?arch=x86_64&distro=debian-12&epoch=1&upstream=openssl-libs-3.0.7-27.el9.src.rpm",
        ),
        (Package("@babel/core", "7.0.0", "", "@babel/core", kind="npm"), "pkg:npm/%40babel/core@7.0.0"),
        (Package("Jinja2", "3.1.2", "", "Jinja2", kind="pypi"), "pkg:pypi/jinja2@3.1.2"),
    ],
)
def test_package_urls(package: Package, url: str) -> None:
    """Each kind of package has the url that other tools use for it."""
    system = OsRelease(id="debian", version_id="12")
    found = package_url(package, system)
    assert found == url
    assert PackageURL.from_string(url).to_string() == found
    assert package_url(Package(" ", "1", "", " "), system) == ""
