"""The layer store: layers shared and collected, commits, leases, what a killed process leaves."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import os
import signal
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd

from imagesmith.layers.entries import LayerError
from imagesmith.layers.layer_keys import layer_keys
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.layers.overlay_mounts import MOST_LAYERS, is_mounted
from imagesmith.layers.records import LayerBlob
from imagesmith.layers.store import LayerStore, NameInUse, NotInStore
from imagesmith.processes import Cancellation, Cancelled
from testing.trees import tree_of

pytestmark = pytest.mark.tool


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LayerStore]:
    made = LayerStore(tmp_path / "a, b:c" / "store")
    with made.calls.program.used():
        yield made
    for name in made.containers():
        made.remove(name)


def archive_of(files: dict[str, str], *, owner: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(text), 0o644, owner
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def kept_layer(store: LayerStore, archive: bytes, compression: str = "gzip") -> LayerBlob:
    """A layer of other people: its blob is in the store."""
    blob = {"gzip": gzip.compress(archive), "zstd": zstd.compress(archive), "": archive}[compression]
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    source = store.root.parent / "blob"
    source.write_bytes(blob)
    store.link_blob(source, digest)
    source.unlink()
    media_type = "application/vnd.oci.image.layer.v1.tar" + (f"+{compression}" if compression else "")
    return LayerBlob("sha256:" + hashlib.sha256(archive).hexdigest(), digest, len(blob), media_type)


def image_of(store: LayerStore, *layers: LayerBlob) -> str:
    config = {"rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}}
    return store.put_image(json.dumps(config).encode(), layers)


def contents(store: LayerStore) -> dict[str, int]:
    return {
        name: len([entry for entry in (store.root / name).iterdir() if not entry.name.startswith("unpack-")])
        for name in ("layers", "blobs", "images", "roots", "leases", "tmp")
    }


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_a_layer_of_any_compression_is_unpacked_and_its_blob_kept(store: LayerStore, compression: str) -> None:
    """Byte for byte, with its media type."""
    layer = kept_layer(store, archive_of({"a/b": "text"}), compression)
    store.create("work", b"{}", [layer])
    assert (store.mount("work") / "a/b").read_text() == "text"
    kept = store.blob(layer.digest).read_bytes()
    assert "sha256:" + hashlib.sha256(kept).hexdigest() == layer.digest


def test_a_commit_adds_a_layer_and_the_container_goes_on(store: LayerStore) -> None:
    """The upper folder becomes the layer's, and its blob is an archive of the changes that anyone can read."""
    store.create("work", b"{}", [])
    root = store.mount("work")
    (root / "one").write_text("1")
    first = store.commit("work", rules=LayerRules(1_700_000_000))
    assert is_mounted(root) and (root / "one").read_text() == "1"
    (root / "one").unlink()
    (root / "two").write_text("2")
    second = store.commit("work")
    assert first.added and second.added and second.layers == (first.added, second.added)
    assert store.commit("work").added is None
    assert sorted(path.name for path in root.iterdir()) == ["two"]
    data = gzip.decompress(store.blob(first.added.digest).read_bytes())
    assert "sha256:" + hashlib.sha256(data).hexdigest() == first.added.diff_id
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["one"]
    store.create("again", b"{}", second.layers)
    assert tree_of(store.mount("again")) == tree_of(root)


def test_the_last_commit_of_a_container_mounts_it_no_more(store: LayerStore) -> None:
    """What it committed is whole; the container can be mounted again by whoever keeps it."""
    store.create("work", b"{}", [])
    root = store.mount("work")
    (root / "one").write_text("1")
    made = store.commit("work", last=True)
    assert made.added is not None and not is_mounted(root)
    assert [path.name for path in store.mount("work").iterdir()] == ["one"]


def test_a_container_without_changes_makes_no_layer(store: LayerStore) -> None:
    """Not even one of the folders that the overlay has copied."""
    layer = kept_layer(store, archive_of({"etc/motd": "x"}))
    store.create("work", b"{}", [layer])
    root = store.mount("work")
    before = (root / "etc").stat().st_mtime_ns
    (root / "etc/new").write_text("x")
    (root / "etc/new").unlink()
    os.utime(root / "etc", ns=(before, before))
    assert store.commit("work").added is None


