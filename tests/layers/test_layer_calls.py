"""Layers are unpacked and written in sealed processes: what such a process does harms nothing else."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagesmith.layers import sealed_layers
from imagesmith.layers.entries import EntryKind, LayerEntry, LayerError
from imagesmith.layers.layer_calls import LayerCalls
from imagesmith.layers.tar_headers import END, header
from imagesmith.layers.unpacker import UnpackLimits
from imagesmith.layers.writer import WriterSettings
from imagesmith.processes import Cancellation, Cancelled
from testing.leaks import descendants

pytestmark = pytest.mark.tool
SECONDS = 30.0


@pytest.fixture(scope="module")
def calls() -> Iterator[LayerCalls]:
    made = LayerCalls()
    with made.program.used():
        yield made


def entry(kind: EntryKind, path: bytes, **members: object) -> bytes:
    return header(LayerEntry(kind, path, 0o640, **members))  # type: ignore[arg-type]


def blob_of(folder: Path, archive: bytes) -> Path:
    path = folder / "blob"
    path.write_bytes(archive)
    return path


def unpack(calls: LayerCalls, blob: Path, target: Path, *lowers: Path, ids: int = 65536) -> None:
    target.mkdir()
    calls.unpack(blob, target, lowers=lowers, limits=UnpackLimits(ids=ids))


def test_files_are_numbered_from_0_and_devices_are_made(calls: LayerCalls, tmp_path: Path) -> None:
    """As the image says, although the process that writes them has other ids and may make no device."""
    archive = b"".join((
        entry(EntryKind.FILE, b"a", uid=65535, gid=42),
        entry(EntryKind.CHARACTER_DEVICE, b"dev/zero", uid=5, device=(1, 5)),
        entry(EntryKind.BLOCK_DEVICE, b"dev/disk", device=(7, 9)),
        END,
    ))  # fmt: skip
    unpack(calls, blob_of(tmp_path, archive), tmp_path / "target")
    found = {
        str(path.relative_to(tmp_path / "target")): (path.lstat().st_uid, path.lstat().st_gid)
        for path in (tmp_path / "target").rglob("*")
    }
    assert found == {"a": (65535, 42), "dev": (0, 0), "dev/zero": (5, 0), "dev/disk": (0, 0)}
    assert os.lstat(tmp_path / "target/dev/zero").st_rdev == os.makedev(1, 5)


def test_an_id_that_only_the_limits_allow_is_refused(calls: LayerCalls, tmp_path: Path) -> None:
    """The kernel refuses it to the process, whatever the unpacker believes."""
    blob = blob_of(tmp_path, entry(EntryKind.FILE, b"a", uid=65536) + END)
    with pytest.raises(LayerError, match="beyond the ids of a build"):
        unpack(calls, blob, tmp_path / "target", ids=1 << 32)


def sealed_processes(calls: LayerCalls) -> list[int]:
    """The innermost processes of running calls."""
    found = descendants(calls.program.pid)
    return [pid for pid in found if not descendants(pid)]


def when(happens: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("end", ["killed", "cancelled"])
def test_a_process_that_ends_while_it_unpacks_leaves_the_rest_as_it_was(
    calls: LayerCalls, tmp_path: Path, end: str
) -> None:
    """Its layer fails in words, others that are unpacked meanwhile are not touched, and it holds nothing."""
    endless, cancellation = tmp_path / "endless", Cancellation()
    endless.write_bytes(entry(EntryKind.FILE, b"a", size=1 << 40))
    os.truncate(endless, 1 << 41)
    failures: list[BaseException] = []

    def work() -> None:
        (tmp_path / "first").mkdir()
        try:
            calls.unpack(
                endless, tmp_path / "first", lowers=(), limits=UnpackLimits(), cancellation=cancellation
            )  # fmt: skip
        except (LayerError, Cancelled) as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    when(lambda: (tmp_path / "first/a").exists())
    unpack(calls, blob_of(tmp_path, entry(EntryKind.FILE, b"b") + END), tmp_path / "second")
    when(lambda: len(sealed_processes(calls)) == 1)
    (process,) = sealed_processes(calls)
    if end == "killed":
        os.kill(process, signal.SIGKILL)
    else:
        cancellation.cancel()
    thread.join(SECONDS)
    assert len(failures) == 1 and isinstance(failures[0], LayerError if end == "killed" else Cancelled)
    assert end != "killed" or "was killed" in str(failures[0])
    when(lambda: not sealed_processes(calls))
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["b"]


def test_a_layer_is_written_from_folders_that_it_cannot_change(calls: LayerCalls, tmp_path: Path) -> None:
    """The layers below are read-only; the upper one is changed only where its times are settled."""
    for name in ("upper", "lower"):
        (tmp_path / name).mkdir(mode=0o755)
        (tmp_path / name / "d").mkdir()
    (tmp_path / "upper/d/new").write_text("text")
    os.utime(tmp_path / "upper/d/new", ns=(5, 1_500_000_000))
    for settle, expected in ((False, 1_500_000_000), (True, 1_000_000_000)):
        with (tmp_path / f"blob-{settle}").open("xb") as blob:
            made = calls.pack(
                tmp_path / "upper", blob, lowers=[tmp_path / "lower"], settings=WriterSettings(settle=settle)
            )
        assert made.entries == 2 and made.blob_size == (tmp_path / f"blob-{settle}").stat().st_size
        assert (tmp_path / "upper/d/new").stat().st_mtime_ns == expected


def test_nothing_of_an_image_is_read_by_the_server() -> None:
    """The modules that read archives are called by the sealed side only; the server makes layers of no file."""
    source = Path(sealed_layers.__file__).parents[1]
    readers = ("unpack_layer(", "write_layer(", "Decompressed(", "pack_archive(", "pack_layer(", "TarReader(")
    allowed = {"sealed_layers.py", "compression.py", "unpacker.py", "writer.py", "tar_reader.py", "layer_calls.py"}
    allowed |= {"layer_listing.py"}
    callers = {
        path.name for path in source.rglob("*.py") if any(word in path.read_text() for word in readers)
    } - allowed  # fmt: skip
    assert callers == set()
