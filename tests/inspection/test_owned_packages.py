"""Python packages in a root: how they are described, that each is listed once, which system package owns them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection import languages
from imagesmith.inspection.dpkg import read_dpkg
from imagesmith.inspection.inventory import Inventory, is_read, take_inventory
from imagesmith.inspection.packages import Package
from imagesmith.processes import Cancellation, check
from testing.inventories import write
from testing.memory_files import MemoryFiles

DIST = "usr/lib/python3/dist-packages"
SITE = "usr/lib/python3.12/site-packages"
APK = "P:py3-six\nV:1.16.0-r0\nF:usr/lib/python3.12/site-packages/six-1.16.0.dist-info\nR:METADATA\n\n"


def inventory_of(folder: Path) -> Inventory:
    with Root(folder) as root:
        return take_inventory(root, Cancellation())


def stanza(name: str, state: str = "installed", version: str = "1") -> str:
    return f"Package: {name}\nStatus: install ok {state}\nArchitecture: all\nVersion: {version}\n\n"


@pytest.mark.parametrize(
    ("state", "there"),
    [
        ("installed", True), ("unpacked", True), ("half-configured", True), ("half-installed", True),
        ("triggers-awaited", True), ("triggers-pending", True), ("Unpacked", True),
        ("config-files", False), ("not-installed", False),
    ],
)  # fmt: skip
def test_states_of_dpkg(state: str, there: bool) -> None:
    """Whatever has files in the image is listed, however far its installation came."""
    found = read_dpkg(MemoryFiles({"var/lib/dpkg/status": stanza("a", state).encode()}))
    assert ({item.name for item in found.packages}, found.problems) == ({"a"} if there else set(), ())


def test_a_package_that_is_known_by_its_name_only_is_no_problem() -> None:
    """dpkg keeps such entries of packages that were never there, and of unpackings that ended at once."""
    text = "Package: never\nPriority: optional\n\nPackage: broken\nStatus: install reinstreq half-installed\n"
    found = read_dpkg(MemoryFiles({"var/lib/dpkg/status": text.encode()}))
    assert (found.packages, found.problems) == (frozenset(), ())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("srv/a-1.dist-info/METADATA", "Metadata-Version: 2.1\nname: a\nVERSION: 1\n"),
        ("srv/a-1.dist-info/METADATA", "NAME : a\r\nVersion:1\r\n\r\nName: b\r\n"),
        ("srv/a.egg-info/PKG-INFO", "Name: a\nVersion: 1\n"),
        ("srv/a.egg-info", "Name: a\nVersion: 1\n"),
        ("srv/a-1-py3.11.egg/EGG-INFO/PKG-INFO", "Name: a\nVersion: 1\n"),
        ("/".join(["deep"] * 80) + "/a-1.dist-info/METADATA", "Name: a\nVersion: 1\n"),
    ],
)
def test_descriptions_of_a_python_package(tmp_path: Path, path: str, text: str) -> None:
    """Every form of description is found, with its headers in any case, however deep it is."""
    write(tmp_path, {path: text})
    (found,) = inventory_of(tmp_path).packages
    assert (found.name, found.version, found.location) == ("a", "1", path)


def test_a_package_with_two_descriptions_in_one_folder_is_listed_once(tmp_path: Path) -> None:
    """Debian's python3-cryptography has a dist-info and an egg-info; another folder is another package."""
    text = "Name: {}\nVersion: 38.0.4\n"
    write(
        tmp_path,
        {
            f"{DIST}/cryptography-38.0.4.dist-info/METADATA": text.format("cryptography"),
            f"{DIST}/cryptography.egg-info/PKG-INFO": text.format("Cryptography"),
            "opt/venv/site-packages/cryptography-38.0.4.dist-info/METADATA": text.format("cryptography"),
            f"{DIST}/zope_x-1.dist-info/METADATA": "Name: zope_x\nVersion: 1\n",
            f"{DIST}/zope.x-2.egg-info/PKG-INFO": "Name: zope.x\nVersion: 2\n",
        },
    )
    assert [(item.name, item.version, item.location) for item in inventory_of(tmp_path).packages] == [
        ("cryptography", "38.0.4", "opt/venv/site-packages/cryptography-38.0.4.dist-info/METADATA"),
        ("cryptography", "38.0.4", f"{DIST}/cryptography-38.0.4.dist-info/METADATA"),
        ("zope.x", "2", f"{DIST}/zope.x-2.egg-info/PKG-INFO"),
        ("zope_x", "1", f"{DIST}/zope_x-1.dist-info/METADATA"),
    ]


