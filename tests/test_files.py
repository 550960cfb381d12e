"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import ast
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from imagesmith import files
from imagesmith.files import READABLE, move_atomically, write_atomically, written_atomically
from testing.small_disk import fill, small_disk_at

SOURCE: Final = Path(files.__file__).parent
BY_HAND: Final = {
    "files.py": "the one place",
    "components/journal.py": "adds lines to a file and flushes each; it is never replaced",
    "accounts/audit.py": "adds lines to a file of a day and flushes them; it is never replaced",
    "instances/machine/backing_chain.py": "the disk of a running machine gets another name in its own folder",
    "backups/restoring.py": "one flush of all files before the mark of the restore goes",
    "instances/network.py": "a device node, which has no content to flush, appears with its final mode",
    "layers/store.py": "whole folders and flushed blobs get their names under the store's lock",
    "copying/program/links.py": "moves a file within the root of a running build",
}
WRITER: Final = """
import sys
from pathlib import Path
from imagesmith.files import write_atomically
print("writing", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_atomically(Path(sys.argv[1]), letter * 4_000_000, drafts=Path(sys.argv[2]))
"""
SHARED_WRITER: Final = """
import sys
from pathlib import Path
from imagesmith.files import write_atomically
for _ in range(200):
    write_atomically(Path({target!r}), sys.argv[1].encode() * 100_000)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_created_and_replaced_as_a_whole(tmp_path: Path) -> None:
    """The folder holds the file and nothing else, before and after."""
    target = tmp_path / "state.json"

    assert write_atomically(target, "first")
    assert write_atomically(target, b"second")

    assert target.read_bytes() == b"second"
    assert names(tmp_path) == ["state.json"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_mode_of_a_file_is_the_one_that_was_asked_for(tmp_path: Path, umask: int) -> None:
    """Private by default, and readable where that is meant, whatever the umask of the process is."""
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "private", b"x")
        write_atomically(tmp_path / "readable", b"x", mode=READABLE)
    finally:
        os.umask(before)

    assert (mode(tmp_path / "private"), mode(tmp_path / "readable")) == (0o600, 0o644)


def test_of_many_that_create_a_file_one_wins(tmp_path: Path) -> None:
    """Without `replace` all read what one of them wrote, and one of them learns that it was its own."""
    target = tmp_path / "keys.json"
    start = threading.Barrier(8)
    won: list[int] = []

    def create(number: int) -> None:
        start.wait()
        if write_atomically(target, str(number), replace=False):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert target.read_text() == str(won[0])
    assert len(won) == 1
    assert names(tmp_path) == ["keys.json"]


def test_the_longest_name_has_room_for_its_draft(tmp_path: Path) -> None:
    """A name of 255 bytes is as good as any other."""
    target = tmp_path / ("n" * 255)

    write_atomically(target, b"x")

    assert target.read_bytes() == b"x"


def test_a_full_disk_leaves_the_earlier_file_and_no_draft(tmp_path: Path) -> None:
    """The error is that of the disk; the file that was there is whole."""
    with small_disk_at(tmp_path / "small", megabytes=2) as disk:
        target = disk / "state.json"
        write_atomically(target, b"earlier")
        fill(disk, leave=65536)

        with pytest.raises(OSError, match="No space left") as caught:
            write_atomically(target, b"x" * 1_000_000)

        assert caught.value.errno == errno.ENOSPC
        assert target.read_bytes() == b"earlier"
        assert names(disk) == ["ballast", "state.json"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """kill -9 at any moment: the file is all of one write, and what is left over is in the folder for drafts."""
    target, drafts = tmp_path / "blob", tmp_path / "drafts"
    drafts.mkdir()
    seen = set()
    for moment in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, target, drafts], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not target.exists():
            assert writer.poll() is None
        threading.Event().wait(moment * 0.003)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()

        data = target.read_bytes()
        seen.add((len(data), data == data[:1] * len(data)))

    assert seen == {(4_000_000, True)}
    assert names(tmp_path) == ["blob", "drafts"]
    assert {path.name.split("-")[0].isdigit() for path in drafts.iterdir()} <= {True}


def test_two_writers_of_one_file_never_share_a_draft(tmp_path: Path) -> None:
    """Not even with the same process and thread id, as in two containers with one data directory."""
    target = tmp_path / "state.json"

    with written_atomically(target) as first, written_atomically(target) as second:
        first.write_bytes(b"of the first")
        second.write_bytes(b"of the second")
        assert first != second

    assert target.read_bytes() == b"of the first"
    assert names(tmp_path) == ["state.json"]


@pytest.mark.parametrize("name", ["state.json", "n" * 255])
def test_a_draft_that_a_killed_writer_left_is_removed(tmp_path: Path, name: str) -> None:
    """A draft whose writer is at work is locked and stays; other hidden files are no drafts of the target."""
    target = tmp_path / name
    start = f".{name}."[-239:]
    left, busy = tmp_path / f"{start}{'a' * 16}", tmp_path / f"{start}{'b' * 16}"
    others = [tmp_path / f"{start}{end}" for end in ("0123", "g" * 16, "0" * 15 + "~")]
    others.append(tmp_path / f".other.{'a' * 16}")
    for path in (left, busy, *others):
        path.write_bytes(b"half")

    with busy.open("rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        write_atomically(target, b"whole")

    assert names(tmp_path) == sorted(path.name for path in (target, busy, *others))
    assert target.read_bytes() == b"whole"


def test_a_draft_that_a_killed_tool_left_is_removed_once_it_is_a_day_old(tmp_path: Path) -> None:
    """A tool may replace the file that is locked: only its age shows that nothing writes it."""
    target = tmp_path / "disk.qcow2"
    old, young = (tmp_path / f".disk.qcow2.tool-{digit * 16}" for digit in "ab")
    for path in (old, young):
        path.write_bytes(b"half")
    day = time.time() - 90_000
    os.utime(old, (day, day))

    with written_atomically(target) as draft:
        assert draft.name[:-16] == young.name[:-16]
        draft.write_bytes(b"whole")

    assert names(tmp_path) == sorted([young.name, "disk.qcow2"])


def test_writers_in_other_pid_namespaces_do_not_meet(tmp_path: Path) -> None:
    """Four containers on one data directory, in which all processes and threads have the same ids."""
    target = tmp_path / "state.json"
    script = SHARED_WRITER.format(target=str(target))
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", script]

    writers = [subprocess.Popen([*argv, letter], stderr=subprocess.PIPE) for letter in "abcd"]
    ends = [(writer.communicate(timeout=120)[1], writer.returncode) for writer in writers]

    assert ends == [(b"", 0)] * 4
    data = target.read_bytes()
    assert (len(data), data == data[:1] * len(data)) == (100_000, True)
    assert names(tmp_path) == ["state.json"]


def test_a_tool_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """What a failed tool has written so far never gets the name, and is gone."""
    target = tmp_path / "disk.qcow2"

    with pytest.raises(RuntimeError), written_atomically(target) as draft:
        draft.write_bytes(b"half")
        raise RuntimeError("the tool failed")

    assert names(tmp_path) == []


def test_content_and_name_are_flushed_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file before its name: a power cut between both must not leave an empty file under the name."""
    flushed: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        flushed.append(f"{kind}, name {'there' if (tmp_path / 'name').exists() else 'absent'}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_atomically(tmp_path / "name", b"x")
    (tmp_path / "name").unlink()
    (tmp_path / "made").write_bytes(b"y")
    move_atomically(tmp_path / "made", tmp_path / "name", mode=0o400)

    assert flushed == ["file, name absent", "folder, name there"] * 2
    assert mode(tmp_path / "name") == 0o400


def by_hand(source: Path) -> list[str]:
    """The calls in a module that rename or flush a file."""
    found = []
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
            # the replace() of a text takes two arguments, that of an instant named ones
            one = len(node.args) == 1 and not node.keywords
            if (of_os and node.func.attr in ("replace", "rename", "renames", "fsync", "fdatasync")) or (
                not of_os and one and node.func.attr in ("replace", "rename")
            ):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_files_are_made_durable_in_one_place() -> None:
    """A draft, a flush and a rename by hand forget one of the three sooner or later: files.py has them all."""
    found = {str(path.relative_to(SOURCE)): by_hand(path) for path in SOURCE.rglob("*.py")}

    assert {name: calls for name, calls in found.items() if calls and name not in BY_HAND} == {}
    assert [name for name in BY_HAND if not found[name]] == []
