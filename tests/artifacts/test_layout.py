"""The embedded OCI layout: one digest everywhere, nothing twice, nothing half."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.processes import Cancellation, Cancelled
from testing.containers import opened_storage
from testing.layouts import MakeImage, check_layout

pytestmark = pytest.mark.tool


def test_an_exported_image_is_described(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str
) -> None:
    """Digest, id, size, layers, labels and variables are those of the image."""
    artifact = layout.export_image(container_storage, tiny_image, "tiny:1")
    assert artifact.image_id == tiny_image and artifact.labels == {"tiny": "1"}
    assert "TINY=yes" in artifact.environment and (artifact.os, artifact.architecture) == ("linux", "amd64")
    assert layout.resolve("tiny:1") == layout.resolve(artifact.digest) == artifact.digest
    assert layout.read(artifact.digest) == artifact and layout.references() == {"tiny:1": artifact.digest}
    manifest = layout.manifest(artifact.digest)
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert artifact.size == manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
    assert layout.total_size() == artifact.size + len(layout.manifest_bytes(artifact.digest))
    check_layout(layout)


def test_other_tools_read_the_layout(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str
) -> None:
    """skopeo finds the image by its name and agrees about the digest."""
    artifact = layout.export_image(container_storage, tiny_image, "tiny")
    done = container_storage.tool(["skopeo", "inspect", f"oci:{layout.path}:tiny"], what="reading")
    assert json.loads(done.stdout)["Digest"] == artifact.digest


def test_the_same_image_has_the_same_digest_every_time(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str, tmp_path: Path
) -> None:
    """Exported again, here or elsewhere, an image is the same bytes."""
    first = layout.export_image(container_storage, tiny_image, "a")
    assert layout.export_image(container_storage, tiny_image, "b").digest == first.digest
    assert OciLayout(tmp_path / "other").export_image(container_storage, tiny_image).digest == first.digest
    assert set(layout.references()) == {"a", "b"}


def test_a_known_layer_is_neither_compressed_nor_kept_again(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str, make_image: MakeImage
) -> None:
    """A second image on the same base adds its own layer only."""
    base = layout.export_image(container_storage, tiny_image, "base")
    before = layout.total_size()
    artifact = layout.export_image(container_storage, make_image("one"), "one")
    assert artifact.layers[: len(base.layers)] == base.layers
    assert layout.total_size() - before < 10_000 < base.size
    check_layout(layout)


def test_an_image_comes_back_into_an_empty_storage(
    layout: OciLayout, container_storage: ContainerStorage, make_image: MakeImage, tmp_path: Path
) -> None:
    """The layout alone is enough to build on an image again, under the same id."""
    image = make_image("restored")
    artifact = layout.export_image(container_storage, image, "x")
    with opened_storage(tmp_path) as other:
        assert layout.ensure_in_storage(other, artifact.digest) == image
        assert layout.ensure_in_storage(other, artifact.digest) == image
        with layout.rootfs(other, artifact.digest, name="look") as place, Root(place) as root:
            assert root.read("/text") == b"restored"
        assert other.containers() == ()


def test_a_name_moves_to_the_newest_image(
    layout: OciLayout, container_storage: ContainerStorage, make_image: MakeImage
) -> None:
    """One name, one image; the earlier one stays reachable by its digest until it is deleted."""
    first = layout.export_image(container_storage, make_image("1"), "latest")
    second = layout.export_image(container_storage, make_image("2"), "latest")
    assert layout.resolve("latest") == second.digest
    layout.tag(second.digest, "also")
    assert layout.references() == {"latest": second.digest, "also": second.digest}
    assert layout.delete(first.digest) is False
    with pytest.raises(LayoutError, match="not in the layout"):
        layout.tag("sha256:" + "0" * 64, "x")


def test_deleting_frees_what_nothing_else_needs(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str, make_image: MakeImage
) -> None:
    """Shared layers stay with the image that needs them; the rest goes."""
    base = layout.export_image(container_storage, tiny_image, "base")
    size = layout.total_size()
    artifact = layout.export_image(container_storage, make_image("gone"), "gone")
    assert layout.delete("gone") and not layout.delete("gone")
    freed = layout.collect_garbage()
    assert freed > 0 and layout.total_size() == size
    check_layout(layout)
    assert layout.resolve(artifact.digest) is None
    assert layout.delete(base.digest) and layout.collect_garbage() > 0 and layout.total_size() == 0
    # and the layers that were forgotten are written anew when they come back
    layout.export_image(container_storage, tiny_image, "again")
    check_layout(layout)


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "x" * 300, "a\nb", 'a"b'])
def test_bad_names_are_refused_and_change_nothing(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str, name: str
) -> None:
    """A name is printable and bounded."""
    with pytest.raises(LayoutError, match="name"):
        layout.export_image(container_storage, tiny_image, name)
    assert layout.references() == {}


@pytest.mark.parametrize("digest", ["", "sha256:..", "../../etc/passwd", "sha256:" + "g" * 64])
def test_what_is_no_digest_is_never_a_path(layout: OciLayout, digest: str) -> None:
    """Digests are checked before they become file names."""
    with pytest.raises(LayoutError, match="is not a digest"):
        layout.read(digest)


def test_a_damaged_blob_is_noticed(layout: OciLayout, container_storage: ContainerStorage, tiny_image: str) -> None:
    """A manifest that does not have its digest any more is an error, not an image."""
    artifact = layout.export_image(container_storage, tiny_image, "x")
    blob = layout.path / "blobs/sha256" / artifact.digest.removeprefix("sha256:")
    blob.write_bytes(blob.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    with pytest.raises(LayoutError, match="damaged"):
        layout.read(artifact.digest)


def test_an_image_that_is_not_in_the_storage_changes_nothing(
    layout: OciLayout, container_storage: ContainerStorage
) -> None:
    """A failed export leaves no image and no work."""
    with pytest.raises(StorageError):
        layout.export_image(container_storage, "0" * 64, "x")
    assert layout.references() == {} and list((layout.path / "tmp").iterdir()) == []


def test_a_cancelled_export_changes_nothing(
    layout: OciLayout, container_storage: ContainerStorage, make_image: MakeImage
) -> None:
    """Cancelled under way, the layout is as before."""
    large = make_image("".join(random.Random(1).choices("0123456789abcdef", k=8_000_000)))
    cancellation = Cancellation()
    work = layout.path / "tmp"

    def cancel_under_way() -> None:
        while not any(work.iterdir()):
            time.sleep(0.001)
        cancellation.cancel()

    watcher = threading.Thread(target=cancel_under_way)
    watcher.start()
    with pytest.raises(Cancelled):
        layout.export_image(container_storage, large, "x", cancellation=cancellation)
    watcher.join()
    assert layout.references() == {} and list((layout.path / "tmp").iterdir()) == []


def test_a_full_disk_leaves_the_images_that_are_there_and_works_again_with_space(
    container_storage: ContainerStorage, tiny_image: str, tmp_path: Path, make_image: MakeImage
) -> None:
    """Out of space during an export: an error that says so, no half image, and no lost one."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(place)], check=True)
    try:
        layout = OciLayout(place / "oci")
        kept = layout.export_image(container_storage, tiny_image, "kept")
        large = make_image("".join(random.Random(1).choices("0123456789abcdef", k=8_000_000)))
        with pytest.raises(StorageError, match=r"[Nn]o space left"):
            layout.export_image(container_storage, large, "large")
        assert layout.references() == {"kept": kept.digest}
        check_layout(layout)
        subprocess.run(["mount", "-o", "remount,size=60m", str(place)], check=True)
        layout.export_image(container_storage, large, "large")
        check_layout(layout)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_builds_that_export_at_the_same_time_all_arrive(
    layout: OciLayout, container_storage: ContainerStorage, make_image: MakeImage
) -> None:
    """Exports, names and a collection side by side: every image is there and whole afterwards."""
    images = {f"image-{number}": make_image(str(number)) for number in range(4)}
    errors: list[Exception] = []

    def export(name: str) -> None:
        try:
            layout.export_image(container_storage, images[name], name)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=export, args=(name,)) for name in images]
    threads.append(threading.Thread(target=layout.collect_garbage))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(layout.references()) == set(images)
    check_layout(layout)