@pytest.mark.parametrize(
    ("root", "path", "owner"),
    [
        ({"var/lib/dpkg/info/python3-six.list": "/.\n/{path}\n"}, f"{DIST}/six.dist-info/METADATA", "python3-six"),
        ({"var/lib/dpkg/info/python3-six:amd64.list": "/.\n/{path}\n"}, f"{DIST}/six.egg-info", "python3-six"),
        ({"var/lib/dpkg/info/python3-six.list": "/lib/x/six.egg-info\n"}, "usr/lib/x/six.egg-info", "python3-six"),
        ({"var/lib/dpkg/info/gone.list": "/{path}\n"}, f"{DIST}/six-1.dist-info/METADATA", ""),
        ({"var/lib/dpkg/info/python3-six.list": "/{path}.dist\n"}, f"{DIST}/six-1.dist-info/METADATA", ""),
        ({"lib/apk/db/installed": APK}, f"{SITE}/six-1.16.0.dist-info/METADATA", "py3-six"),
        ({"usr/lib/apk/db/installed": APK}, "opt/six-1.16.0.dist-info/METADATA", ""),
    ],
)  # fmt: skip
def test_the_owner_of_a_package(tmp_path: Path, root: dict[str, str], path: str, owner: str) -> None:
    """The system package that lists the description, if the inventory lists that package; else nobody."""
    status = stanza("python3-six") + stanza("gone", "config-files")
    write(tmp_path, {name: text.format(path=path) for name, text in root.items()})
    write(tmp_path, {path: "Name: six\nVersion: 1\n", "var/lib/dpkg/status": status})
    found = [item for item in inventory_of(tmp_path).packages if item.kind == "pypi"]
    assert [item.owner for item in found] == [owner]


def test_an_owner_in_an_image_without_dpkg(tmp_path: Path) -> None:
    """status.d has the files of a package beside its stanza, with their sums."""
    path = "usr/lib/python3/dist-packages/six-1.egg-info"
    write(
        tmp_path,
        {
            "var/lib/dpkg/status.d/c2l4": "Package: python3-six\nVersion: 1.16.0-4\nArchitecture: all\n",
            "var/lib/dpkg/status.d/c2l4.md5sums": f"{'a' * 32}  usr/share/doc/x\n{'b' * 32}  {path}\n",
            path: "Name: six\nVersion: 1\n",
        },
    )
    assert inventory_of(tmp_path).packages[1] == Package(
        "six", "1", "", "six", kind="pypi", location=path, owner="python3-six"
    )


@pytest.mark.tool
def test_owners_on_this_machine_are_those_that_dpkg_names(tmp_path: Path) -> None:
    """Of each Python package in the system's folder, dpkg itself names the same owner."""
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir(parents=True)
    check(["cp", "-a", "/var/lib/dpkg", str(tmp_path / "var/lib/dpkg")])
    check(["cp", "-a", "/usr/lib/python3", str(tmp_path / "usr/lib/python3")])
    found = [item for item in inventory_of(tmp_path).packages if item.kind == "pypi"]
    assert found
    for item in found:
        answer = check(["dpkg-query", "--search", f"/{item.location}"]).stdout.decode()
        assert answer.partition(":")[0] == item.owner


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("var/lib/dpkg/info/a.list", True), ("var/lib/dpkg/info/a.postinst", False), ("etc/debian_version", True),
        ("var/lib/chisel/manifest.wall", True), ("usr/share/rpm/rpmdb.sqlite", True), ("usr/bin/bash", False),
        ("srv/x.egg/EGG-INFO/PKG-INFO", True), ("var/lib/rpm/Packages", True), ("usr/lib/apk/db/installed", True),
    ],
)  # fmt: skip
def test_what_is_copied_out_of_a_disk(path: str, wanted: bool) -> None:
    """Everything that a reader opens, and little else."""
    assert is_read(path, folder=False) is wanted


def test_what_dpkg_had_done_when_it_was_killed_is_there() -> None:
    """Its journal counts after the status: of a package that is in both, only the later version, or none."""
    reading = read_dpkg(
        MemoryFiles(
            {
                "var/lib/dpkg/status": "".join(stanza(name) for name in ("old", "removed", "same")).encode(),
                "var/lib/dpkg/updates/0000": stanza("old", version="1.5").encode(),
                "var/lib/dpkg/updates/0001": (stanza("old", version="2") + stanza("new")).encode(),
                "var/lib/dpkg/updates/0002": stanza("removed", "config-files").encode(),
                "var/lib/dpkg/updates/tmp.i": stanza("half").encode(),
            }
        )
    )
    assert sorted((item.name, item.version) for item in reading.packages) == [
        ("new", "1"),
        ("old", "2"),
        ("same", "1"),
    ]
    assert reading.problems == ()


@pytest.mark.parametrize("folder", ["srv", "srv\x01", "srv\u200b", os.fsdecode(b"srv\xff")])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a-1.dist-info/METADATA", f"Name: a\nVersion: 1\n\n{'x' * 2_000_000}"),
        ("node_modules/a/package.json", json.dumps({"name": "a", "version": "1", "more": "x" * 2_000_000})),
    ],
)
def test_long_descriptions_and_odd_paths_hide_no_package(tmp_path: Path, folder: str, path: str, text: str) -> None:
    """A package is listed however long its description is, and whatever bytes its path is made of."""
    write(tmp_path, {f"{folder}/{path}": text})
    inventory = inventory_of(tmp_path)
    assert [(item.name, item.version) for item in inventory.packages] == [("a", "1")]
    assert inventory.packages[0].location.isprintable()
    assert inventory.problems == ()


def test_a_description_that_is_too_long_to_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package.json is left out without a word."""
    monkeypatch.setattr(languages, "_MAX_JSON", 20)
    write(tmp_path, {f"node_modules/p{number:02}/package.json": "{" + " " * 30 for number in range(12)})
    problems = inventory_of(tmp_path).problems
    assert problems[0] == "node_modules/p11/package.json cannot be read: longer than 20 bytes"
    assert problems[-1] == "and 2 more files"
