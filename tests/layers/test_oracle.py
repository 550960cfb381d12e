"""Debian's buildah as an oracle: layers equal to its commits in content, and its layers unpacked as it does."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagesmith import processes
from imagesmith.layers.compression import CountedFile, Decompressed, compression_of
from imagesmith.layers.unpacker import unpack_layer
from imagesmith.layers.writer import WriterSettings, write_layer
from testing.trees import overlay, tree_of

pytestmark = pytest.mark.tool

MOMENT = 1_700_000_000
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
Members = dict[str, tuple[object, ...]]


class Buildah:
    """A storage of its own, thrown away at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = ["--root", str(folder / "root"), "--runroot", str(folder / "runroot")]

    def __call__(self, *argv: str) -> str:
        done = subprocess.run(
            ["buildah", *self.options, "--storage-driver=overlay", *argv], capture_output=True, text=True,
            check=False, env={**processes.host_environment(), "HOME": str(self.folder), "STORAGE_OPTS": ""},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, name: str) -> list[Path]:
        """The compressed blobs of an image of a container, lowest first."""
        target = self.folder / f"image-{name}"
        self("commit", "--quiet", f"--timestamp={MOMENT}", name, f"dir:{target}")
        manifest = json.loads((target / "manifest.json").read_text())
        return [target / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    tool = Buildah(tmp_path / "buildah")
    tool.folder.mkdir()
    yield tool
    tool("rm", "--all")


def new_files(root: Path) -> None:
    (root / "folder").mkdir()
    (root / "folder/file").write_text("content")
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o4755)
    os.chown(root / "script", 33, 42)
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo")
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    # an address in a socket's name is short
    listening = socket.socket(socket.AF_UNIX)
    here = os.open(root, os.O_RDONLY)
    listening.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    listening.close()


def removals(root: Path) -> None:
    (root / "etc/motd").unlink()
    shutil.rmtree(root / "usr/share/doc")
    (root / "usr/share/doc").mkdir()
    (root / "usr/share/doc/x").write_text("x")
    shutil.rmtree(root / "var/cache")
    (root / "var/cache").write_text("a file now")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").mkdir()
    (root / "etc/passwd/child").write_text("x")


def hard_links(root: Path) -> None:
    (root / "b").write_text("one")
    (root / "a").hardlink_to(root / "b")
    (root / "usr/z").hardlink_to(root / "b")


def attributes(root: Path) -> None:
    (root / "capable").write_text("x")
    os.setxattr(root / "capable", "security.capability", CAPABILITY)
    os.setxattr(root / "etc/motd", "user.note", b"value")


def names(root: Path) -> None:
    (root / ("long" * 40)).mkdir()
    (root / ("long" * 40) / ("name" * 30)).write_text("x")
    (root / "äöü").write_text("x")
    (root / "new\nline").symlink_to("t" * 150)
    Path(os.fsdecode(os.path.join(os.fsencode(root), b"\xff\xfe"))).write_text("x")
    (root / "owner").write_text("x")
    os.chown(root / "owner", 65535, 65534)
    (root / "usr/share").chmod(0o700)
    with (root / "sparse").open("wb") as file:
        file.seek(3_000_000)
        file.write(b"end")


CHANGES: list[Callable[[Path], None]] = [new_files, removals, hard_links, attributes, names]


def make_base(root: Path) -> None:
    for folder in ("etc", "usr/share/doc/adduser", "usr/share/doc/apt", "var/cache/apt"):
        (root / folder).mkdir(parents=True)
    for file in ("etc/motd", "etc/passwd", "usr/share/doc/adduser/a", "usr/share/doc/apt/b", "var/cache/apt/c"):
        (root / file).write_text(file)