KILLED = """
import sys
from pathlib import Path
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage
storage = ContainerStorage.open(Path(sys.argv[1]))
layout = OciLayout(Path(sys.argv[2]))
print("ready", flush=True)
layout.export_image(storage, sys.argv[3], "killed")
"""


def test_kill_9_at_any_moment_leaves_no_half_image(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str
) -> None:
    """Killed early, late or in between: the layout is readable and takes the image afterwards."""
    arguments = [str(container_storage.root), str(layout.path), tiny_image]
    chance = random.Random(7)
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.8))
            process.kill()
        check_layout(layout)
        layout.delete("killed")
        layout.collect_garbage()
        assert layout.total_size() == 0
        assert not list((layout.path / "tmp").iterdir())
    layout.export_image(container_storage, tiny_image, "alive")
    check_layout(layout)


def test_work_of_a_live_export_is_not_swept_away(layout: OciLayout) -> None:
    """A collection leaves alone what another process is busy with."""
    with layout.files.work_folder() as work:
        (work / "half").write_text("x")
        layout.collect_garbage()
        assert (work / "half").exists()
    (layout.path / "tmp" / "dead").mkdir()
    layout.collect_garbage()
    assert list((layout.path / "tmp").iterdir()) == []


class Names(RuleBasedStateMachine):
    """Names, moved and deleted in any order, always lead to whole images."""

    shared: OciLayout
    digests: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        for digest in self.digests:
            self.shared.tag(digest, f"keep-{digest[-4:]}")
        for name in set(self.shared.references()) - {f"keep-{digest[-4:]}" for digest in self.digests}:
            self.shared.delete(name)

    @rule(name=st.sampled_from("abc"), which=st.integers(0, 1))
    def tag(self, name: str, which: int) -> None:
        self.shared.tag(self.digests[which], name)
        self.names[name] = self.digests[which]

    @rule(name=st.sampled_from("abcd"))
    def delete(self, name: str) -> None:
        assert self.shared.delete(name) == (self.names.pop(name, None) is not None)

    @rule()
    def collect(self) -> None:
        self.shared.collect_garbage()

    @invariant()
    def names_lead_to_images(self) -> None:
        found = {name: digest for name, digest in self.shared.references().items() if not name.startswith("keep-")}
        assert found == self.names
        for digest in self.digests:
            self.shared.read(digest)


def test_names_in_any_order(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str, make_image: MakeImage
) -> None:
    """A model of names against the layout, in hypothesis' orders."""
    digests = tuple(
        layout.export_image(container_storage, image, f"keep-{number}").digest
        for number, image in enumerate((tiny_image, make_image("other")))
    )

    class Machine(Names):
        pass

    Machine.shared, Machine.digests = layout, digests
    rules = settings(
        max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Machine, settings=rules)


def test_environment_of_the_caller_is_not_needed(
    layout: OciLayout, container_storage: ContainerStorage, tiny_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export works without HOME and with nothing but a path in the environment."""
    for name in list(os.environ):
        if name != "PATH":
            monkeypatch.delenv(name)
    layout.export_image(container_storage, tiny_image, "x")
