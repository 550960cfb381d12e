"""What a hostile layer may not do: leave its folder, hang, or cost more than it is allowed."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.layers.compression import CountedFile, Decompressed
from imagesmith.layers.entries import EntryKind, LayerEntry, LayerError
from imagesmith.layers.overlay_form import is_opaque
from imagesmith.layers.tar_headers import END, header, padding
from imagesmith.layers.unpacker import UnpackLimits, unpack_layer

FILE, LINK, SYMLINK, FOLDER = EntryKind.FILE, EntryKind.HARD_LINK, EntryKind.SYMLINK, EntryKind.FOLDER
Make = Callable[..., bytes]


def member(
    kind: EntryKind, path: bytes, content: bytes = b"", *, link: bytes = b"", mode: int = 0o644, **rest: object
) -> bytes:
    entry = LayerEntry(kind, path, mode, size=len(content), link=link, **rest)  # type: ignore[arg-type]
    return header(entry) + content + padding(len(content))


def raw(name: bytes, content: bytes = b"x", flag: bytes = b"0", link: bytes = b"") -> bytes:
    """A member with a name that our own writer would refuse."""
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type, info.size, info.linkname = flag, len(content), os.fsdecode(link)
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape") + content + padding(len(content))


def unpacked(root: Path, archive: bytes, *lowers: Path, **options: object) -> Path:
    target = root / "image" / "layer"
    target.mkdir(parents=True)
    unpack_layer(io.BytesIO(archive + END), target, lowers=lowers, **options)  # type: ignore[arg-type]
    return target


def outside(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")} - {"image", "image/layer"}


REFUSED = {
    "a name with dots": (raw(b"../escape"), "could lead out"),
    "dots inside a name": (raw(b"a/../../escape"), "could lead out"),
    "dots at the end": (raw(b"a/.."), "could lead out"),
    "dots after slashes": (raw(b"//..//escape"), "could lead out"),
    "a file through a link": (
        member(SYMLINK, b"out", link=b"/tmp") + member(FILE, b"out/escape", b"x"), "not a folder",
    ),
    "a file through a relative link": (
        member(SYMLINK, b"out", link=b"../..") + member(FILE, b"out/escape", b"x"), "not a folder",
    ),
    "a folder through a link": (
        member(SYMLINK, b"out", link=b"..") + member(FOLDER, b"out/escape"), "not a folder",
    ),
    "a removal through a link": (
        member(SYMLINK, b"out", link=b"../..") + member(FILE, b"out/.wh.kept"), "not a folder",
    ),
    "an opaque mark through a link": (
        member(SYMLINK, b"out", link=b"../..") + member(FILE, b"out/.wh..wh..opq"), "not a folder",
    ),
    "a hard link to the host": (member(LINK, b"shadow", link=b"/etc/shadow"), "missing file"),
    "a hard link with dots": (member(LINK, b"shadow", link=b"../../../etc/shadow"), "could lead out"),
    "a hard link through a link": (
        member(SYMLINK, b"etc", link=b"/etc") + member(LINK, b"shadow", link=b"etc/shadow"), "missing file",
    ),
    "a hard link to a folder": (member(FOLDER, b"a") + member(LINK, b"b", link=b"a"), "to a folder"),
    "a hard link to the root": (member(LINK, b"b", link=b"/"), "to no file"),
    "a hard link to a removal": (member(FILE, b".wh.a") + member(LINK, b"b", link=b"a"), "missing file"),
    "a hard link into what it replaces": (
        member(FOLDER, b"a") + member(FILE, b"a/b", b"x") + member(LINK, b"a", link=b"a/b"), "cannot be unpacked",
    ),
    "a file below a file": (member(FILE, b"a", b"x") + member(FILE, b"a/b", b"x"), "not a folder"),
    "a root that is a file": (raw(b"/", flag=b"2", content=b"", link=b"/tmp"), "not a folder"),
    "a device that is a removal": (member(EntryKind.CHARACTER_DEVICE, b"null"), "device 0:0"),
    "a removal of no name": (raw(b"a/.wh."), "removes no name"),
    "a removal of a dot": (raw(b"a/.wh.."), "removes no name"),
    "a removal of the parent": (raw(b"a/.wh..."), "removes no name"),
    "a file below a removal": (raw(b".wh.a/b"), "mark of a removal"),
    "a zero byte in a name": (member(FILE, b"x" * 101).replace(b"x" * 101, b"x\0" + b"x" * 99), "zero byte"),
    "a long component": (raw(b"x" * 256), "too long"),
    "a long path": (raw(b"/".join([b"x" * 200] * 25)), "too long"),
    "an unknown kind": (raw(b"a", flag=b"Z"), "unknown kind"),
    "a link without a target": (member(SYMLINK, b"a"), "a target of 0 bytes"),
    "a capability that is none": (
        member(FILE, b"a", xattrs={"security.capability": b"nonsense"}), "cannot be set",
    ),
    "a cut file": (member(FILE, b"a", bytes(3000))[:1500], "in the middle"),
    "a wrong checksum": (b"y" + member(FILE, b"a")[1:], "checksum"),
    "content after the end": (bytes(512) + member(FILE, b"a"), "continues after its end"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_attack_is_refused_by_name_and_nothing_lies_outside(tmp_path: Path, name: str) -> None:
    """Refused in words; next to the folder of the layer there is nothing new, and nothing is gone."""
    archive, words = REFUSED[name]
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(LayerError, match=words):
        unpacked(tmp_path, archive)
    assert outside(tmp_path) - {
        str(path.relative_to(tmp_path)) for path in (tmp_path / "image/layer").rglob("*")
    } == {"kept"}
    assert not Path("/tmp/escape").exists()


def test_absolute_names_and_link_targets_land_inside(tmp_path: Path) -> None:
    """A leading slash is the root of the image, however often it stands there; a link is only text."""
    archive = b"".join((
        raw(b"/a/b"), raw(b"//c//./d"), raw(b"././e"), raw(b"s", b"", b"2", link=b"../../../etc/shadow"),
        raw(b"h", b"", b"1", link=b"//a//b"),
    ))  # fmt: skip
    target = unpacked(tmp_path, archive)
    assert (target / "a/b").samefile(target / "h") and (target / "c/d").exists() and (target / "e").exists()
    assert os.readlink(target / "s") == "../../../etc/shadow"


def test_what_an_entry_replaces_is_not_followed(tmp_path: Path) -> None:
    """A later entry of the same name takes the place of a link, whatever it points to."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    victim.chmod(0o600)
    link = str(victim).encode()
    archive = member(SYMLINK, b"a", link=link) + member(FILE, b"a", b"new")
    archive += member(SYMLINK, b"b", link=link) + member(FOLDER, b"b")
    archive += member(SYMLINK, b"c", link=link) + member(LINK, b"d", link=b"c") + member(EntryKind.FIFO, b"c")
    target = unpacked(tmp_path, archive)
    assert victim.read_text() == "kept" and stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert (target / "a").read_text() == "new" and not (target / "a").is_symlink()
    assert (target / "d").is_symlink() and (target / "b").is_dir()


