"""Files of an image's root, read from outside without ever leaving it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.artifacts.rootfs import Root, RootError
from imagesmith.inspection.files import RootFiles, UnreadableDatabase
from imagesmith.processes import Cancellation


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """root/ with a file inside, and a secret beside it."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    return root


def test_a_file_is_read_by_its_path_in_the_image(tree: Path) -> None:
    """Absolute and relative paths mean the same."""
    with Root(tree) as root:
        assert root.read("/etc/file") == root.read("etc/file") == root.read("/etc/../../etc/file") == b"inside"
        assert root.list("/etc") == ["file"] and root.list("/none") == [] and root.list("/etc/file") == []


@pytest.mark.parametrize(
    "target", ["{outside}", "../../secret", "../../../../../../../..{outside}", "/proc/self/root{outside}"]
)
def test_links_stay_inside(tree: Path, tmp_path: Path, target: str) -> None:
    """A link of the image leads nowhere but into the image."""
    (tree / "etc/link").symlink_to(target.format(outside=tmp_path / "secret"))
    with Root(tree) as root, pytest.raises(OSError, match=r"No such file|symbolic"):
        root.read("/etc/link")


def test_absolute_links_are_those_of_the_image(tree: Path) -> None:
    """/etc/file as a target is the image's /etc/file."""
    (tree / "link").symlink_to("/etc/file")
    with Root(tree) as root:
        assert root.read("/link") == b"inside"
        with pytest.raises(OSError, match="symbolic"):
            root.open("/link", follow=False)


@pytest.mark.tool
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_device_nodes_are_not_opened(tree: Path, kind: int) -> None:
    """Opening one would reach a driver of the host: this number has none, which open() would say."""
    os.mknod(tree / "etc/passwd", kind | 0o666, os.makedev(240, 77))
    (tree / "etc/link").symlink_to("passwd")
    with Root(tree) as root:
        for read in (root.read, root.open_regular):
            for path in ("/etc/passwd", "/etc/link"):
                with pytest.raises(RootError, match="not a regular file"):
                    read(path)
        with pytest.raises(UnreadableDatabase, match="not a regular file"):
            RootFiles(root, Cancellation()).open("/etc/passwd")


@given(st.lists(st.sampled_from(["..", ".", "etc", "up", "top", "file", "secret"]), max_size=8))
def test_no_path_leads_out(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    """Whatever is combined of dots and links, what is read is inside or nothing."""
    base = tmp_path_factory.mktemp("tree")
    (base / "root/etc").mkdir(parents=True)
    (base / "root/etc/file").write_text("inside")
    (base / "secret").write_text("outside")
    (base / "root/up").symlink_to("..")
    (base / "root/etc/top").symlink_to(str(base))
    with Root(base / "root") as root, contextlib.suppress(OSError):
        assert root.read("/".join(parts) or "/") == b"inside"


def test_what_is_no_regular_file_is_refused_without_waiting(tree: Path) -> None:
    """A named pipe or folder in the place of a file does not hold us up."""
    os.mkfifo(tree / "etc/pipe")
    with Root(tree) as root:
        for path in ("/etc/pipe", "/etc"):
            with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
                root.read(path)


def test_a_file_over_the_limit_is_refused(tree: Path) -> None:
    """The limit is exact, and a longer file is an error and not cut."""
    (tree / "long").write_bytes(b"x" * 11)
    with Root(tree) as root:
        assert len(root.read("/long", limit=11)) == 11
        with pytest.raises(RootError) as caught:
            root.read("/long", limit=10)
    assert caught.value.errno == errno.EFBIG


def test_reading_works_while_the_machine_renames(tree: Path, tmp_path: Path) -> None:
    """Renames elsewhere make the kernel refuse `..` for a moment: that is tried again, not reported."""
    stop = threading.Event()

    def rename() -> None:
        (tmp_path / "a").mkdir()
        while not stop.is_set():
            (tmp_path / "a").rename(tmp_path / "b")
            (tmp_path / "b").rename(tmp_path / "a")

    thread = threading.Thread(target=rename)
    thread.start()
    try:
        with Root(tree) as root:
            for _ in range(2000):
                assert root.read("/etc/../etc/../etc/file") == b"inside"
    finally:
        stop.set()
        thread.join()


def test_a_folder_gives_a_descriptor_for_its_names(tree: Path) -> None:
    """Names are changed through the folder's descriptor; it is closed afterwards."""
    with Root(tree) as root:
        with root.folder("/etc") as descriptor:
            os.unlink("file", dir_fd=descriptor)
        assert root.list("/etc") == []
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
