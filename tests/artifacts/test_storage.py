"""The private container storage: its own configuration, its containers, what it leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerExists, ContainerStorage, StorageError, storage_key
from testing.containers import opened_storage

pytestmark = pytest.mark.tool


def test_an_older_storage_is_removed_when_it_is_opened(tmp_path: Path) -> None:
    """What buildah kept for an older version is never read; a kill in the middle only postpones its end."""
    for folder in ("overlay/l", "overlay-images", "home", "tmp/tool-x"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root/overlay-images/images.json").write_text("[")
    (tmp_path / "root/overlay/l/LINK").symlink_to("/nowhere")
    (tmp_path / "root/storage.conf").touch()
    with opened_storage(tmp_path) as storage:
        assert storage.images() == () and storage.containers() == ()
        names = {path.name for path in storage.root.iterdir()}
        assert names.isdisjoint({"overlay", "overlay-images", "storage.conf", "driver"})
        assert list((storage.root / "tmp").iterdir()) == []
        storage.create("kept", "scratch")
        ContainerStorage.open(storage.root)
        assert storage.containers() == ("kept",)
        storage.remove("kept")


def test_any_path_and_many_layers_will_do(tmp_path: Path) -> None:
    """Commas and colons in the path, which separate options of an overlay, and a hundred layers."""
    with opened_storage(tmp_path / "with, comma: and colon") as storage, storage.sealed.used():
        storage.create("deep", "scratch")
        root = storage.mount("deep")
        for number in range(100):
            (root / f"file-{number}").write_text("x")
            image = storage.commit("deep")
        assert len(storage.layer_blobs(image)) == 100
        storage.create("again", image)
        assert len(list(storage.mount("again").iterdir())) == 100
        for name in ("deep", "again"):
            storage.remove(name)


def test_a_commit_that_is_repeated_makes_the_same_layers(container_storage: ContainerStorage) -> None:
    """A build that was killed behind the commit of a container commits it again: no layer twice, one history."""
    container_storage.create("again", "scratch")
    (container_storage.mount("again") / "file").write_text("x")
    images = [container_storage.commit("again", created_by="components") for _ in range(2)]
    container_storage.remove("again")
    configs = [container_storage.image_config(image) for image in images]
    assert configs[0]["rootfs"] == configs[1]["rootfs"] and len(configs[0]["rootfs"]["diff_ids"]) == 1
    assert [[entry["created_by"] for entry in config["history"]] for config in configs] == [["components"]] * 2


def test_a_commit_without_changes_has_an_entry_of_the_history_and_no_layer(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """The configuration is that of the image, with what the commit adds."""
    container_storage.create("unchanged", tiny_image)
    image = container_storage.commit("unchanged", created_by="nothing", labels={"more": "2"})
    container_storage.remove("unchanged")
    assert container_storage.layer_blobs(image) == container_storage.layer_blobs(tiny_image)
    config: Any = container_storage.image_config(image)
    assert config["history"][-1]["empty_layer"] and config["config"]["Labels"] == {"tiny": "1", "more": "2"}
    assert config["config"]["Env"] == ["TINY=yes"] and config["config"]["Cmd"] == ["/bin/sh"]


def test_a_damaged_blob_with_removed_files_is_written_again(container_storage: ContainerStorage) -> None:
    """The marks in it have the time of the commit; a layer above it has another."""
    container_storage.create("below", "scratch")
    for name in ("file", "folder/old"):
        path = container_storage.mount("below") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    container_storage.commit_layers("below")
    root = container_storage.mount("below")
    (root / "file").unlink()
    shutil.rmtree(root / "folder")
    (root / "folder").mkdir()
    base = container_storage.commit("below", created=datetime(2026, 1, 2, tzinfo=UTC))
    container_storage.create("above", base)
    (container_storage.mount("above") / "more").write_text("x")
    image = container_storage.commit("above", created=datetime(2026, 1, 3, tzinfo=UTC))
    for name in ("below", "above"):
        container_storage.remove(name)
    for layer in container_storage.layer_blobs(image):
        blob = container_storage.layer_blob(image, layer)
        whole = blob.read_bytes()
        blob.unlink()
        blob.write_bytes(whole[:-1])
        assert container_storage.layer_blob(image, layer).read_bytes() == whole


def test_nothing_of_the_users_own_configuration_is_used(container_storage: ContainerStorage) -> None:
    """Home, temporary files and credentials of the tools are inside the data directory."""
    environment = container_storage.environment
    inside = ("HOME", "TMPDIR", "REGISTRY_AUTH_FILE")
    assert all(environment[name].startswith(str(container_storage.root)) for name in inside)
    assert not {name for name in environment if "KEY" in name or "TOKEN" in name or "SECRET" in name}


def test_every_storage_has_a_key_of_its_own(tmp_path: Path) -> None:
    """Short, stable, and different for different folders: control groups are named after it."""
    one, other = storage_key(tmp_path / "a"), storage_key(tmp_path / "b")
    assert one == storage_key(tmp_path / "a") and one != other and len(one) == 12


def test_a_commit_carries_configuration_and_time(container_storage: ContainerStorage) -> None:
    """Labels, history and, when asked for, a fixed time that makes the image reproducible."""
    ids = set()
    for name in ("one", "two"):
        container_storage.create(name, "scratch")
        (container_storage.mount(name) / "file").write_text("same")
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        ids.add(container_storage.commit(name, created=moment, labels={"a": "b=c d"}, created_by="test"))
        container_storage.remove(name)
    (image,) = ids
    config = container_storage.image_config(image)
    assert config["created"].startswith("2026-01-02T03:04:05")
    assert config["config"]["Labels"] == {"a": "b=c d"} and config["history"][-1]["created_by"] == "test"


def test_removing_an_image_keeps_those_it_was_built_from(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """Unnamed parents stay, and removing twice is no fault."""
    container_storage.create("child", tiny_image)
    (container_storage.mount("child") / "more").write_text("x")
    child = container_storage.commit("child")
    container_storage.remove("child")
    container_storage.remove_image(child)
    container_storage.remove_image(child)
    assert container_storage.has_image(tiny_image) and not container_storage.has_image(child)
    assert tiny_image in container_storage.images()


def test_removing_a_container_that_is_not_there_is_no_fault(container_storage: ContainerStorage) -> None:
    """Cleaning up may happen twice."""
    container_storage.remove("never-made")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x;y", "é", "a" * 200])
def test_bad_names_are_refused(container_storage: ContainerStorage, name: str) -> None:
    """A name is never an option or a path."""
    with pytest.raises(StorageError, match="name"):
        container_storage.create(name, "scratch")


@pytest.mark.parametrize("image", ["", "--all", "abc", "sha256:" + "0" * 64, "0" * 63])
def test_bad_image_ids_are_refused(container_storage: ContainerStorage, image: str) -> None:
    """An id is 64 digits and nothing else."""
    with pytest.raises(StorageError, match="image id"):
        container_storage.has_image(image)


def test_a_missing_parent_is_never_pulled(container_storage: ContainerStorage) -> None:
    """Containers are made of what is in the storage only."""
    with pytest.raises(StorageError, match=r"(?s)reading image 0{64} failed.*image not known"):
        container_storage.create("from-nowhere", "0" * 64)


def test_containers_of_many_threads_stay_mounted(container_storage: ContainerStorage, tiny_image: str) -> None:
    """Tools that start and end at the same time never unmount another one's container."""
    problems: list[str] = []

    def work(number: int) -> None:
        name = f"thread-{number}"
        for _ in range(4):
            container_storage.create(name, tiny_image)
            root = container_storage.mount(name)
            container_storage.containers()
            if not (root / "etc" / "passwd").exists():
                problems.append(name)
            container_storage.remove(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_closing_unmounts_everything(tmp_path: Path) -> None:
    """After close() nothing of the storage is mounted, whatever was left open."""
    with opened_storage(tmp_path) as storage:
        storage.create("open", "scratch")
        storage.mount("open")
        assert storage.mounted()
        storage.close()
        assert storage.mounted() == ()


def test_what_another_process_makes_is_seen(container_storage: ContainerStorage, tiny_image: str) -> None:
    """Containers and images are on the disk only."""
    before = container_storage.containers()
    elsewhere = ContainerStorage.open(container_storage.root)
    elsewhere.create("elsewhere", tiny_image)
    with pytest.raises(ContainerExists, match="elsewhere is already in use"):
        container_storage.create("elsewhere", tiny_image)
    assert set(container_storage.containers()) == {*before, "elsewhere"}
    elsewhere.remove("elsewhere")
    assert container_storage.containers() == before


def test_a_sweep_removes_what_no_live_build_owns(tmp_path: Path) -> None:
    """Containers, their mounts, temporary files and layers of nobody; the containers of live builds stay."""
    with opened_storage(tmp_path) as storage:
        for name in ("alive", "dead"):
            storage.create(name, "scratch")
            (storage.mount(name) / "file").write_text(name)
            storage.remove_image(storage.commit(name))
        (storage.root / "tmp" / "left").mkdir()
        report = storage.remove_leftovers(["alive"])
        assert report.containers == ("dead",) and storage.containers() == ("alive",)
        assert [Path(place).parent.name for place in storage.mounted()] == ["alive"]
        assert list((storage.root / "tmp").iterdir()) == []
        assert len(list((storage.root / "layers").iterdir())) == 1
        storage.remove("alive")


KILLED = """
import os, sys
from pathlib import Path
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.isolation import private_mounts
private_mounts()
storage = ContainerStorage.open(Path(sys.argv[1]))
image = "scratch"
for number in range(1000):
    storage.create(f"killed-{number}", image)
    root = storage.mount(f"killed-{number}")
    for name in range(50):
        (root / f"{number}-{name}").write_text("x" * 1000)
    print(number, flush=True)
    image = storage.commit(f"killed-{number}")
    if number % 3:
        storage.remove(f"killed-{number}")
    if number % 20 == 19:
        image = "scratch"
"""


@pytest.mark.parametrize("moment", range(6))
def test_a_killed_process_leaves_nothing_behind_a_sweep(tmp_path: Path, moment: int) -> None:
    """At any moment: no container, mount or temporary file, and every image that is listed is whole."""
    with opened_storage(tmp_path) as storage:
        argv = [sys.executable, "-c", KILLED, str(storage.root)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(2 + moment):
            process.stdout.readline()
        time.sleep(moment * 0.004)
        process.kill()
        process.wait()
        process.stdout.close()
        storage.remove_leftovers()
        assert storage.containers() == () and storage.mounted() == ()
        assert list((storage.root / "tmp").iterdir()) == [] and list((storage.root / "leases").iterdir()) == []
        for image in storage.images():
            storage.create("whole", image)
            assert len(list(storage.mount("whole").iterdir())) == 50 * len(storage.layer_blobs(image))
            storage.remove("whole")


def test_how_to_enter_names_commands_that_work(container_storage: ContainerStorage, tiny_image: str) -> None:
    """A kept container is entered without imagesmith, also after it was mounted by a process that is gone."""
    container_storage.create("kept", tiny_image)
    (container_storage.mount("kept") / "mine").write_text("kept text")
    container_storage.unmount("kept")
    enter, remove = container_storage.how_to_enter("kept")
    shown = subprocess.run(
        ["sh", "-c", enter], input="cat /mine; echo more > /more\n", capture_output=True, text=True, check=True
    )
    assert shown.stdout == "kept text"
    assert (container_storage.mount("kept") / "more").read_text() == "more\n"
    container_storage.unmount("kept")
    subprocess.run(["sh", "-c", remove], check=True)
    assert "kept" not in container_storage.containers()
