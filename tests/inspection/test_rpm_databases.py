"""Databases of rpm in every format, written by real tools; damaged ones are problems and never errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.files import Reading, RootFiles
from imagesmith.inspection.inventory import take_inventory
from imagesmith.inspection.rpm import read_rpm
from imagesmith.processes import Cancellation
from testing.inventories import BASH, KEY, OPENSSL, rpm_header, write
from testing.memory_files import MemoryFiles
from testing.rpm_support import EXPECTED, asked, berkeley_database, build_packages, headers_of, install, remove

pytestmark = pytest.mark.tool
SIX = "usr/lib/python3.9/site-packages/six-1.16.0.dist-info/METADATA"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two packages that rpmbuild made."""
    return build_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def headers(packages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Their headers as rpm keeps them."""
    return headers_of(install(packages, tmp_path_factory.mktemp("sqlite"), "sqlite") / "rpmdb.sqlite")


@pytest.fixture(scope="module")
def ndb(packages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Packages.db of a root in which both are installed."""
    return (install(packages, tmp_path_factory.mktemp("ndb"), "ndb") / "Packages.db").read_bytes()


@pytest.fixture(scope="module")
def berkeley(headers: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Packages of Berkeley DB with both."""
    path = tmp_path_factory.mktemp("berkeley") / "Packages"
    berkeley_database(headers, path)
    return path.read_bytes()


def found(reading: Reading) -> set[tuple[str, str, str]]:
    return {(item.name, item.version, item.architecture) for item in reading.packages}


def read_root(root: Path) -> Reading:
    with Root(root) as opened:
        return read_rpm(RootFiles(opened, Cancellation()), frozenset({SIX}))


@pytest.mark.parametrize("backend", ["sqlite", "ndb"])
def test_a_database_that_rpm_wrote(packages: list[Path], tmp_path: Path, backend: str) -> None:
    """Names, epochs, versions, sources and owners of files are those of the packages."""
    install(packages, tmp_path, backend)
    reading = read_root(tmp_path)
    assert (found(reading), reading.problems) == (EXPECTED, ())
    assert {(item.source, item.source_version) for item in reading.packages} == {
        ("alpha", ""), ("alpha", "2:1.2.3-4.el9"),
    }  # fmt: skip
    assert reading.owners == {SIX: "alpha"}


def test_an_ndb_database_from_which_a_package_was_removed(packages: list[Path], tmp_path: Path) -> None:
    """Its slot is free, and what is left of its header is no package."""
    install(packages, tmp_path, "ndb")
    remove("alpha-libs", tmp_path)
    reading = read_root(tmp_path)
    assert (found(reading), reading.problems) == ({("alpha", "2:1.2.3-4.el9", "noarch")}, ())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_berkeley_database(headers: list[bytes], tmp_path: Path, page_size: int, order: str) -> None:
    """Headers in chains of pages and in the hash page itself are read as rpm reads them, in either byte order."""
    folder = tmp_path / "var/lib/rpm"
    folder.mkdir(parents=True)
    berkeley_database([*headers, BASH, OPENSSL, KEY], folder / "Packages", page_size=page_size, order=order)
    reading = read_root(tmp_path)
    small = {("bash", "5.1.8-9.el9", "x86_64"), ("openssl-libs", "1:3.0.7-27.el9", "x86_64")}
    assert (found(reading), reading.problems) == (EXPECTED | small, ())
    if order == "<":
        assert asked(folder, "bdb_ro") == EXPECTED | small | {("gpg-pubkey", "350d275d-6279464b", "(none)")}


def test_a_berkeley_database_of_thousands(tmp_path: Path) -> None:
    """Many hash pages and buckets: every package is found once."""
    folder = tmp_path / "var/lib/rpm"
    folder.mkdir(parents=True)
    blobs = [
        rpm_header({1000: f"p{number}", 1001: "1", 1002: "1", 1004: "x" * (number % 9000)})
        for number in range(3000)
    ]
    berkeley_database(blobs, folder / "Packages")
    reading = read_root(tmp_path)
    assert ({item.name for item in reading.packages}, reading.problems) == ({f"p{n}" for n in range(3000)}, ())


def test_the_newest_database_in_a_folder_counts(packages: list[Path], ndb: bytes, tmp_path: Path) -> None:
    """A database of an older format that was left behind is not read; an empty newer one hides nothing."""
    folder = install(packages, tmp_path, "sqlite")
    berkeley_database([BASH], folder / "Packages")
    assert found(read_root(tmp_path)) == EXPECTED
    (folder / "rpmdb.sqlite").unlink()
    (folder / "rpmdb.sqlite-wal").unlink(missing_ok=True)
    install(packages[:0] or packages[:1], tmp_path / "other", "sqlite")
    assert found(read_root(tmp_path)) == {("bash", "5.1.8-9.el9", "x86_64")}
    (folder / "Packages.db").write_bytes(ndb)
    assert found(read_root(tmp_path)) == EXPECTED


def test_python_packages_of_an_rpm_tell_their_owner(packages: list[Path], tmp_path: Path) -> None:
    """A package of Python that rpm brought names it; one that pip brought names nobody."""
    install(packages, tmp_path, "ndb")
    other = "usr/local/lib/python3.9/site-packages/six-1.17.0.dist-info/METADATA"
    write(tmp_path, {SIX: "Name: six\nVersion: 1.16.0\n", other: "name: six\nVERSION: 1.17.0\n"})
    with Root(tmp_path) as root:
        inventory = take_inventory(root, Cancellation())
    assert [(item.version, item.owner) for item in inventory.packages if item.kind == "pypi"] == [
        ("1.16.0", "alpha"), ("1.17.0", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("kind", ["ndb", "berkeley"])
def test_a_database_that_was_cut_is_a_problem(request: pytest.FixtureRequest, kind: str, share: float) -> None:
    """Wherever it ends too early, that is said, whatever was read until there."""
    data: bytes = request.getfixturevalue(kind)
    name = {"ndb": "Packages.db", "berkeley": "Packages"}[kind]
    assert read_rpm(MemoryFiles({f"var/lib/rpm/{name}": data[: int(len(data) * share)]})).problems


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_database_with_wrong_bytes_ends(ndb: bytes, berkeley: bytes, data: st.DataObject) -> None:
    """Offsets, lengths, links and counts that point anywhere give fewer packages and never an error or a loop."""
    for name, blob in (("Packages.db", ndb), ("Packages", berkeley)):
        changed = bytearray(blob)
        for _ in range(data.draw(st.integers(1, 6))):
            # Most of a database is file names: the structure is at the beginning of pages.
            page = data.draw(st.integers(0, len(changed) // 4096 - 1)) * 4096
            place = page + data.draw(st.integers(0, 64))
            changed[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
        reading = read_rpm(MemoryFiles({f"var/lib/rpm/{name}": bytes(changed)}), frozenset({SIX}))
        assert all(item.name and item.version for item in reading.packages)
        assert found(reading) == EXPECTED or reading.problems or len(reading.packages) <= 2


@settings(deadline=None)
@given(st.binary(max_size=600), st.sampled_from([b"RpmP\0\0\0\0\1\0\0\0\1\0\0\0", b"\0" * 12 + b"\x61\x15\x06\0"]))
def test_any_bytes_are_read_as_a_database(data: bytes, start: bytes) -> None:
    """Whatever follows the magic number, reading ends without an error."""
    for name in ("Packages.db", "Packages", "rpmdb.sqlite"):
        reading = read_rpm(MemoryFiles({f"usr/lib/sysimage/rpm/{name}": start + data * 8}))
        assert reading.problems and not reading.packages


def test_a_chain_of_pages_that_turns_in_a_circle_ends(berkeley: bytes) -> None:
    """Every page of a chain is used once."""
    changed = bytearray(berkeley)
    for page in range(1, len(changed) // 4096):
        if changed[page * 4096 + 25] == 7:
            changed[page * 4096 + 16 : page * 4096 + 20] = page.to_bytes(4, "little")
    reading = read_rpm(MemoryFiles({"var/lib/rpm/Packages": bytes(changed)}))
    assert "cannot be read" in reading.problems[0]


def test_the_manifest_of_an_image_without_rpm() -> None:
    """Azure Linux's images without a package manager list their packages in a table."""
    row = "openssl-libs\t3.3.0-1.azl3\t1\t2\tMicrosoft\t(none)\t9\tx86_64\t{}\topenssl-3.3.0-1.azl3.src.rpm\n"
    text = row.format("0") + row.replace("openssl-libs", "other").format("1")
    reading = read_rpm(MemoryFiles({"var/lib/rpmmanifest/container-manifest-2": text.encode()}))
    assert sorted((item.name, item.version, item.source, item.source_version) for item in reading.packages) == [
        ("openssl-libs", "3.3.0-1.azl3", "openssl", ""),
        ("other", "1:3.3.0-1.azl3", "openssl", ""),
    ]
    assert reading.problems == ()