def test_marks_of_the_overlay_cannot_be_forged(tmp_path: Path) -> None:
    """Attributes that an overlay would obey are no part of a layer, in either form."""
    forged = {"trusted.overlay.opaque": b"y", "user.overlay.opaque": b"y", "trusted.overlay.redirect": b"/etc"}
    target = unpacked(tmp_path, member(FOLDER, b"a", xattrs={**forged, "user.kept": b"1"}))
    assert os.listxattr(target / "a") == ["user.kept"]


@pytest.mark.parametrize(
    ("archive", "limits", "words"),
    [
        (b"".join(member(FILE, b"%d" % n) for n in range(12)), UnpackLimits(entries=10), "more than 10 entries"),
        (member(FILE, b"a", b"x" * 5000), UnpackLimits(bytes_written=4000), "more than 4000 bytes"),
        (member(FOLDER, b"/".join([b"a"] * 12)), UnpackLimits(depth=10), "more than 10 folders deep"),
        (member(FOLDER, b"a"), UnpackLimits(seconds=-1), "not unpacked in"),
    ],
)
def test_every_limit_holds(tmp_path: Path, archive: bytes, limits: UnpackLimits, words: str) -> None:
    """Entries, bytes, depth and time are bounded."""
    with pytest.raises(LayerError, match=words):
        unpacked(tmp_path, archive, limits=limits)


