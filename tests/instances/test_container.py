"""The container instance as the Instance protocol promises it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.protocol import CannotReboot, Instance, InstanceError, Snapshot
from imagesmith.layers.overlay_mounts import is_mounted
from imagesmith.processes import Cancellation, Cancelled
from testing.containers import Launch

pytestmark = pytest.mark.tool


def shell(instance: ContainerInstance, script: str, **options: object) -> str:
    """Run a script inside that must succeed; give its output."""
    done = instance.run(Command(["/bin/sh", "-c", script], **options))  # type: ignore[arg-type]
    assert done.returncode == 0, done.tail()
    return done.stdout.decode().strip()


def rests(instance: ContainerInstance) -> bool:
    """Asked anew each time: a type checker takes a property for a constant."""
    return instance.rests


def test_it_is_an_instance(instance: ContainerInstance) -> None:
    """The container kind satisfies the protocol that everything above is written against."""
    assert isinstance(instance, Instance)
    assert instance.kind == "container"


def test_output_and_status_come_back(instance: ContainerInstance) -> None:
    """Both streams and the exit status of a command are its own."""
    done = instance.run(Command(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]))
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert done.argv == ("/bin/sh", "-c", "echo out; echo err >&2; exit 7")


@pytest.mark.parametrize(("argv", "status"), [(["/no/such"], 127), (["/etc/passwd"], 126)])
def test_a_program_that_cannot_start_ends_as_in_a_shell(
    instance: ContainerInstance, argv: list[str], status: int
) -> None:
    """127 for a missing program, 126 for one that may not be executed; the container itself is fine."""
    assert instance.run(Command(argv)).returncode == status


def test_a_missing_working_folder_is_an_ordinary_failure(instance: ContainerInstance) -> None:
    """A command with a bad working folder fails and names the folder."""
    done = instance.run(Command(["/bin/true"], cwd="/no/such/folder"))
    assert done.returncode != 0 and b"/no/such/folder" in done.stderr


def test_variables_are_those_of_the_image_and_of_the_call_only(
    instance: ContainerInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the server's environment is seen inside."""
    monkeypatch.setenv("SERVER_SECRET", "hunter2")
    lines = dict(
        line.split("=", 1) for line in shell(instance, "env", env={"MINE": "a b\nc"}).splitlines() if "=" in line
    )
    assert lines["TINY"] == "yes" and lines["MINE"] == "a b" and lines["HOME"] == "/root"
    assert set(lines) <= {"TINY", "MINE", "PATH", "HOME", "PWD", "SHLVL", "_", "OLDPWD"}
    assert instance.environment["TINY"] == "yes"


def test_input_reaches_the_command(instance: ContainerInstance) -> None:
    """Bytes given as input are what the command reads, to their end."""
    data = os.urandom(300_000)
    assert instance.run(Command(["/bin/cat"], input=data)).stdout == data


def test_output_is_streamed_while_the_command_runs(instance: ContainerInstance) -> None:
    """A line is handed over when it is written, not at the end."""
    seen: list[tuple[float, bytes]] = []
    instance.run(
        Command(["/bin/sh", "-c", "echo first; sleep 1; echo second"]),
        lambda _stream, chunk: seen.append((time.monotonic(), chunk)),
    )
    assert [chunk for _, chunk in seen] == [b"first\n", b"second\n"]
    assert seen[1][0] - seen[0][0] > 0.5


def test_only_the_last_bytes_of_long_output_are_kept(instance: ContainerInstance) -> None:
    """Output is bounded by its end."""
    done = instance.run(Command(["/bin/sh", "-c", "yes 0123456789 | head -c 1000000; echo end"], limit=1000))
    assert done.stdout.endswith(b"end\n") and len(done.stdout) == 1000 and done.dropped > 900_000


def test_a_timeout_kills_the_command_and_its_children(instance: ContainerInstance) -> None:
    """After the limit nothing of the command's group runs on, and the container still works."""
    done = instance.run(Command(["/bin/sh", "-c", "sleep 987 & sleep 987"], timeout=0.5))
    assert done.timed_out
    assert "sleep" not in shell(instance, "cat /proc/[0-9]*/comm")


