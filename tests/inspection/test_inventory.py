"""Packages of rpm, apk, Python and Node.js in a root, and the whole inventory."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection import languages
from imagesmith.inspection.apk import read_apk
from imagesmith.inspection.inventory import package_url, take_inventory
from imagesmith.inspection.languages import read_language_packages
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.rpm import parse_header, read_rpm

APK = """\
C:Q1abc=
P:musl
V:1.2.5-r0
A:x86_64
o:musl
F:lib
R:libc.so

P:libcrypto3
V:3.3.1-r0
A:x86_64
o:openssl

V:broken

"""


def rpm_header(texts: Mapping[int, str], *, epoch: int | None = None) -> bytes:
    """A header as rpm stores it: index entries, then their data."""
    entries, store = [], b""
    for tag, text in texts.items():
        entries.append(struct.pack(">IIII", tag, 6, len(store), 1))
        store += text.encode() + b"\0"
    if epoch is not None:
        store += b"\0" * (-len(store) % 4)
        entries.append(struct.pack(">IIII", 1003, 4, len(store), 1))
        store += struct.pack(">I", epoch)
    return struct.pack(">II", len(entries), len(store)) + b"".join(entries) + store


OPENSSL = rpm_header(
    {1000: "openssl-libs", 1001: "3.0.7", 1002: "27.el9", 1022: "x86_64", 1044: "openssl-3.0.7-27.el9.src.rpm"},
    epoch=1,
)
BASH = rpm_header({1000: "bash", 1001: "5.1.8", 1002: "9.el9", 1022: "x86_64", 1044: "bash-5.1.8-9.el9.src.rpm"})
KEY = rpm_header({1000: "gpg-pubkey", 1001: "350d275d", 1002: "6279464b"})


def rpm_database(path: Path, blobs: list[bytes], *, journal: bool = False) -> None:
    """A database as rpm makes it; with `journal` its rows stand only in the write-ahead log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    if journal:
        kept = {item: item.read_bytes() for item in (path, path.with_name("rpmdb.sqlite-wal"))}
        connection.close()
        for item, data in kept.items():
            item.write_bytes(data)
    else:
        connection.close()


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("place", ["var/lib/rpm", "usr/lib/sysimage/rpm"])
def test_rpm_packages_of_the_sqlite_database(tmp_path: Path, place: str, *, journal: bool) -> None:
    """Name, epoch, version, release, architecture and source are read, from the log too; keys are no packages."""
    rpm_database(tmp_path / place / "rpmdb.sqlite", [OPENSSL, BASH, KEY, b"junk"], journal=journal)
    with Root(tmp_path) as root:
        assert read_rpm(lambda path: root.read(path) if (tmp_path / path).exists() else None) == (
            Package("bash", "5.1.8-9.el9", "x86_64", "bash", kind="rpm"),
            Package("openssl-libs", "1:3.0.7-27.el9", "x86_64", "openssl", kind="rpm"),
        )


def test_an_rpm_database_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """A view in the place of the table that computes forever ends by itself, with nothing found."""
    path = tmp_path / "rpmdb.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE n(hnum) AS (SELECT 1 UNION ALL SELECT hnum + 1 FROM n) "
        "SELECT hnum, NULL AS blob FROM n WHERE hnum < 0"
    )
    connection.commit()
    connection.close()
    assert read_rpm(lambda asked: path.read_bytes() if asked == "var/lib/rpm/rpmdb.sqlite" else None) == ()


@given(st.binary(max_size=200))
def test_any_header_is_a_package_or_none(blob: bytes) -> None:
    """Damaged headers never raise."""
    found = parse_header(blob)
    assert found is None or (found.name and found.version)


@given(st.integers(0, len(OPENSSL) - 1), st.integers(0, 255))
def test_a_header_with_one_wrong_byte_never_raises(place: int, value: int) -> None:
    """Offsets and counts that point anywhere are bounded by the header."""
    parse_header(OPENSSL[:place] + bytes([value]) + OPENSSL[place + 1 :])


@given(st.binary())
def test_any_bytes_are_no_rpm_database(data: bytes) -> None:
    """Whatever stands in the file, reading ends without an error."""
    assert read_rpm(lambda _: data) == ()


def test_apk_packages_with_their_origin() -> None:
    """Each paragraph with a name and a version is a package; the origin is its source."""
    assert read_apk(lambda path: APK.encode() if path == "lib/apk/db/installed" else None) == (
        Package("libcrypto3", "3.3.1-r0", "x86_64", "openssl", kind="apk"),
        Package("musl", "1.2.5-r0", "x86_64", "musl", kind="apk"),
    )


@given(st.binary())
def test_any_bytes_are_read_as_an_apk_database(data: bytes) -> None:
    """Whatever stands in the file, reading ends without an error."""
    assert isinstance(read_apk(lambda _: data), tuple)


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
        found = read_language_packages(root)
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
        assert len(read_language_packages(root)) == 5


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
        inventory = take_inventory(root)
    assert [item.kind for item in inventory.packages] == ["apk", "apk", "deb", "pypi", "rpm"]
    assert inventory.words() == "2 apk, 1 deb, 1 pypi, 1 rpm packages on Debian 12"
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
            "pkg:rpm/debian/openssl-libs@3.0.7-27.el9?arch=x86_64&distro=debian-12&epoch=1",
        ),
        (Package("@babel/core", "7.0.0", "", "@babel/core", kind="npm"), "pkg:npm/%40babel/core@7.0.0"),
        (Package("Jinja2", "3.1.2", "", "Jinja2", kind="pypi"), "pkg:pypi/jinja2@3.1.2"),
    ],
)
def test_package_urls(package: Package, url: str) -> None:
    """Each kind of package has the url that other tools use for it."""
    system = OsRelease(id="debian", version_id="12")
    found = package_url(package, system)
    assert found is not None and found.to_string() == url
    assert PackageURL.from_string(url).version == found.version
    assert package_url(Package(" ", "1", "", " "), system) is None
