"""The disk store: what is taken, what is refused, and what comes out again."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from imagesmith.artifacts.disks import DiskError, DiskStore, examine
from imagesmith.builds.failures import explain, is_disk_full
from testing.disks import MIB, raw_disk
from testing.small_disk import fill, small_disk_at

pytestmark = pytest.mark.tool


def qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


def encrypt(disk: Path, how: str, *more: str) -> None:
    """Make an encrypted disk. For LUKS qemu-img measures how fast it is, which fails now and then under load."""
    options = ",".join((f"encrypt.format={how}", "encrypt.key-secret=s", *more))
    for tries_left in (4, 3, 2, 1, 0):
        try:
            return qemu_img(
                "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o", options, str(disk), "1M"
            )
        except subprocess.CalledProcessError:
            if not tries_left:
                raise
    return None


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


def told_by(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", ["web 1.vmdk", "web-1.0.vmdk", 'a "b".vmdk', "größe.vmdk"])
def test_a_vmdk_names_itself_and_hardware_of_its_time(store: DiskStore, tmp_path: Path, name: str) -> None:
    """Its descriptor knows no temporary file; other readers than QEMU take it, from a store and from a folder."""
    raw_disk(tmp_path / "disk.raw")
    disk = store.take(tmp_path / "disk.raw")
    target = tmp_path / "out" / name
    target.parent.mkdir()
    store.export(disk.digest, target, "vmdk")
    with store.exported(disk.digest, "export-ami-1.vmdk", "vmdk") as whole:
        texts = {name: target.read_bytes(), "export-ami-1.vmdk": whole.read_bytes()}
        seen = told_by("vmdkinfo", str(whole))
    for wanted, data in texts.items():
        descriptor = data[: 64 * 1024]
        inside = wanted if wanted.isascii() and " " not in wanted else "disk.vmdk"
        assert f' SPARSE "{inside}"'.encode() in descriptor
        assert b'ddb.adapterType = "lsilogic"' in descriptor and b'ddb.virtualHWVersion = "17"' in descriptor
        assert str(os.getpid()).encode() not in descriptor and str(tmp_path).encode() not in data
    assert "Stream optimized" in seen and f"({8 * MIB} bytes)" in seen
    told_by("qemu-img", "check", "-q", str(target))
    assert "VMware4 disk image" in told_by("file", str(target))
    assert [place.name for place in target.parent.iterdir()] == [name] and list(
        (store.folder / "drafts").iterdir()
    ) == []


def test_a_vhd_is_of_the_disks_own_size_and_names_no_path(store: DiskStore, tmp_path: Path) -> None:
    """Another reader than QEMU sees a dynamic disk of all its bytes; nothing of this machine is in it."""
    data = raw_disk(tmp_path / "disk.raw", mebibytes=9)
    disk = store.take(tmp_path / "disk.raw")
    store.export(disk.digest, tmp_path / "out.vhd", "vhd")
    seen = told_by("vhdiinfo", str(tmp_path / "out.vhd"))
    assert "Dynamic" in seen and f"({len(data)} bytes)" in seen
    for form in ("vhd", "qcow2"):
        store.export(disk.digest, tmp_path / f"out.{form}", form)
        assert str(tmp_path).encode() not in (tmp_path / f"out.{form}").read_bytes()


@pytest.mark.parametrize(("gibibytes", "fits"), [(2040, True), (2041, False)])
def test_a_disk_that_no_vhd_can_hold_is_refused_before_it_is_read(
    store: DiskStore, tmp_path: Path, gibibytes: int, fits: bool
) -> None:
    """2040 GiB are the most; the reason has both sizes and what to take instead, and other formats go on."""
    qemu_img("create", "-q", "-f", "qcow2", str(tmp_path / "large"), f"{gibibytes}G")
    disk = store.take(tmp_path / "large")
    if fits:
        store.export(disk.digest, tmp_path / "out.vhd", "vhd")
        return
    with pytest.raises(DiskError, match=r"2041.0 GiB, and a vhd disk has at most 2040.0 GiB: export it as .*vmdk"):
        store.export(disk.digest, tmp_path / "out.vhd", "vhd")
    assert not (tmp_path / "out.vhd").exists()


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
    backed, data, sealed, old = (tmp_path / name for name in ("backed", "data", "sealed", "old"))
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(backed))
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'other'}", str(data), "1M")
    encrypt(old, "aes")
    encrypt(sealed, "luks", "encrypt.iter-time=10")
    named, encrypted = "depends on another file", "is encrypted"
    for path, words in ((backed, named), (data, named), (sealed, encrypted), (old, encrypted)):
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
        (b"<html>" + bytes(506), "is not a disk"),
        (b"", "is not a disk"),
        (b"QFI\xfb" + (9).to_bytes(4, "big") + bytes(504), "version 9 is not known"),
        (b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(16) + b"\xff" * 8 + bytes(480), "the limit is"),
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
    with pytest.raises(DiskError, match="is not the digest"):
        store.get("sha256:../../etc/passwd")
    raw_disk(tmp_path / "disk.raw")
    disk = store.take(tmp_path / "disk.raw")
    with pytest.raises(DiskError, match="not a format"):
        store.export(disk.digest, tmp_path / "x", "iso")
    with pytest.raises(DiskError, match="no/x cannot be written: No such file or directory"):
        store.export(disk.digest, tmp_path / "no" / "x", "raw")
    dead, stray = store.folder / "drafts/dead", store.folder / "drafts/stray"
    dead.mkdir()
    (dead / "in-use").touch()
    (dead / "out.vmdk").touch()
    stray.touch()
    with store.draft() as alive:
        assert store.remove_leftovers() == [dead.name, stray.name]
        assert list((store.folder / "drafts").iterdir()) == [alive.parent]
    assert list((store.folder / "drafts").iterdir()) == []


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
