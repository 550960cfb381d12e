"""Cloud images by path or URL: taken only when the bytes are those of the checksum."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagesmith.artifacts.bases import ParentError
from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.machine_bases import MachineBases
from imagesmith.managed.bases import managed_base
from imagesmith.processes import Cancellation, Cancelled
from testing.disks import raw_disk

pytestmark = pytest.mark.tool


@pytest.fixture
def disks(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "disks")


@pytest.fixture
def bases(disks: DiskStore, tmp_path: Path) -> MachineBases:
    return MachineBases(disks, folder=tmp_path / "bases")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A web server on the folder of a raw disk, `disk.raw`."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_paths_and_urls_give_the_same_disk(
    bases: MachineBases, disks: DiskStore, served: str, tmp_path: Path, algorithm: str
) -> None:
    """A path, a file: URL and an http: URL with the right checksum are kept once."""
    data = raw_disk(tmp_path / "disk.raw")
    checksum = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    lines: list[str] = []
    sources = [str(tmp_path / "disk.raw"), f"file://{tmp_path}/disk.raw", f"{served}/disk.raw"]
    found = {bases.add(source, checksum, on_line=lines.append).digest for source in sources}
    assert disks.digests() == sorted(found) and len(found) == 1
    assert any("stored as sha256:" in line and "8.0 MiB for a guest" in line for line in lines)


def test_other_bytes_than_promised_are_refused(bases: MachineBases, disks: DiskStore, tmp_path: Path) -> None:
    """The failure tells both checksums; nothing is kept and no download is left."""
    raw_disk(tmp_path / "disk.raw")
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(ParentError, match=f"its sha256 is [0-9a-f]{{64}}, expected {wrong}"):
        bases.add(str(tmp_path / "disk.raw"), wrong, on_line=print)
    assert disks.digests() == [] and list((tmp_path / "bases").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "checksum", "words"),
    [
        ("/nowhere/disk", f"sha256:{'0' * 64}", "/nowhere/disk cannot be read"),
        ("http://127.0.0.1:9/disk", f"sha256:{'0' * 64}", "cannot be read"),
        ("/nowhere/disk", "md5:abc", "is not a checksum"),
    ],
)
def test_what_cannot_be_had_is_named(bases: MachineBases, source: str, checksum: str, words: str) -> None:
    """A missing file, a closed port and an unknown checksum are told apart."""
    with pytest.raises(ParentError, match=words):
        bases.add(source, checksum, on_line=print)


def test_adding_can_be_cancelled(bases: MachineBases, disks: DiskStore, tmp_path: Path) -> None:
    """A cancelled addition keeps nothing."""
    data = raw_disk(tmp_path / "disk.raw")
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        bases.add(
            str(tmp_path / "disk.raw"), f"sha256:{hashlib.sha256(data).hexdigest()}", on_line=print,
            cancellation=cancellation,
        )  # fmt: skip
    assert disks.digests() == []


def test_an_unreachable_mirror_of_a_machine_base_is_named(disks: DiskStore, tmp_path: Path) -> None:
    """The error says which mirror, what apt said, and where it is set; no work folder is left."""
    base = managed_base("debian-12-x86", "machine")
    assert base is not None and managed_base("debian-12-x86") is None
    bases = MachineBases(disks, folder=tmp_path / "bases", debian_mirror="http://127.0.0.1:9/debian")
    with pytest.raises(ParentError, match=r"(?s)http://127\.0\.0\.1:9/debian.*debian_mirror"):
        bases.managed(base, on_line=lambda _: None)
    assert list((tmp_path / "bases").glob("bootstrap-*")) == []
