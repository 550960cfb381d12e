"""Real packages and real databases of rpm: built by rpmbuild, written by rpm itself and by Berkeley DB."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from imagesmith.processes import check

SPEC = """\
Name: alpha
Epoch: 2
Version: 1.2.3
Release: 4.el9
Summary: A package of this test
License: MIT
BuildArch: noarch
%description
It brings a Python package.
%package libs
Summary: The other half
Version: 7.8
Release: 9.el9
%description libs
It has a version of its own, and more files than fit into one page of a database.
%install
mkdir -p %{buildroot}/usr/lib/python3.9/site-packages/six-1.16.0.dist-info %{buildroot}/usr/share/alpha
printf 'Metadata-Version: 2.1\\nName: six\\nVersion: 1.16.0\\n' \\
    > %{buildroot}/usr/lib/python3.9/site-packages/six-1.16.0.dist-info/METADATA
for number in $(seq 500); do : > %{buildroot}/usr/share/alpha/a-file-with-a-long-name-$number; done
%files
/usr/lib/python3.9/site-packages/six-1.16.0.dist-info
%files libs
/usr/share/alpha
"""

QUERY = "%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{ARCH}\\n"
EXPECTED = {("alpha", "2:1.2.3-4.el9", "noarch"), ("alpha-libs", "2:7.8-9.el9", "noarch")}


def build_packages(folder: Path) -> list[Path]:
    """The files of two binary packages."""
    spec = folder / "alpha.spec"
    spec.write_text(SPEC)
    check(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {folder}", str(spec)])
    return sorted(folder.glob("RPMS/*/*.rpm"))


def install(packages: Sequence[Path], root: Path, backend: str) -> Path:
    """Register packages in a root with the rpm of rpm-inspector-rpm, which writes ndb as well; gives the folder."""
    (root / "var/lib/rpm").mkdir(parents=True)
    words = ("--install", "--nosignature", "--ignorearch", "--ignoreos", *map(str, packages))
    check([*_writer(root, backend), *words])
    return root / "var/lib/rpm"


def remove(name: str, root: Path) -> None:
    """Take a package out of an ndb database."""
    check([*_writer(root, "ndb"), "--erase", name])


def _writer(root: Path, backend: str) -> list[str]:
    found = importlib.util.find_spec("rpm_inspector_rpm")
    assert found is not None and found.origin is not None
    programs = Path(found.origin).parent / "bin"
    return [
        str(programs / "rpm"), f"--rcfile={programs / 'rpmrc'}", "--define", f"_db_backend {backend}",
        "--define", "_rpmlock_path /var/lib/rpm/.rpm.lock", "--root", str(root), "--dbpath", "/var/lib/rpm",
        "--justdb", "--nodeps",
    ]  # fmt: skip


def headers_of(database: Path) -> list[bytes]:
    """The headers in rpm's SQLite database."""
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute("SELECT blob FROM Packages ORDER BY hnum")]


def berkeley_database(headers: Sequence[bytes], path: Path, *, page_size: int = 4096, order: str = "<") -> None:
    """Packages as rpm keeps it in Berkeley DB, written by Berkeley DB's own program."""
    rows = [(struct.pack(f"{order}I", 0), struct.pack(f"{order}I", len(headers)))]
    rows += [(struct.pack(f"{order}I", number), header) for number, header in enumerate(headers, 1)]
    head = ["VERSION=3", "format=bytevalue", "type=hash", f"db_pagesize={page_size}"]
    head += [f"db_lorder={1234 if order == '<' else 4321}", "HEADER=END"]
    lines = [*head, *(f" {item.hex()}" for row in rows for item in row), "DATA=END", ""]
    dump = path.with_name("dump.txt")
    dump.write_text("\n".join(lines))
    check(["db5.3_load", "-f", str(dump), str(path)])
    dump.unlink()


def asked(folder: Path, backend: str) -> set[tuple[str, str, str]]:
    """What Debian's rpm reads in a folder."""
    copy = folder.with_name("asked")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    answer = check(["rpm", "--dbpath", str(copy), "--define", f"_db_backend {backend}", "-qa", "--qf", QUERY])
    rows = [line.split(" ") for line in answer.stdout.decode().splitlines()]
    return {(name, version, architecture) for name, version, architecture in rows}
