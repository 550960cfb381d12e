"""Where each system's advisories stand, and whether they name source or binary packages: through whole scans."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.rpm.header import parse_header
from imagesmith.inspection.scanning.ecosystems import ecosystems
from imagesmith.inspection.scanning.scanner import ScanFailed
from testing.advisories import DEBIAN, RHEL, ROCKY, UBUNTU, advisory, found
from testing.inventories import rpm_header

ALMA = OsRelease("AlmaLinux", "9.4", "AlmaLinux 9.4 (Seafoam Ocelot)", "almalinux")
LEAP = OsRelease("openSUSE Leap", "15.6", "openSUSE Leap 15.6", "opensuse-leap")
TUMBLEWEED = OsRelease("openSUSE Tumbleweed", "20261101", "openSUSE Tumbleweed", "opensuse-tumbleweed")
SLES = OsRelease("SLES", "15.5", "SUSE Linux Enterprise Server 15 SP5", "sles")
SLES_16 = OsRelease("SLES", "16.0", "SUSE Linux Enterprise Server 16.0", "sles")
MICRO = OsRelease("SL-Micro", "6.0", "SUSE Linux Micro 6.0", "sl-micro")
MAGEIA = OsRelease("Mageia", "9", "Mageia 9", "mageia")
EULER = OsRelease("openEuler", "24.03", "openEuler 24.03 (LTS-SP1)", "openEuler")
AZURE = OsRelease("Microsoft Azure Linux", "3.0", "Microsoft Azure Linux 3.0", "azurelinux")
PHOTON = OsRelease("VMware Photon OS", "5.0", "VMware Photon OS/Linux", "photon")
ALPINE = OsRelease("Alpine Linux", "3.20.3", "Alpine Linux v3.20", "alpine")
WOLFI = OsRelease("Wolfi", "20230201", "Wolfi", "wolfi")
CHAINGUARD = OsRelease("Chainguard", "20230214", "Chainguard", "chainguard")
MINIMOS = OsRelease("MinimOS", "20241031", "MinimOS", "minimos")
ALPAQUITA = OsRelease("BellSoft Alpaquita Linux Stream", "23", "BellSoft Alpaquita Linux 23", "alpaquita")
BELLSOFT = OsRelease("BellSoft Hardened Containers", "25", "", "bellsoft-hardened-containers")
SID = OsRelease("Debian GNU/Linux", "", "Debian GNU/Linux forky/sid", "debian")
INTERIM = OsRelease("Ubuntu", "24.10", "Ubuntu 24.10", "ubuntu")
ECHO = OsRelease("Echo", "1", "Echo Linux", "echo")

RPM = Package("openssl-libs", "1:3.0.7-16.el9_2", "x86_64", "openssl", kind="rpm")
APK = Package("libcrypto3", "3.3.1-r3", "x86_64", "openssl", kind="apk")
DEB = Package("libssl3", "3.0.11-1~deb12u2", "amd64", "openssl")
FIXED = {"rpm": "1:3.0.7-17.el9_2", "apk": "3.3.2-r0", "deb": "3.0.11-1~deb12u3"}


@pytest.mark.parametrize(
    ("system", "package", "ecosystem", "by_source", "by_binary"),
    [
        (ROCKY, RPM, "Rocky Linux:9", True, False),
        (ROCKY, RPM, "Rocky Linux:9.3", True, False),
        (ROCKY, RPM, "Rocky Linux", True, False),
        (ALMA, RPM, "AlmaLinux:9", False, True),
        (ALMA, RPM, "AlmaLinux", False, True),
        (RHEL, RPM, "Red Hat:enterprise_linux:9::baseos", False, True),
        (RHEL, RPM, "Red Hat:enterprise_linux:9::appstream", False, True),
        (RHEL, RPM, "Red Hat:enterprise_linux:9::highavailability", False, True),
        (LEAP, RPM, "openSUSE:Leap 15.6", True, False),
        (TUMBLEWEED, RPM, "openSUSE:Tumbleweed", True, False),
        (SLES, RPM, "SUSE:Linux Enterprise Server 15 SP5", True, False),
        (SLES, RPM, "SUSE:Linux Enterprise Server 15 SP5-LTSS", True, False),
        (SLES, RPM, "SUSE:Linux Enterprise Module for Basesystem 15 SP5", True, False),
        (SLES_16, RPM, "SUSE:Linux Enterprise Server 16.0", True, False),
        (MICRO, RPM, "SUSE:Linux Micro 6.0", True, False),
        (MAGEIA, RPM, "Mageia:9", True, False),
        (EULER, RPM, "openEuler:24.03-LTS-SP1", True, False),
        (AZURE, RPM, "Azure Linux:3", True, False),
        (PHOTON, RPM, "Photon OS:5.0", True, True),
        (ALPINE, APK, "Alpine:v3.20", True, False),
        (WOLFI, APK, "Wolfi", True, True),
        (CHAINGUARD, APK, "Chainguard", True, True),
        (MINIMOS, APK, "MinimOS", True, True),
        (ALPAQUITA, APK, "Alpaquita:23", True, False),
        (BELLSOFT, APK, "BellSoft Hardened Containers:25", True, False),
        (DEBIAN, DEB, "Debian:12", True, False),
        (DEBIAN, DEB, "Debian", True, False),
        (SID, DEB, "Debian:sid", True, False),
        (UBUNTU, DEB, "Ubuntu:22.04:LTS", True, False),
        (INTERIM, DEB, "Ubuntu:24.10", True, False),
        (ECHO, DEB, "Echo", True, False),
    ],
)
def test_each_ecosystem_names_source_or_binary_packages(
    tmp_path: Path, system: OsRelease, package: Package, ecosystem: str, *, by_source: bool, by_binary: bool
) -> None:
    """A package that is too old is found by the name that its ecosystem uses, and by no other."""
    fixed = FIXED[package.kind]
    for name, expected in ((package.source, by_source), (package.name, by_binary)):
        wanted = [package.name] if expected else []
        assert found(tmp_path, system, (package,), advisory(ecosystem, name, fixed)) == wanted, name
        patched = Package(package.name, fixed, "", package.source, kind=package.kind)
        assert found(tmp_path, system, (patched,), advisory(ecosystem, name, fixed)) == []


@pytest.mark.parametrize(
    ("system", "package", "ecosystem"),
    [
        (ROCKY, RPM, "Rocky Linux:8"),
        (ROCKY, RPM, "AlmaLinux:9"),
        (RHEL, RPM, "Red Hat:rhel_eus:9.2::baseos"),
        (RHEL, RPM, "Red Hat:enterprise_linux:8::baseos"),
        (RHEL, RPM, "Red Hat:openshift:4.14::el9"),
        (LEAP, RPM, "openSUSE:Leap 15.5"),
        (LEAP, RPM, "openSUSE:Leap Micro 15.6"),
        (SLES, RPM, "SUSE:Linux Enterprise Server 15 SP4"),
        (SLES, RPM, "SUSE:Linux Enterprise Server 15 SP51"),
        (SLES, RPM, "SUSE:Linux Enterprise Module for Basesystem 15 SP4"),
        (EULER, RPM, "openEuler:24.03-LTS"),
        (ALPINE, APK, "Alpine:v3.2"),
        (ALPINE, APK, "Alpine:v3x20"),
        (WOLFI, APK, "Chainguard"),
        (UBUNTU, DEB, "Ubuntu:Pro:22.04:LTS"),
        (UBUNTU, DEB, "Ubuntu:20.04:LTS"),
        (DEBIAN, DEB, "Debian:1"),
    ],
)
def test_advisories_of_another_release_do_not_count(
    tmp_path: Path, system: OsRelease, package: Package, ecosystem: str
) -> None:
    """A scan that knows only those says so, and is no clean report."""
    with pytest.raises(ScanFailed, match="the imported advisories do not cover"):
        found(tmp_path, system, (package,), advisory(ecosystem, package.source, FIXED[package.kind]))


@pytest.mark.parametrize(
    ("version", "source_version", "fixed", "hit"),
    [
        ("1.2-3.el9", "5.32.1-480.el9", "5.32.1-481.el9", True),
        ("1.2-3.el9", "5.32.1-481.el9", "5.32.1-481.el9", False),
        ("4:1.2-3.el9", "4:5.32.1-480.el9", "4:5.32.1-481.el9", True),
        ("4:1.2-3.el9", "4:5.32.1-481.el9", "4:5.32.1-481.el9", False),
        ("9:1.2-3.el9", "", "9:1.2-3.el9", False),
    ],
)
def test_the_version_of_the_source_decides(
    tmp_path: Path, version: str, source_version: str, fixed: str, *, hit: bool
) -> None:
    """A binary package with a version of its own is as old as its source, epoch included."""
    package = Package("perl-lib", version, "x86_64", "perl", kind="rpm", source_version=source_version)
    names = found(tmp_path, ROCKY, (package,), advisory("Rocky Linux:9", "perl", fixed))
    assert names == (["perl-lib"] if hit else [])


@pytest.mark.parametrize(
    ("system", "ecosystem", "name", "fixed", "hit"),
    [
        (MAGEIA, "Mageia:9", "openssl", "3.0.7-17.el9_2", True),
        (MAGEIA, "Mageia:9", "openssl", "3.0.7-16.el9_2", False),
        (EULER, "openEuler:24.03-LTS-SP1", "openssl", "3.0.8-1.oe2403", True),
        (PHOTON, "Photon OS:5.0", "openssl-libs", "3.0.8-1.ph5", True),
        (ROCKY, "Rocky Linux:9", "openssl", "0:3.0.8-1.el9", False),
        (ALMA, "AlmaLinux:9", "openssl-libs", "3.0.8-1.el9", False),
        (RHEL, "Red Hat:enterprise_linux:9::baseos", "openssl-libs", "0:3.0.8-1.el9", False),
    ],
)
def test_records_made_of_names_of_source_packages_state_no_epoch(
    tmp_path: Path, system: OsRelease, ecosystem: str, name: str, fixed: str, *, hit: bool
) -> None:
    """Those are compared without; where records write epochs, one that is missing is 0 as for rpm."""
    assert bool(found(tmp_path, system, (RPM,), advisory(ecosystem, name, fixed))) is hit


def test_an_rpm_states_the_version_of_its_source_with_its_own_epoch() -> None:
    """The name of a source package has no epoch; a version equal to that of the binary is not repeated."""
    lib = {1000: "perl-lib", 1001: "1.2", 1002: "3.el9", 1044: "perl-5.32.1-480.el9.src.rpm"}
    same = {1000: "perl", 1001: "5.32.1", 1002: "480.el9", 1044: "perl-5.32.1-480.el9.nosrc.rpm"}
    read = [parse_header(rpm_header(texts, epoch=4)) for texts in (lib, same, {1000: "odd", 1001: "1"})]
    assert [(item.source, item.version, item.source_version) for item in read if item is not None] == [
        ("perl", "4:1.2-3.el9", "4:5.32.1-480.el9"),
        ("perl", "4:5.32.1-480.el9", ""),
        ("odd", "4:1", ""),
    ]


def test_a_source_means_all_of_its_binary_packages(tmp_path: Path) -> None:
    """One advisory about openssl finds every package built from it and nothing else."""
    packages = (
        RPM,
        Package("openssl", RPM.version, "x86_64", "openssl", kind="rpm"),
        Package("openssl-fips", "3.0.7-2.el9", "x86_64", "openssl-fips-provider", kind="rpm"),
    )
    assert found(tmp_path, ROCKY, packages, advisory("Rocky Linux:9", "openssl", FIXED["rpm"])) == [
        "openssl", "openssl-libs",
    ]  # fmt: skip


@pytest.mark.parametrize("id", ["amzn", "fedora", "ol", "centos", ""])
def test_systems_without_advisories_in_osv_have_no_ecosystem(id: str) -> None:
    """Their packages are told as not covered, which fails the scan."""
    assert ecosystems("rpm", OsRelease(id=id, version_id="9")) == ()


def test_what_a_person_is_told_to_import_is_a_name_of_osv() -> None:
    """The reason of a failed scan names ecosystems as OSV's exports do."""
    shown = [item.shown for system in (UBUNTU, SLES, RHEL) for item in ecosystems("rpm", system)]
    assert shown == [
        "SUSE:Linux Enterprise Server 15 SP5",
        "SUSE:Linux Enterprise Module for Basesystem 15 SP5",
        "Red Hat:enterprise_linux:9::baseos",
    ]
    assert [item.shown for item in ecosystems("deb", UBUNTU)] == ["Ubuntu:22.04:LTS"]