def test_a_background_program_lives_into_the_next_command_and_no_longer_than_the_container(
    launch: Launch,
) -> None:
    """A service that one step starts is there for the next; close() ends it."""
    instance = launch()
    shell(instance, "setsid sleep 4242 </dev/null >/dev/null 2>&1 & sleep 0.2")
    assert "sleep" in shell(instance, "cat /proc/[0-9]*/comm")
    instance.close()
    assert not _host_processes_with(b"sleep\x004242\x00")


def test_shared_folders_have_the_modes_of_any_container(instance: ContainerInstance) -> None:
    """Everybody may write to /dev/shm, /dev/mqueue and /tmp, and only their owners remove files there."""
    modes = "stat -c '%a %U' /dev/shm /dev/mqueue /tmp /dev /dev/pts /dev/ptmx; stat -f -c %T /dev/shm /dev/mqueue"
    assert shell(instance, modes).split("\n") == [
        "1777 root", "1777 root", "1777 root", "755 root", "755 root", "777 root", "tmpfs", "mqueue",
    ]  # fmt: skip


def test_files_of_one_command_are_there_for_the_next(instance: ContainerInstance) -> None:
    """The root and /tmp are the container's own, and everybody may write to /tmp."""
    shell(instance, "echo kept >/tmp/kept; echo root >/opt-file")
    assert shell(instance, "cat /tmp/kept /opt-file; stat -c %a /tmp") == "kept\nroot\n1777"


def test_read_and_write_give_back_the_bytes(instance: ContainerInstance) -> None:
    """Any bytes survive, with the mode that was asked for."""
    data = bytes(range(256)) * 5000
    instance.write("/tmp/data", data, mode=0o640)
    assert instance.read("/tmp/data") == data
    assert shell(instance, "stat -c %a /tmp/data") == "640"
    assert instance.exists("/tmp/data") and not instance.exists("/tmp/nothing")


@pytest.mark.parametrize("path", ["/no/such", "/tmp", "/dev/zero"])
def test_what_is_no_file_cannot_be_read(instance: ContainerInstance, path: str) -> None:
    """Missing files, folders and devices are refused with their path."""
    with pytest.raises(InstanceError, match=path):
        instance.read(path)


def test_a_file_over_the_limit_is_refused_and_not_cut(instance: ContainerInstance) -> None:
    """Half a file is never given as a whole one."""
    instance.write("/tmp/long", b"x" * 1001)
    with pytest.raises(InstanceError, match="longer than 1000"):
        instance.read("/tmp/long", limit=1000)
    assert len(instance.read("/tmp/long", limit=1001)) == 1001


def test_writing_into_a_missing_folder_fails(instance: ContainerInstance) -> None:
    """write() makes no folders."""
    with pytest.raises(InstanceError, match="/missing/file"):
        instance.write("/missing/file", b"")