def test_a_bomb_is_stopped_early(tmp_path: Path) -> None:
    """A small blob that expands a thousandfold is refused before it fills the disk; zeros cost no disk."""
    size = 64 * 1024 * 1024
    archive = member(FILE, b"zeros", bytes(size)) + member(FILE, b"bomb", b"x" * size)
    file = CountedFile(io.BytesIO(gzip.compress(archive + END)))
    (tmp_path / "layer").mkdir()
    with pytest.raises(LayerError, match="expands to more than 100 times"):
        unpack_layer(
            Decompressed(file, "gzip"), tmp_path / "layer", consumed=lambda: file.count,
            limits=UnpackLimits(ratio=100, ratio_free=1024 * 1024),
        )  # fmt: skip
    assert (tmp_path / "layer/zeros").stat().st_blocks == 0
    assert (tmp_path / "layer/bomb").stat().st_size < size


def test_extended_headers_are_bounded_before_they_are_read(tmp_path: Path) -> None:
    """A header that announces gigabytes of names or records costs nothing."""
    for flag in b"xgLK":
        info = tarfile.TarInfo("a")
        info.type, info.size = bytes([flag]), 8 * 1024**3 - 1
        target = tmp_path / chr(flag)
        target.mkdir()
        with pytest.raises(LayerError, match="more than 1048576 bytes"):
            unpack_layer(io.BytesIO(info.tobuf(tarfile.USTAR_FORMAT)), target)


def test_owners_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    """The id that means `unchanged` to the kernel, negative and larger ones."""
    for uid in (2**32 - 1, 2**40):
        with pytest.raises(LayerError, match="no such id"):
            unpacked(tmp_path / str(uid), member(FILE, b"a", uid=uid))
    target = unpacked(tmp_path / "large", member(FILE, b"a", uid=2**32 - 2, gid=3_000_000))
    assert ((target / "a").stat().st_uid, (target / "a").stat().st_gid) == (2**32 - 2, 3_000_000)


def test_device_nodes_can_be_left_out(tmp_path: Path) -> None:
    """An ordinary user cannot make them; the result says how many are missing."""
    archive = member(EntryKind.CHARACTER_DEVICE, b"dev/null", device=(1, 3)) + END
    (tmp_path / "a").mkdir()
    assert unpack_layer(io.BytesIO(archive), tmp_path / "a", make_node=None).devices == 1
    assert list((tmp_path / "a/dev").iterdir()) == []


def test_a_missing_parent_is_as_in_the_layers_below(tmp_path: Path) -> None:
    """Owner, mode, time and attributes; a made-up folder would open or close what lies below."""
    lower, top = tmp_path / "lower", tmp_path / "top"
    (lower / "secret/deep").mkdir(parents=True)
    os.chown(lower / "secret", 1000, 1001)
    (lower / "secret").chmod(0o1750)
    os.setxattr(lower / "secret", "user.note", b"1")
    os.utime(lower / "secret", ns=(10**9, 10**9))
    (top / "other").mkdir(parents=True)
    target = unpacked(tmp_path, member(FILE, b"secret/deep/new", b"x") + member(FILE, b"own/new"), top, lower)
    status = (target / "secret").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 1001, 0o1750)
    assert status.st_mtime_ns == 10**9 and os.getxattr(target / "secret", "user.note") == b"1"
    assert stat.S_IMODE((target / "own").stat().st_mode) == 0o755