def test_the_root_of_an_image_keeps_its_mode(store: LayerStore) -> None:
    """A layer that says nothing of the root has that of the layers below; a change of it is in the layer."""
    store.create("base", b"{}", [])
    root = store.mount("base")
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    (root / "x").write_text("x")
    base = store.commit("base")
    root.chmod(0o1777)
    changed = store.commit("base")
    assert changed.added is not None
    store.create("changed", b"{}", changed.layers)
    assert stat.S_IMODE(store.mount("changed").stat().st_mode) == 0o1777
    store.create("before", b"{}", base.layers)
    assert stat.S_IMODE(store.mount("before").stat().st_mode) == 0o755


def test_an_image_does_not_decide_what_a_layer_of_another_leaves_open(store: LayerStore) -> None:
    """The same layer without its parent folders, over two bases: each has its own base's folder and file."""
    shared_archive = io.BytesIO()
    with tarfile.open(fileobj=shared_archive, mode="w") as tar:
        info = tarfile.TarInfo("etc/linked")
        info.type, info.linkname = tarfile.LNKTYPE, "etc/secret"
        tar.addfile(info)
    shared = kept_layer(store, shared_archive.getvalue())
    bases = []
    for text, mode in (("evil", 0o777), ("good", 0o700)):
        store.create(text, b"{}", [])
        root = store.mount(text)
        (root / "etc").mkdir()
        (root / "etc").chmod(mode)
        (root / "etc/secret").write_text(text)
        bases.append(store.commit(text).layers)
    for layers, text, mode in zip(bases, ("evil", "good"), (0o777, 0o700), strict=True):
        store.create(f"use-{text}", b"{}", [*layers, shared])
        root = store.mount(f"use-{text}")
        assert (root / "etc/linked").read_text() == text
        assert stat.S_IMODE((root / "etc").stat().st_mode) == mode


def test_layers_are_shared_and_collected_with_their_last_user(store: LayerStore) -> None:
    """An image, a container and a lease each keep what they name; nothing else is kept."""
    base, top = kept_layer(store, archive_of({"a": "1"})), kept_layer(store, archive_of({"b": "2"}))
    one, two = image_of(store, base), image_of(store, base, top)
    store.create("work", store.config(two), store.image(two).layers)
    assert contents(store)["layers"] == 2
    store.remove_image(two)
    assert contents(store) == {"layers": 2, "blobs": 2, "images": 1, "roots": 1, "leases": 0, "tmp": 0}
    store.remove("work")
    with store.lease([base, top]):
        store.collect()
        assert contents(store)["blobs"] == 2
    store.collect()
    assert contents(store) == {"layers": 1, "blobs": 1, "images": 1, "roots": 0, "leases": 0, "tmp": 0}
    store.remove_image(one)
    assert not any(contents(store).values())


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"x" * 600, "checksum"),
        (archive_of({"../a": ""}), "could lead out"),
        (archive_of({"a": "x"})[:700], "middle"),
        (archive_of({"a": "x"}, owner=65536), "'/a' belongs to 65536:0, beyond the ids of a build"),
        (archive_of({"a": "x"}, owner=2_000_000), "beyond the ids of a build: change its owner"),
    ],
)
def test_a_refused_layer_leaves_nothing(store: LayerStore, archive: bytes, words: str) -> None:
    """The text names the blob, and neither a folder nor a container is left."""
    layer = kept_layer(store, archive)
    with pytest.raises(LayerError, match=f"the layer {layer.digest} is refused: .*{words}"):
        store.create("work", b"{}", [layer])
    assert contents(store) == {"layers": 0, "blobs": 1, "images": 0, "roots": 0, "leases": 0, "tmp": 0}


def test_a_layer_with_another_digest_is_refused(store: LayerStore) -> None:
    """Whether the configuration names another archive or the blob was changed."""
    layer = kept_layer(store, archive_of({"a": "1"}))
    with pytest.raises(LayerError, match="is damaged: its digest is"):
        store.create("work", b"{}", [LayerBlob("sha256:" + "0" * 64, layer.digest, layer.size, layer.media_type)])
    store.blob(layer.digest).write_bytes(gzip.compress(archive_of({"a": "2"})))
    with pytest.raises(LayerError, match="is damaged: its digest is"):
        store.create("work", b"{}", [layer])


