"""A layer that is written and unpacked again is the same tree, over the same layers below."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesmith.layers.unpacker import unpack_layer
from imagesmith.layers.writer import WriterSettings, write_layer
from testing.trees import Tree, overlay, tree_of

pytestmark = pytest.mark.tool

NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"c", b"a-b", b"\xff\xfe", "é".encode(), b"new\nline", b"x" * 250, b"sp ace="]),
    st.binary(min_size=1, max_size=12).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
    ),
).filter(lambda name: not name.startswith(b".wh."))
SLOTS = st.lists(st.sampled_from([b"a", b"b", b"c", "é".encode(), b"l" * 120]), min_size=1, max_size=3).map(
    b"/".join
)
KINDS = st.sampled_from(
    [
        "file",
        "folder",
        "link",
        "fifo",
        "hard link",
        "remove",
        "device",
        "capability",
        "time",
        "mode",
        "user",
        "sparse",
    ]
)
STEPS = st.lists(st.tuples(KINDS, SLOTS, SLOTS, st.integers(0, 2**31)), max_size=14)
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
ACL = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000400ffffffff")


def written(upper: Path, *lowers: Path, latest: int | None = None) -> bytes:
    out = io.BytesIO()
    write_layer(upper, out.write, lowers=lowers, settings=WriterSettings(latest=latest))
    return out.getvalue()


def change(root: Path, kind: str, first: bytes, second: bytes, number: int) -> None:
    """One change of a tree, as a program would make it; impossible ones change nothing."""
    top = os.fsencode(root)
    place, other = os.path.join(top, first), os.path.join(top, second)
    with contextlib.suppress(OSError):
        if kind in ("file", "folder", "link", "fifo", "device", "sparse"):
            Path(os.fsdecode(place)).parent.mkdir(parents=True, exist_ok=True)
        # a pipe would wait for a reader, and a device would take the bytes
        if kind in ("file", "sparse") and os.path.lexists(place) and not Path(os.fsdecode(place)).is_file():
            return
        if kind == "file":
            Path(os.fsdecode(place)).write_bytes(str(number).encode() * (number % 900))
        elif kind == "folder":
            os.mkdir(place)
        elif kind == "link":
            os.symlink(second, place)
        elif kind == "fifo":
            os.mkfifo(place)
        elif kind == "device":
            os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, (3, 5, 7)[number % 3]))
        elif kind == "hard link":
            os.link(place, other, follow_symlinks=False)
        elif kind == "remove":
            shutil.rmtree(place) if Path(os.fsdecode(place)).is_dir() else os.unlink(place)
        elif kind == "capability":
            os.setxattr(place, "security.capability", CAPABILITY, follow_symlinks=False)
        elif kind == "time":
            os.utime(place, ns=(number * 10**9, number * 10**9), follow_symlinks=False)
        elif kind == "mode":
            os.chown(place, number % 70000, number % 3000, follow_symlinks=False)
            if not Path(os.fsdecode(place)).is_symlink():
                os.chmod(place, number & 0o7777)
                os.setxattr(place, "system.posix_acl_access", ACL)
        elif kind == "user":
            os.setxattr(place, f"user.{number % 5}", bytes(number % 7), follow_symlinks=False)
        elif kind == "sparse":
            with open(place, "wb") as file:
                file.seek(number % 400_000)
                file.write(b"end")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(below=STEPS, above=STEPS)
def test_a_layer_over_another_shows_the_same_tree_after_a_round_trip(
    below: list[tuple[str, bytes, bytes, int]], above: list[tuple[str, bytes, bytes, int]]
) -> None:
    """Removed, replaced, linked and merged as in the container that the layer was made from, and the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        lower, upper, copy = work / "lower", work / "upper", work / "copy"
        for place in (lower, upper, copy, work / "a", work / "b"):
            place.mkdir()
        for step in below:
            change(lower, *step)
        with overlay(work / "a", [lower], upper=upper) as merged:
            for step in above:
                change(merged, *step)
        with overlay(work / "a", [upper, lower]) as merged:
            expected: Tree = tree_of(merged)
        archive = written(upper, lower)
        assert written(upper, lower) == archive
        unpack_layer(io.BytesIO(archive), copy, lowers=[lower])
        with overlay(work / "b", [copy, lower]) as merged:
            assert tree_of(merged) == expected
        assert written(copy, lower) == archive, "the unpacked layer makes the same archive"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=8), content=st.binary(max_size=2000))
def test_any_name_comes_back(names: list[list[bytes]], content: bytes) -> None:
    """Bytes that are no text, new lines, equals signs, names and paths of any length."""
    with tempfile.TemporaryDirectory() as folder:
        upper, copy = Path(folder) / "upper", Path(folder) / "copy"
        upper.mkdir()
        copy.mkdir()
        for components in names:
            place = Path(os.fsdecode(b"/".join([os.fsencode(upper), *components])))
            with contextlib.suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
        unpack_layer(io.BytesIO(written(upper)), copy)
        assert tree_of(copy) == tree_of(upper)


def test_times_are_clamped_and_settled_in_the_folder(tmp_path: Path) -> None:
    """Later times become the build's, earlier ones stay; the folder itself then equals the layer."""
    upper, copy = tmp_path / "upper", tmp_path / "copy"
    (upper / "folder").mkdir(parents=True)
    copy.mkdir()
    (upper / "folder" / "new").write_text("x")
    (upper / "old").write_text("x")
    (upper / "link").symlink_to("old")
    os.utime(upper / "old", ns=(5_000_000_001, 5_000_000_001))
    out = io.BytesIO()
    write_layer(upper, out.write, settings=WriterSettings(latest=1000, settle=True))
    assert (upper / "old").stat().st_mtime_ns == 5 * 10**9
    for name in ("folder", "folder/new", "link"):
        assert os.lstat(upper / name).st_mtime_ns == 1000 * 10**9
    unpack_layer(io.BytesIO(out.getvalue()), copy)
    assert tree_of(copy) == tree_of(upper)
