"""What reproducible layers leave out, and what stays although it looks alike."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from imagesmith.layers.dropped_files import is_dropped, is_stale_bytecode, remove_dropped, table
from imagesmith.layers.writer import WriterSettings, write_layer

LATEST = 1_700_000_000


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        ("etc/machine-id", True),
        ("srv/etc/machine-id", False),
        ("etc/machine-id.old", False),
        ("var/cache/ldconfig/aux-cache", True),
        ("var/cache/apt/pkgcache.bin", True),
        ("var/cache/apt/archives/bash.deb", False),
        ("var/lib/apt/lists/mirror_InRelease", False),
        ("var/log/dpkg.log", True),
        ("var/log/apt/term.log", True),
        ("var/log/apt/eipp.log.xz", True),
        ("var/log/README", False),
        ("var/log/a\nb.log", True),
        ("home/app/var/log/own.log", False),
        ("var/log/wtmp", True),
        ("var/log/xtmp", False),
        ("root/.cache/pip/http-v2/a/b", True),
        ("root/.cache/pip", False),
        ("root/.cache/piper/a", False),
        ("var/cache/man/de/index.db", True),
        ("usr/share/man/index.db", False),
        ("", False),
    ],
)
def test_paths_are_left_out_as_the_table_says(path: str, dropped: bool) -> None:
    """A pattern is the whole path; a star ends at a slash."""
    assert is_dropped(path.encode()) is dropped


@pytest.mark.parametrize(
    ("header", "stale"),
    [
        (b"\xa7\r\r\n" + struct.pack("<III", 0, LATEST + 1, 5), True),
        (b"\xa7\r\r\n" + struct.pack("<III", 0, LATEST, 5), False),
        (b"\xa7\r\r\n" + struct.pack("<III", 1, LATEST + 1, 5), False),
        (b"\xa7\r\r\n" + struct.pack("<III", 3, LATEST + 1, 5), False),
        (b"\xa7\r\r\n" + struct.pack("<II", 0, LATEST + 1), False),
        (b"text that ends in .pyc", False),
        (b"", False),
    ],
)
def test_bytecode_is_stale_if_its_source_is_earlier_in_the_layer(header: bytes, stale: bool) -> None:
    """Bytecode that is checked by a hash, and what is no bytecode, stays."""
    assert is_stale_bytecode(header, LATEST) is stale


def test_only_files_with_content_are_left_out(tmp_path: Path) -> None:
    """Folders, links, pipes and empty files stay, a link is not followed, and the folder equals the archive."""
    root = tmp_path / "root"
    outside = tmp_path / "outside.log"
    outside.write_text("not ours")
    for name in ("var/log/apt", "var/log/folder.log", "srv/__pycache__", "etc"):
        (root / name).mkdir(parents=True)
    (root / "var/log/full.log").write_text("now")
    (root / "var/log/empty.log").touch()
    (root / "var/log/link.log").symlink_to(outside)
    os.mkfifo(root / "var/log/pipe.log")
    (root / "etc/machine-id").write_text("1")
    os.link(root / "etc/machine-id", root / "etc/same")
    (root / "srv/__pycache__/old.pyc").write_bytes(b"\xa7\r\r\n" + struct.pack("<III", 0, LATEST + 1, 5))
    written = write_layer(root, lambda _: None, settings=WriterSettings(latest=LATEST, drops=True, settle=True))
    expected = ("etc/machine-id", "srv/__pycache__/old.pyc", "var/log/full.log")
    assert written.dropped == tuple(f"'/{path}'" for path in expected)
    assert [path for path in expected if (root / path).exists()] == []
    kept = ("etc/same", "var/log/empty.log", "var/log/link.log", "var/log/pipe.log", "var/log/folder.log")
    assert [name for name in kept if not os.path.lexists(root / name)] == []
    assert outside.read_text() == "not ours"
    assert write_layer(root, lambda _: None, settings=WriterSettings(latest=LATEST, drops=True)).dropped == ()


def test_a_whole_root_is_cleaned_in_the_same_way(tmp_path: Path) -> None:
    """As the root of a disk, which is no layer."""
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/a.log").write_text("now")
    (tmp_path / "var/log/b.log").touch()
    (tmp_path / "bin").symlink_to("/bin")
    assert list(remove_dropped(tmp_path, LATEST)) == ["'/var/log/a.log'"]
    assert not (tmp_path / "var/log/a.log").exists() and (tmp_path / "var/log/b.log").exists()


def test_every_row_says_why() -> None:
    """The table is printed and signed: no row without a reason, none twice."""
    rows = list(table())
    assert all(row.why and row.pattern and not row.pattern.startswith("/") for row in rows)
    assert len({row.pattern for row in rows}) == len(rows)
