"""The disk store: what is taken, what is refused, and what comes out again."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from imagesmith.artifacts.disks import DiskError, DiskStore, examine
from imagesmith.workflows.failures import explain, is_disk_full
from small_disk import fill, small_disk_at

pytestmark = pytest.mark.tool
MIB = 1024 * 1024


def raw_disk(path: Path, *, mebibytes: int = 8) -> bytes:
    """A raw disk with a boot signature and some content."""
    data = bytearray(mebibytes * MIB)
    data[510:512] = b"\x55\xaa"
    data[MIB : MIB + 4096] = os.urandom(4096)
    path.write_bytes(data)
    return bytes(data)


def qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "disks")


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_disk_is_kept_under_the_digest_of_its_bytes(store: DiskStore, tmp_path: Path, form: str) -> None:
    """Raw and qcow2 disks become read-only qcow2 files named by digest, with the guest's bytes unchanged."""
    data = raw_disk(tmp_path / "disk.raw")
    qemu_img("convert", "-O", form, str(tmp_path / "disk.raw"), str(tmp_path / "given"))
    disk = store.take(tmp_path / "given")
    assert disk.digest == f"sha256:{hashlib.sha256(disk.path.read_bytes()).hexdigest()}"
    assert store.get(disk.digest) == disk and store.digests() == [disk.digest]
    assert disk.virtual_size == len(data) and disk.path.stat().st_mode & 0o222 == 0
    store.export(disk.digest, tmp_path / "back.raw", "raw")
    assert (tmp_path / "back.raw").read_bytes() == data


@pytest.mark.parametrize(("form", "name"), [("vmdk", "vmdk"), ("vhd", "vpc"), ("qcow2", "qcow2")])
def test_an_exported_disk_holds_the_same_bytes(store: DiskStore, tmp_path: Path, form: str, name: str) -> None:
    """Every format reads back to what the guest saw, and nothing half written is left."""
    data = raw_disk(tmp_path / "disk.raw")
    disk = store.take(tmp_path / "disk.raw")
    target = tmp_path / f"out.{form}"
    store.export(disk.digest, target, form)
    qemu_img("convert", "-f", name, "-O", "raw", str(target), str(tmp_path / "back.raw"))
    assert (tmp_path / "back.raw").read_bytes() == data
    assert [place.name for place in tmp_path.iterdir() if place.name.endswith(".part")] == []


def test_an_overlay_is_captured_with_what_it_stands_on(store: DiskStore, tmp_path: Path) -> None:
    """The captured disk needs no other file and is compressed."""
    data = raw_disk(tmp_path / "disk.raw")
    parent = store.take(tmp_path / "disk.raw")
    overlay = tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(parent.path), str(overlay))
    subprocess.run(["qemu-io", "-c", "write -P 7 2M 4k", str(overlay)], check=True, capture_output=True)
    captured = store.capture(overlay)
    store.remove(parent.digest)
    store.export(captured.digest, tmp_path / "back.raw", "raw")
    expected = data[: 2 * MIB] + b"\7" * 4096 + data[2 * MIB + 4096 :]
    assert (tmp_path / "back.raw").read_bytes() == expected
    assert captured.size < len(data) // 4


def test_disks_that_would_read_other_files_are_refused(store: DiskStore, tmp_path: Path) -> None:
    """A backing file, an external data file, encryption: named, before any tool reads the disk."""
    secret = tmp_path / "secret"
    raw_disk(secret)
    backed, data, sealed = tmp_path / "backed", tmp_path / "data", tmp_path / "sealed"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(backed))
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'other'}", str(data), "1M")
    qemu_img(
        "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x",
        "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", str(sealed), "1M",
    )  # fmt: skip
    for path, words in ((backed, "names another file"), (data, "names another file"), (sealed, "is encrypted")):
        with pytest.raises(DiskError, match=words):
            store.take(path)
    assert store.digests() == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"KDMV" + bytes(508), "is a vmdk disk.*qemu-img convert"),
        (b"# Disk DescriptorFile\n" + bytes(490), "is a vmdk disk"),
        (b"conectix" + bytes(504), "is a vhd disk"),
        (b"vhdxfile" + bytes(504), "is a vhdx disk"),
        (b"<html>" + bytes(506), "is no disk"),
        (b"", "is no disk"),
        (b"QFI\xfb" + (9).to_bytes(4, "big") + bytes(504), "version 9 is not known"),
        (b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + b"\xff" * 8 + bytes(480), "at most"),
    ],
)
def test_what_is_no_disk_is_said_so(tmp_path: Path, content: bytes, words: str) -> None:
    """Other formats are named with what to do, odd bytes and sizes are refused."""
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(DiskError, match=words):
        examine(tmp_path / "given")


def test_failures_name_the_disk_and_leave_nothing(store: DiskStore, tmp_path: Path) -> None:
    """Unknown digests, formats and targets are errors; drafts of dead processes are swept, others stay."""
    missing = "sha256:" + "0" * 64
    for call in (lambda: store.get(missing), lambda: store.export(missing, tmp_path / "x", "raw")):
        with pytest.raises(DiskError, match="is not in"):
            call()
    with pytest.raises(DiskError, match="no digest"):
        store.get("sha256:../../etc/passwd")
    raw_disk(tmp_path / "disk.raw")
    disk = store.take(tmp_path / "disk.raw")
    with pytest.raises(DiskError, match="no format"):
        store.export(disk.digest, tmp_path / "x", "iso")
    with pytest.raises(DiskError, match="failed"):
        store.export(disk.digest, tmp_path / "no" / "x", "raw")
    dead, alive = store.folder / "drafts/999999999-a", store.folder / f"drafts/{os.getpid()}-b"
    dead.touch()
    alive.touch()
    assert store.sweep() == [dead.name] and alive.exists()


def test_a_full_disk_leaves_no_half_image(tmp_path: Path) -> None:
    """The failure is known as one of space, for an image that is captured, taken, enlarged or exported."""
    (tmp_path / "disk.raw").write_bytes(bytes(510) + b"\x55\xaa" + os.urandom(12 * MIB))
    overlay = tmp_path / "overlay.qcow2"
    with small_disk_at(tmp_path / "small", megabytes=32) as place:
        store = DiskStore(place / "disks")
        parent = store.take(tmp_path / "disk.raw")
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(parent.path), str(overlay))
        ballast = fill(place, leave=4 * MIB)
        for work in (
            lambda: store.capture(overlay),
            lambda: store.take(tmp_path / "disk.raw"),
            lambda: store.enlarge(parent.digest, 64 * MIB),
            lambda: store.export(parent.digest, place / "out.raw", "raw"),
        ):
            with pytest.raises((DiskError, OSError)) as failed:
                work()
            assert is_disk_full(failed.value), failed.value
            assert "no space is left on the disk" in explain(failed.value, "making the image", free=0).reason
            assert sorted(item.name for item in place.iterdir()) == [ballast.name, "disks"]
            assert list((store.folder / "drafts").iterdir()) == [] and store.digests() == [parent.digest]


def test_a_changed_disk_is_noticed(store: DiskStore, tmp_path: Path) -> None:
    """A disk whose bytes do not fit its name is damaged; one that was cut is too."""
    raw_disk(tmp_path / "disk.raw")
    disk = store.take(tmp_path / "disk.raw")
    store.check(disk.digest)
    disk.path.chmod(0o600)
    with disk.path.open("r+b") as file:
        file.truncate(disk.size - 1)
    with pytest.raises(DiskError, match=f"{disk.digest} is damaged: its bytes have the digest sha256:"):
        store.check(disk.digest)