def test_an_archive_in_two_blobs_is_unpacked_twice(store: LayerStore) -> None:
    """What the process of one blob makes of it is seen by no image with another, whatever its archive is called."""
    archive = archive_of({"a": "text"})
    layers = [kept_layer(store, archive, compression) for compression in ("gzip", "zstd")]
    assert layers[0].diff_id == layers[1].diff_id
    for name, layer in zip(("one", "other"), layers, strict=True):
        store.create(name, b"{}", [layer])
    (store.root / "layers" / layer_keys(layers[:1])[0].removeprefix("sha256:") / "diff/a").write_text("hostile")
    assert [(store.mount(name) / "a").read_text() for name in ("one", "other")] == ["hostile", "text"]


def test_folders_below_a_container_of_an_older_version_stay(store: LayerStore) -> None:
    """They have the chain ids for names, and it may be mounted over them; they go with it."""
    layer = kept_layer(store, archive_of({"a": "text"}))
    store.create("work", b"{}", [layer])
    older = store.root / "layers" / layer.diff_id.removeprefix("sha256:")
    older.mkdir()
    store.collect()
    assert older.exists() and contents(store)["layers"] == 2
    store.remove("work")
    store.collect()
    assert contents(store)["layers"] == 0


def test_a_hundred_and_twenty_layers_are_mounted_and_one_more_is_refused(store: LayerStore) -> None:
    """The kernel's page of options is enough, whatever the path of the store."""
    layers = [kept_layer(store, archive_of({f"file-{number}": str(number)})) for number in range(MOST_LAYERS)]
    store.create("work", b"{}", layers)
    assert len(list(store.mount("work").iterdir())) == MOST_LAYERS
    (store.mount("work") / "more").write_text("x")
    with pytest.raises(LayerError, match="the most"):
        store.commit("work")
    with pytest.raises(LayerError, match="the most is 120"):
        store.create("more", b"{}", [*layers, kept_layer(store, archive_of({"x": ""}))])


def test_names_are_in_use_once_and_images_are_found(store: LayerStore) -> None:
    """Names of containers and images, and what is not there."""
    store.create("work", b'{"a":1}', [])
    with pytest.raises(NameInUse, match="already in use"):
        store.create("work", b"{}", [])
    assert store.containers() == ("work",) and store.container_config("work") == b'{"a":1}'
    first, second = image_of(store), image_of(store, kept_layer(store, archive_of({"a": ""})))
    store.name_image(first, "name")
    store.name_image(second, "name")
    assert store.image(first).names == () and store.image(second).names == ("name",)
    for look in (lambda: store.image("0" * 64), lambda: store.container("none"), lambda: store.mount("none")):
        with pytest.raises(NotInStore):
            look()
    store.remove("none")


def test_after_a_restart_of_the_machine_layers_are_unpacked_again(store: LayerStore) -> None:
    """Files that were never flushed may be empty after a power cut, and are not trusted."""
    layer = kept_layer(store, archive_of({"a": "text"}))
    store.create("work", b"{}", [layer])
    unpacked = store.root / "layers" / layer_keys([layer])[0].removeprefix("sha256:") / "diff/a"
    unpacked.write_text("")
    assert (LayerStore(store.root).mount("work") / "a").read_text() == ""
    store.unmount("work")
    later = LayerStore(store.root, boot="another")
    later.create("again", b"{}", [layer])
    assert (later.mount("again") / "a").read_text() == "text"
    later.remove("again")


def test_after_a_restart_of_the_machine_a_container_is_lost(store: LayerStore) -> None:
    """Its changes were not flushed: it is named as lost, holds no layer, and can be removed."""
    layer = kept_layer(store, archive_of({"a": "text"}))
    store.create("work", b"{}", [layer])
    later = LayerStore(store.root, boot="another")
    with pytest.raises(NotInStore, match="the container work was lost when the machine restarted"):
        later.mount("work")
    assert later.containers() == ("work",)
    later.collect()
    assert contents(store)["layers"] == 0
    later.remove("work")
    assert later.containers() == ()


