"""Blobs that are missing, cut or altered: repaired from the bytes at hand, or named, and never part of an image."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imagesmith.artifacts.bases import Bases, ParentError
from imagesmith.artifacts.disks import DiskError, DiskStore
from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.intact import IntactFiles
from imagesmith.artifacts.layout import ImageArtifact, LayoutError, OciLayout
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.shared_kinds import FolderStore
from imagesmith.artifacts.storage import ContainerStorage
from testing.containers import opened_storage
from testing.layouts import MakeImage, check_layout

pytestmark = pytest.mark.tool


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def alter(path: Path) -> None:
    """One bit of another value; size and time of change by the owner stay."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        byte = file.read(1)
        file.seek(status.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARM = [Path.unlink, cut, empty, alter]
harmed = pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
Harm = Callable[[Path], None]


@pytest.fixture
def parent(layout: OciLayout, container_storage: ContainerStorage, tiny_image: str) -> ImageArtifact:
    return layout.export_image(container_storage, tiny_image, "parent")


@harmed
def test_a_layer_of_the_parent_is_written_again(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, make_image: MakeImage, harm: Harm
) -> None:
    """An image on a parent whose layer is damaged in the layout is whole, and so is the parent again."""
    harm(layout.files.path_of(parent.layers[0]))
    child = layout.export_image(container_storage, make_image(f"on {harm.__name__}"), "child")
    assert child.layers[0] == parent.layers[0]
    check_layout(layout)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"digest": "sha256:x"}', '{"digest": 5, "mediaType": 1, "size": 2}']
)
def test_a_damaged_record_of_a_layer_is_no_record(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, make_image: MakeImage, text: str
) -> None:
    """The layer is compressed once more."""
    (layout.files.layers / f"{parent.diff_ids[0].removeprefix('sha256:')}.json").write_text(text)
    layout.export_image(container_storage, make_image("on a record"), "child")
    check_layout(layout)
    assert layout.collect_garbage() == 0


def test_a_record_that_names_the_blob_of_another_layer_is_no_record(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, make_image: MakeImage
) -> None:
    """Both blobs are whole, so only what they hold tells: the layer that the image has is written again."""
    other = layout.export_image(container_storage, make_image("other"), "other")
    records = [
        layout.files.layers / f"{diff_id.removeprefix('sha256:')}.json"
        for diff_id in (parent.diff_ids[0], other.diff_ids[-1])
    ]
    kept = records[0].read_text()
    records[0].write_text(records[1].read_text())
    fresh = OciLayout(layout.path)
    child = fresh.export_image(container_storage, make_image("on a wrong record"), "child")
    assert child.layers[0] == parent.layers[0]
    assert records[0].read_text() == kept
    check_layout(fresh)


@pytest.mark.parametrize("content", [b"no gzip", b"\x1f\x8b\x08\x00 cut", b""])
def test_a_record_that_names_what_is_no_layer_is_no_record(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, make_image: MakeImage,
    content: bytes,
) -> None:  # fmt: skip
    """A blob that is whole and cannot be unpacked."""
    with layout.files.locked():
        digest = layout.files.put(content)
    record = layout.files.layers / f"{parent.diff_ids[0].removeprefix('sha256:')}.json"
    record.write_text(json.dumps({"digest": digest, "mediaType": "x", "size": len(content)}))
    child = layout.export_image(container_storage, make_image(f"on {len(content)}"), "child")
    assert child.layers[0] == parent.layers[0]
    check_layout(layout)


@harmed
def test_a_configuration_that_is_damaged_is_written_again(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, tiny_image: str, harm: Harm
) -> None:
    """And a manifest: an image that is exported once more is whole."""
    for digest in (parent.config_digest, parent.digest):
        harm(layout.files.path_of(digest))
    assert layout.export_image(container_storage, tiny_image, "parent").digest == parent.digest
    check_layout(layout)


@harmed
def test_a_kept_image_is_repaired_from_the_storage(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, harm: Harm
) -> None:
    """Its layers are compressed as they were, so they have their digests again; no other image appears."""
    layout.make_whole(parent.digest)
    for digest in (parent.config_digest, *parent.layers):
        harm(layout.files.path_of(digest))
    layout.make_whole(parent.digest, container_storage)
    check_layout(layout)
    assert layout.references() == {"parent": parent.digest} and len(layout.files.read_index()) == 1


