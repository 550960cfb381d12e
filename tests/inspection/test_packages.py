"""Packages and operating system of an image's root: what is read, what is left out, what cannot break it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection import dpkg
from imagesmith.inspection.dpkg import read_dpkg
from imagesmith.inspection.files import Files, RootFiles
from imagesmith.inspection.os_release import read_os_release
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.processes import Cancellation, check
from testing.memory_files import MemoryFiles

STATUS = """\
Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib
Version: 1:1.2.13.dfsg-1
Description: compression library
 Package: not-a-field
 .
 Version: 0

Package: bash
Essential: yes
Status: hold ok installed
Architecture: amd64
Version: 5.2.15-2+b7

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: half
Status: install reinstreq half-installed
Architecture: amd64
Version: 1

Package: never
Status: purge ok not-installed
Architecture: amd64

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc (2.36-9)
Version: 2.36-9+deb12u9

Package: libc6
Status: install ok installed
Architecture: i386
Multi-Arch: same
Source: glibc
Version: 2.36-9+deb12u9
"""


def listed(files: Files) -> tuple[Package, ...]:
    """The packages of dpkg, sorted."""
    return tuple(sorted(read_dpkg(files).packages, key=lambda item: item.order))


def test_packages_that_are_there() -> None:
    """Packages that are removed or were never installed are left out; every architecture counts."""
    found = listed(MemoryFiles({"var/lib/dpkg/status": STATUS.encode()}))
    assert found == (
        Package("bash", "5.2.15-2+b7", "amd64", "bash"),
        Package("half", "1", "amd64", "half"),
        Package("libc6", "2.36-9+deb12u9", "amd64", "glibc", source_version="2.36-9"),
        Package("libc6", "2.36-9+deb12u9", "i386", "glibc"),
        Package("zlib1g", "1:1.2.13.dfsg-1", "amd64", "zlib"),
    )
    assert found[0].to_json() == {
        "name": "bash", "version": "5.2.15-2+b7", "architecture": "amd64", "source": "bash", "kind": "deb",
        "source_version": "", "location": "", "owner": "", "module": "", "license": "", "supplier": "",
    }  # fmt: skip


def test_status_folder_of_images_without_dpkg() -> None:
    """A file of status.d is an installed package even without a Status; checksum files are not read."""
    root = {
        "var/lib/dpkg/status.d/tzdata": b"Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
        "var/lib/dpkg/status.d/tzdata.md5sums": b"Package: no\n",
        "var/lib/dpkg/status.d/old": b"Package: old\nVersion: 1\nStatus: deinstall ok config-files\n",
    }
    assert listed(MemoryFiles(root)) == (Package("tzdata", "2024a", "all", "tzdata"),)


def test_a_root_without_dpkg_has_no_packages() -> None:
    """Nothing there is an empty list."""
    assert listed(MemoryFiles({})) == ()
    assert read_os_release(MemoryFiles({})) == OsRelease()


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless field makes no package, an endless file and an endless list are cut; each is said."""
    monkeypatch.setattr(dpkg, "MAX_PACKAGES", 5)
    stanza = "Package: p{}\nStatus: install ok installed\nVersion: 1\n\n"
    long = stanza.format("x" * 2000)
    many = "".join(stanza.format(number) for number in range(9))
    found = read_dpkg(MemoryFiles({"var/lib/dpkg/status": (long + many).encode()}))
    assert len(found.packages) == 5
    assert found.problems == (
        "var/lib/dpkg/status has more than 5 packages",
        "1 entry of var/lib/dpkg/status cannot be read",
    )
    monkeypatch.setattr(dpkg, "MAX_FILE", len(stanza) * 2)
    found = read_dpkg(MemoryFiles({"var/lib/dpkg/status": many.encode()}))
    assert 1 <= len(found.packages) <= 3
    assert found.problems == (f"var/lib/dpkg/status is longer than {len(stanza) * 2} bytes",)


@pytest.mark.tool
def test_the_packages_of_this_machine_are_those_dpkg_names() -> None:
    """Through a safely opened root, the answer equals that of dpkg-query itself."""
    form = "${db:Status-Status}|${Package}|${Version}|${Architecture}|${source:Package}\n"
    answer = check(["dpkg-query", "--show", "--showformat", form], limit=16 * 1024 * 1024).stdout.decode()
    rows = [line.split("|")[1:] for line in answer.splitlines() if line.startswith("installed|")]
    with Root(Path("/")) as root:
        found = listed(RootFiles(root, Cancellation()))
    assert sorted([item.name, item.version, item.architecture, item.source] for item in found) == sorted(rows)


def test_what_cannot_be_read_is_told_from_what_is_absent(tmp_path: Path) -> None:
    """Loops of links and folders in a file's place give no packages, and a problem that names them."""
    (tmp_path / "etc" / "os-release").mkdir(parents=True)
    (tmp_path / "var" / "lib" / "dpkg").mkdir(parents=True)
    (tmp_path / "var" / "lib" / "dpkg" / "status").symlink_to("status")
    (tmp_path / "var" / "lib" / "dpkg" / "status.d").symlink_to("status.d")
    with Root(tmp_path) as root:
        files = RootFiles(root, Cancellation())
        found = read_dpkg(files)
        assert found.packages == frozenset()
        assert found.problems == ("var/lib/dpkg/status cannot be opened: Too many levels of symbolic links",)
        assert read_os_release(files) == OsRelease()


