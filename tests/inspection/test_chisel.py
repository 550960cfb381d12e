"""The manifest of a chiselled Ubuntu: what is read, what is a problem."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection import chisel
from imagesmith.inspection.chisel import CHISEL, read_chisel
from imagesmith.inspection.inventory import take_inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.scanner import ScanFailed
from imagesmith.processes import Cancellation
from testing.advisories import advisory, found
from testing.inventories import compressed, wall, write
from testing.memory_files import MemoryFiles

METADATA = "usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA"
ENTRIES = (
    {"jsonwall": "1.0", "schema": "1.0", "count": 5},
    {"kind": "content", "slice": "python3-six_all", "path": f"/{METADATA}"},
    {"kind": "package", "name": "libssl3t64", "version": "3.0.13-0ubuntu3.4", "sha256": "ab" * 32, "arch": "amd64"},
    {"kind": "package", "name": "python3-six", "version": "1.16.0-4", "sha256": "cd" * 32, "arch": "all"},
    {"kind": "path", "path": f"/{METADATA}", "mode": "0644", "slices": ["python3-six_all"], "size": 9},
    {"kind": "slice", "name": "libssl3t64_libs"},
)


def test_packages_of_a_manifest(tmp_path: Path) -> None:
    """Names, versions and architectures are read, and which package brought a file of Python."""
    system = 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nNAME="Ubuntu"\n'
    write(tmp_path, {"etc/os-release": system, METADATA: "Name: six\nVersion: 1.16.0\n"})
    (tmp_path / CHISEL).parent.mkdir(parents=True)
    (tmp_path / CHISEL).write_bytes(wall(*ENTRIES))
    with Root(tmp_path) as root:
        inventory = take_inventory(root, Cancellation())
    assert inventory.problems == ()
    assert inventory.packages == (
        Package("libssl3t64", "3.0.13-0ubuntu3.4", "amd64", ""),
        Package("python3-six", "1.16.0-4", "all", ""),
        Package("six", "1.16.0", "", "six", kind="pypi", location=METADATA, owner="python3-six"),
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is cut short"),
        (wall(*ENTRIES)[:40], "is cut short"),
        (b"junk", "cannot be decompressed"),
        (wall(*ENTRIES) + wall({"kind": "package", "name": "b", "version": "1"}), "has data after its end"),
        (wall(*ENTRIES)[:-3] + b"abc", "cannot be decompressed"),
        (compressed(b"no json\n" * 3), "3 entries of var/lib/chisel/manifest.wall cannot be read"),
        (wall({"kind": "package", "name": "a"}), "1 entry of var/lib/chisel/manifest.wall cannot be read"),
        (compressed(b"x" * 70_000), "a line of more than"),
        (compressed(b"\n" * 3_000_000), "contains more than 1000000 bytes"),
    ],
)
def test_what_could_not_be_read_of_a_manifest(monkeypatch: pytest.MonkeyPatch, data: bytes, problem: str) -> None:
    """Cut, damaged and endless manifests are problems that name the file."""
    monkeypatch.setattr(chisel, "MAX_FILE", 1_000_000)
    problems = read_chisel(MemoryFiles({CHISEL: data})).problems
    assert problem in "; ".join(problems) and CHISEL in problems[0]


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_a_manifest(data: bytes) -> None:
    """Whatever stands in the file, packed or not, reading ends without an error."""
    for text in (data, compressed(data)):
        assert isinstance(read_chisel(MemoryFiles({CHISEL: text})).packages, frozenset)


UBUNTU = OsRelease("Ubuntu", "24.04", "Ubuntu 24.04 LTS", "ubuntu", "debian")
CHISELLED = (
    Package("bash", "5.2.21-2ubuntu4", "amd64", ""),
    Package("libssl3t64", "3.0.13-0ubuntu3.4", "amd64", ""),
)


def test_a_package_with_the_name_of_its_source_is_found(tmp_path: Path) -> None:
    """The advisories of Ubuntu name sources: a package is looked up under its own name."""
    known = advisory("Ubuntu:24.04:LTS", "bash", "5.2.21-2ubuntu5")
    assert found(tmp_path, UBUNTU, CHISELLED, known) == ["bash"]


def test_finding_nothing_without_the_names_of_sources_is_no_clean_report(tmp_path: Path) -> None:
    """libssl3t64 is affected, but nothing in the image tells that it is openssl."""
    with pytest.raises(ScanFailed, match="does not name the sources of 2 packages"):
        found(tmp_path, UBUNTU, CHISELLED, advisory("Ubuntu:24.04:LTS", "openssl", "3.0.13-0ubuntu3.5"))