def test_many_threads_unpack_a_layer_once(store: LayerStore) -> None:
    """The others wait for the first; each has its own container."""
    layer = kept_layer(store, archive_of({f"f{number}": "x" for number in range(300)}))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            store.create(f"c{number}", b"{}", [layer])
            (store.mount(f"c{number}") / "own").write_text(str(number))
            store.commit(f"c{number}")
            store.collect()
            assert len(list(store.mount(f"c{number}").iterdir())) == 301
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert contents(store)["layers"] == 7 and contents(store)["tmp"] == 0


def test_leases_end_while_leftovers_are_collected(store: LayerStore) -> None:
    """A lease that is gone by the time its record is read holds nothing any more."""
    layer = kept_layer(store, archive_of({"a": "x"}))
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            with store.lease([layer]):
                pass

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(1000):
            store.collect()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert list((store.root / "leases").iterdir()) == []


def test_a_cancelled_commit_changes_nothing(store: LayerStore) -> None:
    """The container is as before, still mounted, and can be committed later."""
    store.create("work", b"{}", [])
    root = store.mount("work")
    (root / "a").write_text("x")
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        store.commit("work", cancellation=cancellation)
    assert (root / "a").read_text() == "x" and contents(store)["tmp"] == 0
    assert store.commit("work").added is not None


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.35, 0.5, 0.8])
def test_a_killed_process_leaves_a_store_that_works(tmp_path: Path, seconds: float) -> None:
    """Killed at any moment of create, mount, commit and remove: records are whole, the rest is collected."""
    store = LayerStore(tmp_path / "store")
    base = kept_layer(store, archive_of({f"f{number}": "x" * 1000 for number in range(200)}))
    image = image_of(store, base)

    def work() -> None:
        number = 0
        while True:
            number += 1
            store.create(f"c{number}", store.config(image), store.image(image).layers)
            (store.mount(f"c{number}") / "new").write_text(str(number))
            made = store.commit(f"c{number}")
            store.put_image(json.dumps({"number": number}).encode(), made.layers)
            store.remove(f"c{number}")
            store.collect()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(seconds)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    for name in store.containers():
        store.remove(name)
    store.collect()
    assert contents(store)["tmp"] == 0 and contents(store)["leases"] == 0 and contents(store)["roots"] == 0
    for number, id in enumerate(store.images()):
        store.create(f"again-{number}", store.config(id), store.image(id).layers)
        assert (store.mount(f"again-{number}") / "f0").read_text() == "x" * 1000
        store.remove(f"again-{number}")
    assert contents(store)["layers"] <= len(
        {key for id in store.images() for key in layer_keys(store.image(id).layers)}
    )


def test_images_that_nothing_uses_are_forgotten(store: LayerStore) -> None:
    """With the layers that only they have; reading one counts as use, listing and collecting do not."""
    layers = [kept_layer(store, archive_of({name: name})) for name in ("a", "b", "c")]
    images = [image_of(store, layer) for layer in layers]
    for image in images:
        os.utime(store.root / "images" / image, (1000, 1000))
    store.config(images[1])
    store.collect()
    assert set(store.images()) == set(images)
    store.create("work", b"{}", [layers[2]])
    os.utime(store.root / "images" / images[2], (1000, 1000))
    store.forget_images(before=2000)
    assert store.images() == (images[1],)
    assert not store.blob(layers[0].digest).exists()
    assert store.blob(layers[1].digest).exists() and store.blob(layers[2].digest).exists()


@pytest.mark.parametrize(
    ("mode", "uid", "mtime"), [(0o4755, 0, 500), (0o600, 0, 900), (0o644, 7, 500), (0o2750, 9, 900)]
)
def test_the_last_name_of_a_file_says_its_mode_owner_and_time(
    store: LayerStore, mode: int, uid: int, mtime: int
) -> None:
    """As in Docker, where names of one file in an archive differ; also for a file of a layer below."""
    below = kept_layer(store, archive_of({"first": "text"}))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        file = tarfile.TarInfo("own")
        file.size, file.mode, file.mtime = 4, 0o644, 500
        tar.addfile(file, io.BytesIO(b"text"))
        for name, target in (("other", "own"), ("second", "first")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, target
            link.mode, link.uid, link.mtime = mode, uid, mtime
            tar.addfile(link)
    store.create("work", b"{}", [below, kept_layer(store, out.getvalue())])
    root = store.mount("work")
    for name in ("own", "other", "first", "second"):
        status = (root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (mode, uid, mtime), name
        assert (root / name).read_text() == "text"