@harmed
@pytest.mark.parametrize("part", ["layer", "config", "manifest"])
def test_a_kept_image_that_nothing_can_repair_is_no_parent(
    layout: OciLayout, parent: ImageArtifact, tmp_path: Path, harm: Harm, part: str
) -> None:
    """The blob is named, and what is wrong with it; nothing comes into the storage."""
    digest = {"layer": parent.layers[0], "config": parent.config_digest, "manifest": parent.digest}[part]
    harm(layout.files.path_of(digest))
    with opened_storage(tmp_path / "storage") as empty_storage:
        bases = Bases(empty_storage, layout, folder=tmp_path / "bases")
        with pytest.raises(ParentError, match=rf"{digest}.*(missing|damaged|not in)"):
            bases.image(parent.digest, "the-parent")
        with pytest.raises(LayoutError, match=digest):
            layout.make_whole(parent.digest, empty_storage)
        assert empty_storage.images() == ()


def test_an_index_that_names_what_is_gone_does_not_cost_other_images(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, make_image: MakeImage
) -> None:
    """While a manifest is missing nobody knows its layers, so none is removed: a backup can bring it back."""
    child = layout.export_image(container_storage, make_image("the child"), "child")
    kept = layout.manifest_bytes(child.digest)
    layout.files.path_of(child.digest).unlink()
    layout.collect_garbage()
    layout.files.path_of(child.digest).write_bytes(kept)
    check_layout(layout)
    layout.make_whole(child.digest)


@harmed
def test_a_damaged_blob_comes_again_from_the_store_of_all_hosts(
    layout: OciLayout, container_storage: ContainerStorage, parent: ImageArtifact, tmp_path: Path, harm: Harm
) -> None:
    """Manifest, configuration and layer; the same blob damaged there is written again by who has it."""
    exchange = Exchange(FolderStore(tmp_path / "shared"))
    exchange.publish_image(layout, parent.digest, "parent")
    shared = OciLayout(layout.path, obtain=exchange.obtain_image)
    for digest in (parent.digest, parent.config_digest, *parent.layers):
        harm(layout.files.path_of(digest))
        shared.make_whole(parent.digest)
    check_layout(layout)
    far = tmp_path / "shared" / "blobs" / parent.layers[0].replace(":", "/")
    harm(far)
    other = OciLayout(tmp_path / "other", obtain=exchange.obtain_image)
    with pytest.raises((LayoutError, SharedStoreError), match=parent.layers[0].removeprefix("sha256:")):
        other.make_whole(parent.digest)
    Exchange(FolderStore(tmp_path / "shared")).publish_image(layout, parent.digest, "parent")
    other.make_whole(parent.digest)
    check_layout(other)


@harmed
def test_a_damaged_disk_is_obtained_again_or_named(tmp_path: Path, harm: Harm) -> None:
    """A parent of machines and what is copied to other places is compared with its digest first."""
    (tmp_path / "given").write_bytes(os.urandom(510) + b"\x55\xaa" + os.urandom(2**20))
    store = DiskStore(tmp_path / "disks")
    disk = store.take(tmp_path / "given")
    assert store.whole(disk.digest) == disk
    exchange = Exchange(FolderStore(tmp_path / "shared"))
    exchange.publish_disk(store, disk.digest)
    harm(disk.path)
    with pytest.raises(DiskError, match=rf"{disk.digest} is (not in|damaged)"):
        store.whole(disk.digest)
    with pytest.raises(DiskError, match=disk.digest):
        store.export(disk.digest, tmp_path / "out.raw", "raw")
    sharing = DiskStore(tmp_path / "disks", obtain=exchange.obtain_disk)
    assert sharing.whole(disk.digest) == disk


def test_a_file_that_is_no_file_is_a_fault(tmp_path: Path) -> None:
    """A folder in its place is named, not followed."""
    path = tmp_path / "blob"
    path.write_bytes(b"x")
    folder(path)
    assert IntactFiles().fault(path, "sha256:" + "0" * 64).startswith("cannot be read")
