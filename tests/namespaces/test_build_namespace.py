"""User namespaces of builds: what makes them, and what the errors say."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.namespaces.build_namespace import BuildNamespace, ViewMount
from imagesmith.namespaces.id_maps import IdMap, IdRange, NoIds, lease_range, nested_ids
from imagesmith.namespaces.maker import NamespaceError, NamespaceMaker

pytestmark = pytest.mark.tool


@pytest.fixture
def maker() -> Iterator[NamespaceMaker]:
    made = NamespaceMaker()
    yield made
    made.close()


def start(maker: NamespaceMaker, folder: Path) -> BuildNamespace:
    ids, lease = lease_range(folder / "ids")
    return BuildNamespace.start(maker, ids, lease=lease)


def test_one_program_makes_all_namespaces_and_ends_with_the_last(maker: NamespaceMaker, tmp_path: Path) -> None:
    """It is started by the first, and a server without builds has no process of it."""
    with start(maker, tmp_path) as first, start(maker, tmp_path) as second:
        process = maker.pid
        assert first.host_ids.first != second.host_ids.first
        assert os.fstat(first.descriptor).st_ino != os.fstat(second.descriptor).st_ino
        with start(maker, tmp_path):
            assert maker.pid == process
    assert not Path(f"/proc/{process}").exists()


def test_one_program_makes_the_namespaces_of_a_block(maker: NamespaceMaker, tmp_path: Path) -> None:
    """It lives from the first of them to the end of the block, and is not started for a block without any."""
    with maker:
        pass
    assert maker.pid == 0
    with maker:
        start(maker, tmp_path).close()
        first = maker.pid
        start(maker, tmp_path).close()
        assert maker.pid == first
    assert not Path(f"/proc/{first}").exists()


def test_a_killed_maker_is_replaced(maker: NamespaceMaker, tmp_path: Path) -> None:
    """The request that meets its end fails in words, the next one works."""
    first = start(maker, tmp_path)
    os.kill(maker.pid, signal.SIGKILL)
    with pytest.raises(NamespaceError, match="maker of user namespaces"):
        start(maker, tmp_path)
    with start(maker, tmp_path) as namespace:
        assert namespace.descriptor >= 0
    first.close()


class Unstartable:
    """A program that the machine has no room for."""

    def use(self) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def release(self) -> None:
        raise AssertionError("it was never used")


def test_ids_are_given_back_when_a_program_cannot_start(maker: NamespaceMaker, tmp_path: Path) -> None:
    """The namespace owns them from the beginning, so nobody else does it; programs that run are released."""
    ids, lease = lease_range(tmp_path / "ids")
    with pytest.raises(NamespaceError, match="temporarily unavailable"):
        BuildNamespace.start(maker, ids, lease=lease, others=[Unstartable()])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(lease)
    assert not Path(f"/proc/{maker.pid}").exists()


@pytest.mark.parametrize(
    ("folder", "words"),
    [("/proc", "data directory on ext4, xfs or btrfs"), ("missing", "No such file or directory")],
)
def test_a_file_system_without_other_ids_is_named(
    maker: NamespaceMaker, tmp_path: Path, folder: str, words: str
) -> None:
    """The text says which folder it was, and what to change."""
    store = tmp_path / folder  # a path with a slash at its beginning is that path
    with start(maker, tmp_path) as namespace, pytest.raises(NamespaceError, match=words) as failure:
        namespace.overlay(store, store / "x", "")
    assert str(store) in str(failure.value)


def test_a_step_inside_that_fails_is_named(maker: NamespaceMaker, tmp_path: Path) -> None:
    """As an overlay of layers that are missing."""
    (tmp_path / "x/merged").mkdir(parents=True)
    with start(maker, tmp_path) as namespace, pytest.raises(NamespaceError, match="mounting an overlay"):
        namespace.overlay(tmp_path, tmp_path / "x", "lowerdir=missing,userxattr")


def test_our_own_files_are_readable_whatever_their_mode(maker: NamespaceMaker, tmp_path: Path) -> None:
    """An installation under a strict umask works: the files are root's inside."""
    program = tmp_path / "program"
    program.write_text("x")
    program.chmod(0o600)
    with start(maker, tmp_path) as namespace:
        view = namespace.view([ViewMount(program, writable=False), ViewMount(tmp_path, writable=False)])
        os.close(view.descriptor)
        assert [str(path) for path in view.paths] == ["/run/0", "/run/1"]


def test_a_lease_ends_with_its_last_copy(maker: NamespaceMaker, tmp_path: Path) -> None:
    """A program that runs on in the range keeps it, even when the namespace is closed."""
    namespace = start(maker, tmp_path)
    first, copy = namespace.host_ids.first, os.dup(namespace.lease)
    namespace.close()
    with pytest.raises(NoIds):
        lease_range(tmp_path / "ids", first=first, most=1)
    os.close(copy)
    os.close(lease_range(tmp_path / "ids", first=first, most=1)[1])


def test_a_failed_start_frees_the_range(maker: NamespaceMaker, tmp_path: Path) -> None:
    """A map that the kernel refuses is named."""
    _, lease = lease_range(tmp_path / "ids", most=1)
    odd = IdMap(users=(IdRange(0, 1, 0),), groups=(IdRange(0, 1, 0),), privileged=True)
    with pytest.raises(NamespaceError, match="writing the uid map") as failure:
        BuildNamespace.start(maker, odd, lease=lease)
    assert failure.value.errno == errno.EINVAL
    os.close(lease_range(tmp_path / "ids", most=1)[1])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0 0 4294967295", None),
        ("0 1000 1\n1 100000 65536", (IdRange(0, 0, 1), IdRange(1, 1, 65535))),
        ("0 100000 65536", (IdRange(0, 0, 65536),)),
        ("0 5 10\n70000 5 10", (IdRange(0, 0, 10),)),
    ],
)
def test_ids_in_the_namespace_of_an_ordinary_user(
    tmp_path: Path, text: str, found: tuple[IdRange, ...] | None
) -> None:
    """A build has the same ids there, in the pieces in which this process has them; root has ranges instead."""
    (tmp_path / "map").write_text(text)
    ids = nested_ids(tmp_path / "map", tmp_path / "map")
    assert (ids.users if ids else None) == found
