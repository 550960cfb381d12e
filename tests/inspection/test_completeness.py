"""An inventory that cannot be believed says so: known systems without packages, damaged and foreign databases."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection import files
from imagesmith.inspection.inventory import Inventory, take_inventory
from imagesmith.processes import Cancellation, Cancelled
from testing.inventories import APK, BASH, rpm_database, write

DEBIAN = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
STANZA = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n"


def inventory_of(folder: Path) -> Inventory:
    with Root(folder) as root:
        return take_inventory(root, Cancellation())


def test_an_image_of_one_program_has_no_packages_and_no_problem(tmp_path: Path) -> None:
    """Nothing of a distribution is there: certificates, zones and users are no sign of one."""
    write(tmp_path, {"server": "", "etc/passwd": "", "etc/ssl/certs/ca.crt": "", "usr/share/zoneinfo/UTC": ""})
    for folder in ("proc", "sys", "dev", "tmp", "var/lib", "etc/apt"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert inventory_of(tmp_path) == Inventory(inventory_of(tmp_path).system, ())


@pytest.mark.parametrize(
    ("root", "problem"),
    [
        ({"etc/os-release": DEBIAN}, "was found of Debian GNU/Linux 12 (bookworm): there is no database"),
        ({"usr/lib/os-release": DEBIAN}, "no deb package was found of Debian GNU/Linux 12"),
        ({"etc/os-release": DEBIAN, "var/lib/dpkg/status": ""}, "database of dpkg is missing, empty or damaged"),
        ({"etc/os-release": DEBIAN, "var/lib/dpkg/available": ""}, "the database of dpkg is missing"),
        ({"etc/os-release": DEBIAN, "lib/apk/db/installed": "P:a\nV:1\n\n"}, "no deb package was found"),
        ({"etc/os-release": "ID=pop\nID_LIKE='ubuntu debian'\n"}, "no deb package was found"),
        ({"etc/debian_version": "12.5\n"}, "no deb package was found of a system that has deb"),
        ({"etc/os-release": 'ID="rhel"\nVERSION_ID="9"\n'}, "no rpm package was found of RHEL 9"),
        ({"etc/os-release": "ID=sles\n", "var/lib/rpm/alternatives": ""}, "the database of rpm is missing"),
        ({"etc/redhat-release": "CentOS release 6\n"}, "no rpm package was found"),
        ({"etc/fedora-release": "Fedora release 42\n"}, "no rpm package was found"),
        ({"etc/oracle-release": "Oracle Linux Server release 8.9\n"}, "no rpm package was found"),
        ({"etc/os-release": "ID=alpine\n", "etc/apk/world": "musl\n"}, "the database of apk is missing"),
        ({"etc/os-release": "ID=wolfi\n"}, "no apk package was found"),
        ({"etc/os-release": "ID=arch\n", "var/lib/pacman/local/ALPM_DB_VERSION": "9\n"}, "of pacman cannot"),
        ({"var/lib/pacman/local/ALPM_DB_VERSION": "9\n"}, "packages of pacman cannot be read"),
        ({"etc/os-release": "ID=gentoo\n", "var/db/pkg/sys-libs/zlib-1.3/PF": "zlib-1.3\n"}, "of Portage cannot"),
        ({"nix/store/abc-hello-2.12/bin/hello": ""}, "the packages of Nix cannot be read"),
        ({"etc/os-release": "ID=nixos\n", "nix/store/x/y": ""}, "the packages of Nix cannot be read"),
        ({"etc/os-release": "ID=void\n", "var/db/xbps/pkgdb": ""}, "the packages of XBPS cannot be read"),
        ({"etc/os-release": "ID=flatcar\n"}, "there is no database of dpkg, rpm, apk or chisel"),
        ({"var/lib/dpkg/status": STANZA[:20]}, "1 entry of var/lib/dpkg/status cannot be read"),
        ({"var/lib/rpm/Packages": "junk"}, "var/lib/rpm/Packages is cut short"),
        ({"var/lib/rpm/Packages": "junk" * 1000}, "var/lib/rpm/Packages is not a hash database of Berkeley DB"),
        ({"usr/lib/sysimage/rpm/Packages.db": "junk" * 99}, "Packages.db is not an ndb database of rpm"),
        ({"var/lib/rpm/rpmdb.sqlite": "junk" * 999}, "sqlite cannot be read: file is not a database"),
        ({"var/lib/chisel/manifest.wall": "junk"}, "var/lib/chisel/manifest.wall cannot be decompressed"),
        ({"var/lib/dpkg/status": STANZA, "var/lib/dpkg/info/b:amd64.list": "/."}, "has no entry for 1 packages"),
        ({"var/lib/dpkg/info/b.list": "/."}, "has no entry for 1 packages with files in var/lib/dpkg/info"),
        ({"var/lib/dpkg/status.d/b.md5sums": "0  usr/b\n"}, "has the files of 1 packages without an entry"),
        ({"var/lib/dpkg/status": STANZA + "Package: b\nStatus: install ok installed\n"}, "1 entry of var/lib"),
        ({"var/lib/dpkg/status": STANZA + "Package: b\nStatus: ok junk\nVersion: 1\n"}, "1 entry of var/lib"),
        ({"lib/apk/db/installed": "P:a\nV:1\n\nP:b\n"}, "1 entry of lib/apk/db/installed cannot be read"),
        ({"lib/apk/db/installed": "P:a\nV:1\n\n", "etc/apk/world": "a b=1-r0 c\n"}, "2 names of etc/apk/world"),
        ({"usr/lib/apk/db/installed": "\0\1\2" * 99}, "1 entry of usr/lib/apk/db/installed cannot be read"),
        ({"var/lib/rpmmanifest/container-manifest-2": "bash\t5\n"}, "1 entry of var/lib/rpmmanifest/container-man"),
    ],
)  # fmt: skip
def test_what_could_not_be_read_is_a_problem(tmp_path: Path, root: dict[str, str], problem: str) -> None:
    """Each such root names what is missing, and the words for the log say it too."""
    write(tmp_path, root)
    found = inventory_of(tmp_path)
    assert problem in "; ".join(found.problems)
    assert f"warning: {found.problems[0]}" in found.summary()


def test_names_that_apk_keeps_by_other_packages_are_there(tmp_path: Path) -> None:
    """Names with versions and repositories, provided ones, and those that must not be installed."""
    database = "P:busybox\nV:1.36-r0\np:cmd:sh=1.36-r0 /bin/sh\n\nP:python3\nV:3.12-r0\np:python=3.12\n\n"
    world = "busybox~=1.36 cmd:sh python>3 python3@edge\n!curl\n\n"
    write(tmp_path, {"etc/os-release": "ID=alpine\n", "lib/apk/db/installed": database, "etc/apk/world": world})
    assert inventory_of(tmp_path).problems == ()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def _host(path: Path) -> None:
    path.symlink_to("/../../../../../var/lib/dpkg/status")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [_pipe, _loop, _dangling, _host, _folder])
@pytest.mark.parametrize(
    "database",
    ["var/lib/dpkg/status", "lib/apk/db/installed", "var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages",
     "usr/lib/sysimage/rpm/Packages.db", "var/lib/chisel/manifest.wall"],
)  # fmt: skip
def test_a_database_that_is_no_file_is_a_problem(
    tmp_path: Path, database: str, spoil: Callable[[Path], None]
) -> None:
    """Pipes, loops, links that lead nowhere or out of the root and folders are no clean system."""
    (tmp_path / database).parent.mkdir(parents=True)
    spoil(tmp_path / database)
    found = inventory_of(tmp_path)
    assert (found.packages, len(found.problems)) == ((), 1)


def test_a_folder_of_rpm_that_is_a_link_is_read_once(tmp_path: Path) -> None:
    """SUSE and Fedora keep the database in /usr and a link in /var."""
    rpm_database(tmp_path / "usr/lib/sysimage/rpm/rpmdb.sqlite", [BASH])
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    found = inventory_of(tmp_path)
    assert ([item.name for item in found.packages], found.problems) == (["bash"], ())


def test_a_merged_apk_database_is_read_once(tmp_path: Path) -> None:
    """With lib a link to usr/lib both places are one file."""
    write(tmp_path, {"usr/lib/apk/db/installed": APK.replace("V:broken\n\n", "")})
    (tmp_path / "lib").symlink_to("usr/lib")
    found = inventory_of(tmp_path)
    assert ([item.name for item in found.packages], found.problems) == (["libcrypto3", "musl"], ())


def test_a_second_package_manager_beside_a_full_one_is_no_problem(tmp_path: Path) -> None:
    """Debian with the program rpm has an empty rpm database, and with Nix a store."""
    rpm_database(tmp_path / "var/lib/rpm/rpmdb.sqlite", [])
    write(tmp_path, {"etc/os-release": DEBIAN, "var/lib/dpkg/status": STANZA, "nix/store/x/y": ""})
    assert inventory_of(tmp_path).problems == ()


def test_a_database_over_the_limit_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read of it, and its size is told."""
    rpm_database(tmp_path / "var/lib/rpm/rpmdb.sqlite", [BASH])
    monkeypatch.setattr(files, "MAX_DATABASE", 4096)
    (problem,) = inventory_of(tmp_path).problems
    assert "var/lib/rpm/rpmdb.sqlite has" in problem and "at most 4096 are read" in problem


def test_an_inventory_stops_when_it_is_cancelled(tmp_path: Path) -> None:
    """Cancelled is raised out of any reader."""
    write(tmp_path, {"var/lib/dpkg/status": STANZA})
    cancellation = Cancellation()
    cancellation.cancel()
    with Root(tmp_path) as root, pytest.raises(Cancelled):
        take_inventory(root, cancellation)
