"""The program in its sandbox, on roots of the container storage: what it may see, and what ends it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.copying.copier import FileCopier
from imagesmith.copying.request import CopyFailed, CopyLimits, CopyRequest, PathSource, TextSource
from imagesmith.instances.limits import ResourceLimits, leftover_groups
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled
from testing.copy_support import CopyBench, described, paths_in, tree

pytestmark = pytest.mark.tool


@pytest.fixture
def roots(container_storage: ContainerStorage, tiny_image: str) -> Iterator[tuple[Path, Path]]:
    """The mounted roots of two containers: of the tiny image, and of nothing."""
    container_storage.create("copy-source", tiny_image)
    container_storage.create("copy-target", "scratch")
    try:
        yield container_storage.mount("copy-source"), container_storage.mount("copy-target")
    finally:
        for name in ("copy-source", "copy-target"):
            container_storage.remove(name)


def request(*patterns: str, to: str = "/x/", **options: object) -> CopyRequest:
    return CopyRequest(sources=tuple(map(PathSource, patterns)), destination=to, **options)  # type: ignore[arg-type]


def test_a_whole_image_is_copied_into_an_empty_one(
    container_storage: ContainerStorage, roots: tuple[Path, Path], copier: FileCopier
) -> None:
    """Through overlays, file by file the same, and into a layer; ids and modes of every file are kept."""
    source, target = roots
    os.chown(source / "etc/group", 1234, 42)
    (source / "usr/bin/id").chmod(0o4755)
    os.setxattr(source / "usr/bin/id", "user.note", b"x")
    os.link(source / "usr/bin/id", source / "usr/bin/other-id")
    result = copier.copy(request("/", to="/"), source=source, target=target)
    assert tree(target) == tree(source)
    assert (target / "usr/bin/id").samefile(target / "usr/bin/other-id")
    assert result.entries == len(tree(target)) and not result.downloads
    image = container_storage.commit("copy-target", created_by="COPY / /")
    container_storage.remove_image(image)


def test_a_file_onto_a_layer_replaces_it(roots: tuple[Path, Path], copier: FileCopier) -> None:
    """Files, links and folders of lower layers are replaced and merged like others, also with --link."""
    source, target = roots[1], roots[0]
    (source / "d/sub").mkdir(parents=True)
    (source / "d/os-release").write_text("new")
    (source / "d/sub/passwd").write_text("new")
    copier.copy(request("/d", to="/etc"), source=source, target=target)
    copier.copy(request("/d", to="/lib/x", link=True), source=source, target=target)
    assert (target / "etc/os-release").read_text() == "new" and (target / "etc/group").exists()
    assert not (target / "lib").is_symlink() and (target / "lib/x/sub/passwd").read_text() == "new"
    assert not [name for name in os.listdir(target) if name.startswith(".imagesmith")]  # noqa: PTH208


def test_one_sandbox_serves_several_copies(bench: CopyBench, copier: FileCopier) -> None:
    """It starts with the first, and only a download adds a network to it."""
    (bench.source / "a").touch()
    for number in range(3):
        copier.copy(request("/a", to=f"/{number}"), source=bench.source, target=bench.target)
    sandbox = copier.start()
    assert sandbox is copier.start() and sandbox.network == "none"
    assert copier.start("outbound").network == "outbound"
    copier.copy(request("/a", to="/4"), source=bench.source, target=bench.target)
    assert copier.start().network == "outbound" and len(paths_in(bench.target)) == 4


def test_roots_may_be_descriptors(bench: CopyBench, copier: FileCopier) -> None:
    """Of folders that have no path on this machine."""
    (bench.source / "a").write_text("a")
    descriptors = [os.open(root, os.O_PATH) for root in (bench.source, bench.target)]
    copier.copy(request("/a"), source=descriptors[0], target=descriptors[1])
    assert (bench.target / "x/a").read_text() == "a"
    for descriptor in descriptors:
        os.close(descriptor)


def test_links_never_lead_to_files_of_this_machine(bench: CopyBench, copier: FileCopier, tmp_path: Path) -> None:
    """Neither what is read nor what is written: absolute, climbing and magic links stay in their roots."""
    (tmp_path / "secret").write_text("secret")
    way = "../" * 20
    for name, target in {
        "absolute": str(tmp_path / "secret"), "climbing": f"{way}{tmp_path}/secret", "magic": "/proc/self/root",
        "descriptor": "/proc/self/fd/3", "folder": str(tmp_path), "up": way,
    }.items():  # fmt: skip
        (bench.source / name).symlink_to(target)
        (bench.target / name).symlink_to(target)
    for source in ("absolute", "climbing", "magic/etc/passwd", "descriptor", "folder/secret", "up/etc/passwd"):
        with pytest.raises(CopyFailed, match="not found"):
            copier.copy(request(source), source=bench.source, target=bench.target)
    for destination in ("absolute", "climbing", "magic/new", "descriptor", "folder/new", "up/new", "up/etc/passwd"):
        text = CopyRequest(sources=(TextSource("EOF", b"new"),), destination=f"/{destination}")
        copier.copy(text, source=None, target=bench.target)
    assert (tmp_path / "secret").read_text() == "secret"
    assert sorted(os.listdir(tmp_path)) == ["secret", "source", "target"]  # noqa: PTH208
    assert (bench.target / "new").read_text() == "new" and (bench.target / "etc/passwd").read_text() == "new"


def test_links_that_change_meanwhile_lead_nowhere_else(
    bench: CopyBench, copier: FileCopier, tmp_path: Path
) -> None:
    """A program of the image that swaps a folder and a link all the time gets an error or its own files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (bench.source / "d").mkdir()
    for number in range(50):
        (bench.source / f"d/f{number}").write_text("x")
    swapped, stop = bench.target / "swapped", threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for change in (
                lambda: swapped.mkdir(), lambda: swapped.rename(bench.target / "aside"),
                lambda: swapped.symlink_to(outside), lambda: swapped.unlink(),
                lambda: (bench.target / "aside").rename(swapped), lambda: swapped.rename(bench.target / "aside2"),
                lambda: (bench.target / "aside2").rename(swapped),
            ):  # fmt: skip
                try:
                    change()
                except OSError:
                    continue

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(8):
            try:
                copier.copy(request("/d", to="/swapped/x"), source=bench.source, target=bench.target)
            except CopyFailed:
                continue
    finally:
        stop.set()
        thread.join()
    assert paths_in(outside) == []