def test_files_are_pushed_and_pulled_in_pieces(instance: ContainerInstance, tmp_path: Path) -> None:
    """A file larger than one piece arrives whole in both directions."""
    data = os.urandom(9 * 1024 * 1024 + 17)
    (tmp_path / "local").write_bytes(data)
    instance.push(tmp_path / "local", "/tmp/pushed")
    instance.pull("/tmp/pushed", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_pulling_a_missing_file_leaves_none_behind(instance: ContainerInstance, tmp_path: Path) -> None:
    """A failed pull makes no empty local file."""
    with pytest.raises(InstanceError, match="/no/such"):
        instance.pull("/no/such", tmp_path / "local")
    assert not (tmp_path / "local").exists()


def test_a_path_is_never_taken_for_an_option_or_a_script(instance: ContainerInstance) -> None:
    """Names with spaces, quotes, dashes and dollars are plain names."""
    for name in ("/tmp/-rf", "/tmp/a b", "/tmp/$(id)", "/tmp/'\"", "/tmp/;true"):
        instance.write(name, name.encode())
        assert instance.read(name) == name.encode()


def test_a_checkpoint_brings_the_state_back(instance: ContainerInstance) -> None:
    """restore() undoes everything since the checkpoint, files and programs."""
    instance.write("/tmp/state", b"before")
    snapshot = instance.checkpoint()
    instance.write("/tmp/state", b"after")
    shell(instance, "setsid sleep 777 </dev/null >/dev/null 2>&1 &")
    instance.restore(snapshot)
    assert instance.read("/tmp/state") == b"before"
    assert "sleep" not in shell(instance, "cat /proc/[0-9]*/comm")


def test_a_snapshot_of_another_kind_is_refused(instance: ContainerInstance) -> None:
    """A container cannot become a machine's snapshot."""
    with pytest.raises(InstanceError, match="machine"):
        instance.restore(Snapshot("machine", "disk"))


def test_a_container_cannot_reboot(instance: ContainerInstance) -> None:
    """Reboots are refused by name (spec/components.md 9, rule 8)."""
    with pytest.raises(CannotReboot):
        instance.reboot()


def test_a_commit_is_one_layer_with_its_words(
    instance: ContainerInstance, container_storage: ContainerStorage, tiny_image: str
) -> None:
    """Labels, the history entry and the parent's configuration are in the committed image."""
    instance.write("/tmp/new", b"1")
    image = instance.commit(labels={"made-by": "a = b"}, created_by="components of a recipe")
    before, after = container_storage.image_config(tiny_image), container_storage.image_config(image)
    assert after["rootfs"]["diff_ids"][:-1] == before["rootfs"]["diff_ids"]
    assert after["config"]["Labels"] == {"tiny": "1", "made-by": "a = b"}
    assert after["config"]["Env"] == before["config"]["Env"] and after["config"]["Cmd"] == ["/bin/sh"]
    assert after["history"][-1]["created_by"] == "components of a recipe"
    container_storage.remove_image(image)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        ("rm -f /etc/resolv.conf", "absent"),
        (
            "rm -f /etc/resolv.conf; ln -s ../run/nowhere/stub.conf /etc/resolv.conf",
            "link ../run/nowhere/stub.conf",
        ),
        ("rm -f /etc/resolv.conf; echo nameserver 1.2.3.4 >/etc/resolv.conf", "file nameserver 1.2.3.4\n"),
    ],
)
def test_the_resolver_file_of_the_image_is_left_as_it_was(
    launch: Launch, container_storage: ContainerStorage, tmp_path: Path, prepare: str, expected: str
) -> None:
    """Whatever stands at /etc/resolv.conf in an image is seen replaced inside and untouched in the result."""
    image = _changed_image(container_storage, launch().commit(), prepare, tmp_path)
    instance = launch(image, network="outbound")
    assert shell(instance, "cat /etc/resolv.conf") == "nameserver 10.0.2.3"
    done = instance.run(Command(["/bin/sh", "-c", "echo evil >/etc/resolv.conf"]))
    assert done.returncode != 0
    result = instance.commit()
    assert _resolver_of(container_storage, result) == expected


def test_programs_run_again_after_a_commit(instance: ContainerInstance) -> None:
    """A commit ends what runs; the next command starts afresh on the same files."""
    instance.write("/tmp/state", b"1")
    instance.commit()
    assert instance.read("/tmp/state") == b"1"


def test_a_container_of_the_same_name_is_replaced(launch: Launch) -> None:
    """An attempt that died does not stand in the way of the next one."""
    first = launch(name="build-again")
    first.write("/tmp/old", b"1")
    second = launch(name="build-again")
    assert not second.exists("/tmp/old")


def test_a_container_that_rests_has_only_its_layers(launch: Launch, container_storage: ContainerStorage) -> None:
    """No root, namespace or process before a command needs them; then it is like any other, above the layers that
    it has by then. What it says about itself is the same before."""
    made = launch()
    made.write("/srv-file", b"1")
    layers = made.commit_layers()
    other = launch(name="awake")
    instance = launch(name="resting", rests=True)
    path = container_storage.upper("resting").with_name("merged")
    assert rests(instance) and not rests(other) and instance.unlimited == other.unlimited
    assert instance.environment == other.environment
    instance.replace_layers(layers)
    assert instance.commit_layers() == layers
    assert rests(instance) and not is_mounted(path)
    assert shell(instance, "cat /srv-file; echo >/new") == "1"
    assert not rests(instance) and is_mounted(path) and len(instance.commit_layers()) == len(layers) + 1
    instance.close()
    assert "resting" not in container_storage.containers() and not is_mounted(path)


