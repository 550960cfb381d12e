"""The private container storage: its own configuration, its containers, what it leaves."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imagesmith import processes
from imagesmith.artifacts.storage import ContainerStorage, StorageError, StorageProbe, runroot_for
from imagesmith.processes import ProcessFailed
from testing.containers import opened_storage

pytestmark = pytest.mark.tool


def test_opening_again_keeps_the_driver(container_storage: ContainerStorage) -> None:
    """The driver that was found to work is remembered: layers of one mean nothing to another."""
    again = ContainerStorage.open(container_storage.root, container_storage.runroot)
    assert again.probe == container_storage.probe
    assert again.probe.driver == "overlay" and not again.probe.copies_everything


def test_vfs_says_what_it_costs() -> None:
    """The fallback is named as such."""
    assert StorageProbe("vfs", "overlay does not work here", 0.1).copies_everything


def test_where_overlay_fails_the_copying_driver_is_taken_with_the_reason(tmp_path: Path) -> None:
    """A comma in the path breaks the options of an overlay mount: everything still works, slower, and says why."""
    with opened_storage(tmp_path / "with, comma") as storage:
        assert storage.probe.driver == "vfs"
        assert storage.probe.reason.startswith("overlay does not work here: ")
        storage.create("on-vfs", "scratch")
        (storage.mount("on-vfs") / "file").write_text("x")
        image = storage.commit("on-vfs")
        assert storage.has_image(image)
        storage.remove("on-vfs")


def test_a_killed_first_opening_does_not_decide_the_driver(tmp_path: Path) -> None:
    """The container that the trial left behind is removed, and counts against no driver."""
    root, runroot = tmp_path / "containers", runroot_for(tmp_path)
    first = ContainerStorage.open(root, runroot)
    first.create("probe-driver", "scratch")
    first.mount("probe-driver")
    (root / "driver").unlink()
    again = ContainerStorage.open(root, runroot)
    assert again.probe.driver == "overlay"
    assert again.containers() == () and again.mounted() == ()


def test_nothing_of_the_users_own_configuration_is_used(container_storage: ContainerStorage) -> None:
    """Home, temporary files, storage and credentials of the tools are inside the data directory."""
    environment = container_storage.environment
    inside = ("HOME", "TMPDIR", "CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE")
    assert all(environment[name].startswith(str(container_storage.root)) for name in inside)
    assert not {name for name in environment if "KEY" in name or "TOKEN" in name or "SECRET" in name}


def test_every_data_directory_has_a_run_folder_of_its_own(tmp_path: Path) -> None:
    """Short, stable, and different for different directories."""
    one, other = runroot_for(tmp_path / "a"), runroot_for(tmp_path / "b")
    assert one == runroot_for(tmp_path / "a") and one != other
    assert one.parent == Path("/run/imagesmith") and len(one.name) == 12


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
def test_bad_names_are_refused_before_any_tool_runs(container_storage: ContainerStorage, name: str) -> None:
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
    with pytest.raises(ProcessFailed, match=r"(?s)reading image 0{64} failed.*image not known"):
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


def test_containers_are_listed_anew_only_when_one_came_or_went(
    container_storage: ContainerStorage, tiny_image: str, tools: list[list[str]]
) -> None:
    """Asking again starts no tool; a container that another process made or removed is noticed."""
    container_storage.create("listed-before", tiny_image)
    tools.clear()
    before = container_storage.containers()
    assert "listed-before" in before and container_storage.containers() == before
    assert len(tools) == 1
    elsewhere = ContainerStorage.open(container_storage.root, container_storage.runroot)
    elsewhere.create("listed-anew", tiny_image)
    assert set(container_storage.containers()) == {*before, "listed-anew"}
    elsewhere.remove("listed-anew")
    assert container_storage.containers() == before
    assert len([argv for argv in tools if argv[1] == "containers"]) == 3
    container_storage.remove("listed-before")


def test_a_storage_without_containers_starts_no_tool_to_list_them(tmp_path: Path, tools: list[list[str]]) -> None:
    """Neither a new one nor one whose last container was removed, which a start of a server asks."""
    with contextlib.closing(ContainerStorage.for_data_dir(tmp_path)) as storage:
        assert storage.containers() == ()
        storage.create("last", "scratch")
        assert storage.containers() == ("last",)
        storage.remove("last")
        tools.clear()
        assert storage.containers() == () and tools == []


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of the tools that were started, in order."""
    started: list[list[str]] = []
    original = processes.check

    def note(argv: list[str], **options: Any) -> Any:
        started.append(list(argv))
        return original(argv, **options)

    monkeypatch.setattr(processes, "check", note)
    return started