def members(archive: bytes) -> Members:
    """What Python's own reader finds, without what we chose to write differently."""
    found: Members = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for info in tar:
            removal = info.name.rpartition("/")[2].startswith(".wh.")
            stream = tar.extractfile(info) if info.isreg() else None
            # ours: removals have no mode, and are never links; file systems' own attributes are left out
            found[info.name] = (
                "removal" if removal else info.type, 0 if removal else info.mode & 0o7777, info.uid, info.gid,
                info.size, info.mtime, "" if removal else info.linkname,
                {key: value for key, value in info.pax_headers.items() if key.startswith("SCHILY.xattr.")},
                stream.read() if stream else b"",
            )  # fmt: skip
    return found


def uncompressed(blob: Path) -> bytes:
    with blob.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        reader = Decompressed(CountedFile(file), compression_of(start))
        return b"".join(iter(lambda: reader.read(1 << 20), b""))


def working_container(buildah: Buildah, change: Callable[[Path], None]) -> tuple[Path, Path]:
    """A changed container on the base: its mounted root, and its upper folder."""
    base = buildah("from", "--name", "base", "scratch")
    make_base(Path(buildah("mount", base)))
    image = buildah("commit", "--quiet", f"--timestamp={MOMENT}", base)
    buildah("from", "--pull-never", "--name", "work", image)
    root = Path(buildah("mount", "work"))
    change(root)
    (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {root} " in line]
    options = dict(option.partition("=")[::2] for option in line.rpartition(" - ")[2].split()[2].split(","))
    # relative to the folder of the driver: `l/ABC...` and `<id>/diff`
    return root, (buildah.folder / "root/overlay" / options["upperdir"]).resolve()


def mark_as_ours(upper: Path) -> None:
    """Folders that hide what is below get the mark of an overlay with `userxattr` beside that of buildah's."""
    for place, _, _ in os.walk(upper):
        if "trusted.overlay.opaque" in os.listxattr(place):
            os.setxattr(place, "user.overlay.opaque", os.getxattr(place, "trusted.overlay.opaque"))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_layer_has_the_members_of_buildahs_commit(
    buildah: Buildah, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Names, kinds, modes, owners, sizes, times, links, attributes and content; but for a folder in which nothing
    changed and an opaque mark that hides nothing."""
    _, upper = working_container(buildah, change)
    theirs_packed = buildah.commit("work")
    mark_as_ours(upper)
    base = tmp_path / "base"
    base.mkdir()
    unpack_layer(io.BytesIO(uncompressed(theirs_packed[0])), base)
    base.chmod(0o555)  # buildah's roots have this mode, Docker's and ours 0755
    out = io.BytesIO()
    write_layer(upper, out.write, lowers=[base], settings=WriterSettings(latest=MOMENT))
    ours, theirs = members(out.getvalue()), members(uncompressed(theirs_packed[1]))
    order = [name for name in members(out.getvalue()) if name in theirs]
    assert order == [name for name in theirs if name in ours]
    assert {name: ours[name] for name in ours if name in theirs} == {
        name: theirs[name] for name in theirs if name in ours
    }
    assert set(ours) <= set(theirs)
    # it marks a folder in place of a file, where there is nothing to hide
    assert set(theirs) - set(ours) <= {"etc/passwd/.wh..wh..opq"}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_buildahs_layers_unpack_to_what_buildah_mounts(
    buildah: Buildah, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Our folders of its layers, merged by the kernel, are its container."""
    working_container(buildah, change)
    blobs = buildah.commit("work")
    image = buildah("pull", "--quiet", f"dir:{blobs[0].parent}")
    buildah("from", "--pull-never", "--name", "again", image)
    expected = tree_of(Path(buildah("mount", "again")))
    folders: list[Path] = []
    for number, blob in enumerate(blobs):
        folder = tmp_path / f"layer-{number}"
        folder.mkdir()
        unpack_layer(io.BytesIO(uncompressed(blob)), folder, lowers=folders)
        folders.insert(0, folder)
    (tmp_path / "overlay").mkdir()
    with overlay(tmp_path / "overlay", folders) as merged:
        found = tree_of(merged)
    assert (found.pop(b"")[0], expected.pop(b"")[0]) == (0o40755, 0o40555)
    assert found == expected