def test_a_container_that_only_rested_is_committed_and_closed(
    launch: Launch, container_storage: ContainerStorage, tiny_image: str
) -> None:
    """Its image has the layers that it rested on; after its end it is closed as any other."""
    instance = launch(name="resting", rests=True)
    image = instance.commit(created_by="nothing", last=True)
    config, before = (container_storage.image_config(id) for id in (image, tiny_image))
    assert config["rootfs"] == before["rootfs"] and rests(instance)
    instance.close()
    assert not rests(instance)
    with pytest.raises(InstanceError, match="closed"):
        instance.run(Command(["/bin/true"]))
    with pytest.raises(InstanceError, match="closed"):
        _ = instance.root


def test_closing_twice_is_safe_and_a_closed_container_refuses_commands(launch: Launch) -> None:
    """close() is idempotent; afterwards nothing runs and nothing is left in the storage."""
    instance = launch(name="closed-one")
    instance.close()
    instance.close()
    with pytest.raises(InstanceError, match="closed"):
        instance.run(Command(["/bin/true"]))
    with pytest.raises(InstanceError, match="closed"):
        instance.commit()
    assert "closed-one" not in instance.storage.containers()


def test_cancelling_ends_the_running_command(launch: Launch) -> None:
    """A cancelled run raises at once and leaves no process; the container can still be closed."""
    cancellation = Cancellation()
    instance = launch(cancellation=cancellation)
    threading.Timer(0.3, cancellation.cancel).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        instance.run(Command(["/bin/sleep", "5353"]))
    assert time.monotonic() - started < 3
    instance.close()
    assert not _host_processes_with(b"sleep\x005353\x00")


def test_a_command_in_an_image_without_a_shell_is_refused(
    container_storage: ContainerStorage, launch: Launch
) -> None:
    """The message says what is missing; the instance itself can be had, and committed."""
    container_storage.create("empty", "scratch")
    (container_storage.mount("empty") / "etc").mkdir()
    image = container_storage.commit("empty")
    container_storage.remove("empty")
    instance = launch(image, name="no-shell")
    with pytest.raises(InstanceError, match="no /bin/sh"):
        instance.run(Command(["true"]))
    assert container_storage.has_image(instance.commit())


@pytest.mark.parametrize("folder", ["etc", "proc", "dev", "tmp"])
def test_a_root_with_links_for_folders_is_refused(
    container_storage: ContainerStorage, launch: Launch, tmp_path: Path, folder: str
) -> None:
    """An image that would lead mounts astray does not start, and nothing appears where its link leads."""
    base = launch().commit()
    target = tmp_path / "astray"
    container_storage.create("astray", base)
    root = container_storage.mount("astray")
    if (root / folder).is_dir():
        shutil.rmtree(root / folder)
    (root / folder).symlink_to(target)
    image = container_storage.commit("astray")
    container_storage.remove("astray")
    with pytest.raises(InstanceError, match=f"/{folder}"):
        launch(image, name="led-astray")
    assert not target.exists()


def test_arguments_beyond_the_kernels_limit_are_refused(instance: ContainerInstance) -> None:
    """An argument that is too long is an error of its own, and the container works on."""
    with pytest.raises(InstanceError, match="longer than the kernel takes"):
        instance.run(Command(["/bin/true", "x" * 3_000_000]))
    assert instance.run(Command(["/bin/sh", "-c", "exit 3"])).returncode == 3


def test_many_commands_at_once_do_not_mix(instance: ContainerInstance) -> None:
    """Commands of several threads run side by side in one container."""
    results: dict[int, str] = {}

    def work(number: int) -> None:
        results[number] = shell(instance, f"sleep 0.1; echo {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: str(number) for number in range(8)}


def _changed_image(storage: ContainerStorage, base: str, script: str, tmp_path: Path) -> str:
    storage.create("prepare", base)
    try:
        root = storage.mount("prepare")
        assert os.system(f"chroot {root} /bin/sh -c '{script}'") == 0
        return storage.commit("prepare")
    finally:
        storage.remove("prepare")


def _resolver_of(storage: ContainerStorage, image: str) -> str:
    storage.create("look", image)
    try:
        place = storage.mount("look") / "etc/resolv.conf"
        if place.is_symlink():
            return f"link {place.readlink()}"
        if not place.exists():
            return "absent"
        with Root(storage.mount("look")) as root:
            return f"file {root.read('/etc/resolv.conf').decode()}"
    finally:
        storage.remove("look")


def _host_processes_with(words: bytes) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in place.read_bytes():
                found.append(place.parent.name)
        except OSError:
            continue
    return found