@given(st.binary(), st.binary(), st.lists(st.text(max_size=8), max_size=4))
def test_any_bytes_give_a_result(status: bytes, part: bytes, names: list[str]) -> None:
    """Whatever the files hold and are called, reading ends without an error."""
    files = MemoryFiles(lambda path: part if "status.d/" in path else status, names)
    assert isinstance(listed(files), tuple)
    assert isinstance(read_os_release(files).os_version, str)


_LINES = st.sampled_from(
    [b"Package: a", b"Package:", b"Status: install ok installed", b"Status:", b"Version: \xff\x85", b"", b" x",
     b":", b"NAME=\"a", b"ID='", b"NAME=a\\", b'VERSION_ID="\\\\"', b"\x00", b"\r"]
)  # fmt: skip


@given(st.lists(_LINES | st.binary(max_size=8), max_size=20))
def test_nearly_right_files_give_a_result(lines: list[bytes]) -> None:
    """Files made of right and broken lines are read without an error, each package with a name."""
    data = b"\n".join(lines)
    files = MemoryFiles(lambda _: data, ["one"])
    found = listed(files)
    assert all(item.name and item.source for item in found)
    assert isinstance(read_os_release(files).os_version, str)


_WORD = st.text(
    st.characters(min_codepoint=33, exclude_categories=["Cs", "Z", "Cc"], exclude_characters="("), min_size=1
)
_PACKAGES = st.lists(st.builds(Package, _WORD, _WORD, _WORD, _WORD), max_size=8, unique=True)


@given(_PACKAGES, st.sampled_from(["", " (1.0)"]), st.sampled_from(["\n", "\n \n", "\n\n\n"]))
def test_generated_status_files_round_trip(expected: list[Package], suffix: str, gap: str) -> None:
    """What is written as stanzas is read back, sorted, whatever else stands between."""
    noise = ["Package: away\nStatus: deinstall ok config-files\nVersion: 1\n"]
    stanzas = [
        f"Package: {item.name}\nStatus: install ok installed\nPriority: x\nArchitecture: {item.architecture}\n"
        f"Source: {item.source}{suffix}\nVersion: {item.version}\nDescription: a\n .\n Status: no\n"
        for item in expected
    ]
    data = gap.join([*stanzas, *noise]).encode()
    found = listed(MemoryFiles({"var/lib/dpkg/status": data}))
    assert {(item.name, item.version, item.architecture, item.source) for item in found} == {
        (item.name, item.version, item.architecture, item.source) for item in expected
    }
    assert [item.name for item in found] == sorted(item.name for item in expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('PRETTY_NAME="Debian 12 (x)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n', "Debian 12"),
        ('NAME="Amazon Linux"\nVERSION="2023"\nID="amzn"\nVERSION_ID="2023"\n', "Amazon Linux 2023"),
        ('NAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\n', "Ubuntu 22.04"),
        ('NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\n', "Alpine 3.20"),
        ('NAME="Red Hat Enterprise Linux"\nID="rhel"\nVERSION_ID="9.4"\n', "RHEL 9.4"),
        ("NAME='Rocky Linux'\nID='rocky'\nVERSION_ID='9.3'\r\n", "Rocky 9.3"),
        ("# comment\nID=debian\nVERSION_ID=13\nbroken line\n", "Debian 13"),
        ('NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux trixie/sid"\nID=debian\n', "Debian"),
        ('PRETTY_NAME="Something"\n', "Something"),
        ("", ""),
    ],
)  # fmt: skip
def test_os_version_is_the_short_form(text: str, expected: str) -> None:
    """Each distribution's file gives the name and version that the API shows."""
    assert read_os_release(MemoryFiles({"etc/os-release": text.encode()})).os_version == expected


def test_os_release_falls_back_to_usr_lib() -> None:
    """Without the file in etc the one in usr/lib counts; with both, etc does."""
    root = {"usr/lib/os-release": b"ID=debian\nVERSION_ID=12\n"}
    assert read_os_release(MemoryFiles(root)).os_version == "Debian 12"
    root["etc/os-release"] = b"ID=alpine\nVERSION_ID=3.20.1\n"
    assert read_os_release(MemoryFiles(root)).os_version == "Alpine 3.20"


def test_os_release_quoting_is_that_of_a_shell() -> None:
    """Escapes in double quotes, single quotes and bare words are undone; the rest of a line is no value."""
    text = 'NAME="a \\"b\\" \\$c \\\\ \\n"\nID=\'x"y\'\nVERSION_ID=1\\ 2"3" tail\nPRETTY_NAME="open\n'
    assert read_os_release(MemoryFiles({"etc/os-release": text.encode()})) == OsRelease(
        name='a "b" $c \\ \\n', id='x"y', version_id="1 23", pretty=""
    )


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), max_size=40))
def test_shell_quoted_values_round_trip(value: str) -> None:
    """A value quoted for a shell is read back as it was."""
    text = f"NAME={shlex.quote(value)}\n"
    assert read_os_release(MemoryFiles({"etc/os-release": text.encode()})).name == value