def test_special_files_do_not_hang_it(bench: CopyBench, copier: FileCopier) -> None:
    """Pipes and devices are read nowhere: as source, in a folder, as destination, as table of users."""
    (bench.source / "d").mkdir()
    os.mkfifo(bench.source / "d/pipe")
    os.mknod(bench.source / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    (bench.target / "etc").mkdir()
    os.mkfifo(bench.target / "etc/passwd")
    os.mkfifo(bench.target / "there")
    copier.copy(request("/d", "/d/pipe", "/zero"), source=bench.source, target=bench.target)
    assert stat.S_ISFIFO((bench.target / "x/pipe").stat().st_mode) and (bench.target / "x/zero").is_char_device()
    copier.copy(request("/d/pipe", to="/there"), source=bench.source, target=bench.target)
    with pytest.raises(CopyFailed, match="/etc/passwd is not a file"):
        copier.copy(request("/zero", chown="ana"), source=bench.source, target=bench.target)


def test_it_sees_no_file_of_this_machine(bench: CopyBench, copier: FileCopier, tmp_path: Path) -> None:
    """In the namespaces of the program there are the tools alone."""
    entry = copier.start().enter(
        ["/bin/sh", "-c", f"ls {tmp_path} /srv /home /work /etc; cat /programs/*/*/*/main.py"]
    )
    done = subprocess.run(entry.argv, env=dict(entry.environment), capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:3] == ["/etc:", "hosts", "resolv.conf"] and "_KEPT" in done.stdout
    assert done.stderr.count("No such file") == 4


def test_the_program_keeps_the_rights_of_writing_files_alone() -> None:
    """Six capabilities of root, in no set any other, and none comes back with another program."""
    code = (
        "from imagesmith.copying.program.main import drop_rights as d; d(); print(open('/proc/self/status').read())"
    )
    status = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    fields = dict(line.split(":\t") for line in status.splitlines() if line.startswith(("Cap", "NoNewPrivs")))
    kept = sum(1 << number for number in (0, 1, 3, 4, 27, 31))
    assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapInh")} == {f"{kept:016x}"}
    assert fields["CapAmb"] == "0" * 16 and fields["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("text", "words"),
    [("a\0b", "no path can have"), ("\ud800", "no path can have"), ("a" * 5000, "File name too long")],
)
def test_odd_texts_are_refused(bench: CopyBench, copier: FileCopier, text: str, words: str) -> None:
    """In each place of a request."""
    good = (PathSource("/"),)
    for wrong in (
        CopyRequest(sources=(PathSource(text),), destination="/x"),
        CopyRequest(sources=(TextSource(text, b""),), destination="/x/"),
        CopyRequest(sources=good, destination=text),
    ):
        with pytest.raises(CopyFailed, match=words):
            copier.copy(wrong, source=bench.source, target=bench.target)


def test_a_cancelled_copy_ends_at_once(bench: CopyBench, copier: FileCopier) -> None:
    """With its program."""
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        copier.copy(request("/"), source=bench.source, target=bench.target, cancellation=cancellation)


def test_a_copy_that_is_cancelled_meanwhile_ends(bench: CopyBench, copier: FileCopier) -> None:
    """Its sandbox with everything in it, and the next copy starts another."""
    with (bench.source / "a").open("wb") as file:
        file.truncate(2**33)
        for place in range(0, 2**26, 2**13):
            file.seek(place)
            file.write(b"x")
    cancellation = Cancellation()
    timer = threading.Timer(0.3, cancellation.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        for number in range(10_000):
            whole = request("/a", to=f"/{number % 3}")
            copier.copy(whole, source=bench.source, target=bench.target, cancellation=cancellation)
    timer.join()
    (bench.source / "b").touch()
    copier.copy(request("/b"), source=bench.source, target=bench.target)


def test_a_program_that_is_killed_is_said(bench: CopyBench, copier: FileCopier) -> None:
    """And the next copy works again."""
    (bench.source / "a").touch()
    copier.copy(request("/a"), source=bench.source, target=bench.target)
    for group in copier.start().groups.folders:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                if b"start.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(InstanceError, match="cannot copy files"):
        copier.copy(request("/a"), source=bench.source, target=bench.target)
    copier.copy(request("/a"), source=bench.source, target=bench.target)


def test_a_root_that_is_gone_is_said(bench: CopyBench, copier: FileCopier) -> None:
    """With its path."""
    with pytest.raises(InstanceError, match=r"the root .*nowhere cannot be opened"):
        copier.copy(request("/a"), source=bench.source / "nowhere", target=bench.target)


def test_a_copy_ends_with_its_time(bench: CopyBench, copier: FileCopier) -> None:
    """By itself, with words; the sandbox can be used again."""
    (bench.source / "a").touch()
    with pytest.raises(CopyFailed, match="longer than the time"):
        copier.copy(request("/"), source=bench.source, target=bench.target, timeout=0)
    with pytest.raises(CopyFailed, match="longer than the time"):
        copier.copy(request("/"), source=bench.source, target=bench.target, limits=CopyLimits(seconds=0))
    copier.copy(request("/a"), source=bench.source, target=bench.target)


def test_a_file_over_the_limit_of_the_build_fails(bench: CopyBench, tmp_path: Path) -> None:
    """The limits of the sandbox hold for the program too."""
    with (bench.source / "large").open("wb") as file:
        file.write(b"x" * 3 * 1024 * 1024)
    limits = ResourceLimits(file_mb=2)
    copier = FileCopier("copying-limit-files", disk=tmp_path, limits=limits)
    with copier, pytest.raises(CopyFailed, match=os.strerror(errno.EFBIG)):
        copier.copy(request("/large"), source=bench.source, target=bench.target)


def test_a_full_disk_is_said(bench: CopyBench, tmp_path: Path) -> None:
    """When less than the limit is free, the sandbox ends, and the failure has its words."""
    (bench.source / "a").touch()
    with FileCopier("copying-full-files", disk=tmp_path, limits=ResourceLimits(free_disk_mb=10**9)) as copier:
        sandbox = copier.start()
        while sandbox.alive:
            threading.Event().wait(0.05)
        assert "must stay free" in sandbox.exit_message()
        for _ in range(2):
            with pytest.raises(InstanceError, match="must stay free"):
                copier.copy(request("/a"), source=bench.source, target=bench.target)


def test_nothing_is_left_of_it(bench: CopyBench, tmp_path: Path) -> None:
    """After close() no process, group or file remains; closing twice is fine."""
    (bench.source / "a").touch()
    copier = FileCopier("copying-left-files", disk=tmp_path)
    copier.copy(request("/a"), source=bench.source, target=bench.target)
    assert leftover_groups("copying-left-files")
    copier.close()
    copier.close()
    assert not leftover_groups("copying-left-files") and paths_in(bench.target) == ["x/", "x/a"]
    assert described(bench.target / "x/a")["owner"] == (0, 0)