def test_a_hard_link_to_a_layer_below_brings_the_file_along(tmp_path: Path) -> None:
    """Both names are one file of this layer, unless the layer has removed what it links to."""
    lower = tmp_path / "lower"
    (lower / "bin").mkdir(parents=True)
    (lower / "bin/tool").write_text("content")
    (lower / "bin/tool").chmod(0o4755)
    (lower / "bin/link").symlink_to("tool")
    archive = member(LINK, b"usr/tool", link=b"bin/tool", mode=0o4755) + member(LINK, b"usr/link", link=b"bin/link")
    target = unpacked(tmp_path, archive, lower)
    assert (target / "usr/tool").samefile(target / "bin/tool") and (target / "usr/tool").read_text() == "content"
    assert stat.S_IMODE((target / "bin/tool").stat().st_mode) == 0o4755
    assert os.readlink(target / "usr/link") == "tool"
    for hidden in (member(FILE, b"bin/.wh..wh..opq"), member(FILE, b".wh.bin"), member(FILE, b"bin/.wh.tool")):
        with pytest.raises(LayerError, match="missing file"):
            unpacked(tmp_path / str(len(hidden)) / str(hidden[:20]), hidden + archive, lower)


def test_removals_take_the_form_of_the_overlay(tmp_path: Path) -> None:
    """In either order with the entries of the same name, which stay and hide what is below."""
    archive = b"".join((
        member(FILE, b".wh.gone"), member(FOLDER, b"d"), member(FILE, b"d/.wh..wh..opq"),
        member(FILE, b".wh.e"), member(FOLDER, b"e"), member(FOLDER, b"f"), member(FILE, b".wh.f"),
        member(FILE, b"g", b"x"), member(FILE, b".wh.g"), member(FILE, b".wh..wh.plnk/1.2", b"x"),
        member(FILE, b".wh.h"), member(FILE, b"h/i", b"x"),
    ))  # fmt: skip
    target = unpacked(tmp_path, archive)
    status = os.lstat(target / "gone")
    assert stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    for name in "defh":
        folder = os.open(target / name, os.O_RDONLY)
        assert is_opaque(folder)
        os.close(folder)
    assert (target / "g").read_text() == "x"
    assert sorted(path.name for path in target.iterdir()) == ["d", "e", "f", "g", "gone", "h"]


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from(sorted(REFUSED)), cuts=st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=8)))
)
def test_a_damaged_archive_is_unpacked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, start: str, cuts: list[tuple[int, bytes]]
) -> None:
    """Never another error, whatever the bytes."""
    data = bytearray(REFUSED[start][0])
    for position, piece in cuts:
        data[position % (len(data) + 1) : position % (len(data) + 1) + len(piece)] = piece
    target = tmp_path_factory.mktemp("fuzz")
    with contextlib.suppress(LayerError):
        unpack_layer(io.BytesIO(bytes(data)), target, limits=UnpackLimits(seconds=20))


@pytest.mark.parametrize("size", [1, 511, 700, 1023])
def test_a_cut_header_is_refused(tmp_path: Path, size: int) -> None:
    """An archive may end between entries, not in one."""
    archive = member(FILE, b"a") + member(FILE, b"b")
    with pytest.raises(LayerError, match="in the middle"):
        unpack_layer(io.BytesIO(archive[:size]), tmp_path)
    unpack_layer(io.BytesIO(archive), tmp_path)


@pytest.mark.tool
@pytest.mark.parametrize("form", ["gnu", "posix 0.1", "posix 1.0"])
def test_sparse_files_of_gnu_tar_are_read(tmp_path: Path, form: str) -> None:
    """In its old format and in both newer ones that carry the map in one place."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        for number in range(60):
            file.seek(number * 300_000)
            file.write(b"x%d" % number * 1000)
        file.truncate(40_000_000)
    kind, _, version = form.partition(" ")
    options = [f"--sparse-version={version}"] if version else []
    done = subprocess.run(
        ["tar", "--create", "--sparse", f"--format={kind}", *options, "-C", str(source), "sparse"],
        capture_output=True, check=True,
    )  # fmt: skip
    target = tmp_path / "target"
    target.mkdir()
    unpack_layer(io.BytesIO(done.stdout), target)
    assert (target / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (target / "sparse").stat().st_blocks * 512 < 10_000_000
