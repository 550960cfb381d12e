"""Nobody in a container is root outside: ids seen from both sides, and files on disk numbered from 0."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import imagesmith
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command, Identity
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.protocol import InstanceError
from imagesmith.namespaces.id_maps import FIRST_ID, ID_TABLE, MOST_RANGES, SIZE, NoIds, lease_range
from testing.containers import Launch

pytestmark = pytest.mark.tool

READS_ALL = bytes.fromhex("0100000202000000000000000000000000000000")
"""The capability of a file to read every file (dac_override, permitted and effective), version 2."""


def shell(instance: ContainerInstance, script: str, *, user: Identity | None = None) -> str:
    done = instance.run(Command(["/bin/sh", "-c", script], timeout=60, user=user))
    return (done.stdout + done.stderr).decode(errors="replace")


def outside_ids(mark: str) -> set[int]:
    """All ids, as this machine counts, of processes with an argument."""
    found: set[int] = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() not in (place / "cmdline").read_bytes().split(b"\0"):
                continue
            lines = (place / "status").read_text().splitlines()
        except OSError:
            continue
        found |= {int(word) for line in lines if line.startswith(("Uid:", "Gid:")) for word in line.split()[1:]}
    return found


def test_a_process_that_is_root_inside_is_not_root_outside(instance: ContainerInstance) -> None:
    """It has the first id of its range, a USER one further on, and nobody else's."""
    assert shell(instance, "id -u; cat /proc/self/uid_map").split() == [
        "0", "0", str(instance.ids.first), str(SIZE),
    ]  # fmt: skip
    shell(instance, "sleep 91735 >/dev/null 2>&1 &")
    assert outside_ids("91735") == {instance.ids.first}
    shell(instance, "sleep 91736 >/dev/null 2>&1 &", user=Identity(1000, 1000))
    assert outside_ids("91736") == {instance.ids.first + 1000}


def test_every_process_of_a_sandbox_is_in_its_range(instance: ContainerInstance) -> None:
    """The tools inside the outer namespaces are not root outside either."""
    shell(instance, "true")
    assert instance._sandbox is not None
    outer = Path(f"/proc/{instance._sandbox.pid}/ns/user").stat().st_ino
    processes = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            lines = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
            if (place / "ns/user").stat().st_ino == outer and len(lines["NSpid"].split()) > 1:
                processes.append({int(word) for word in lines["Uid"].split()})
        except OSError:
            continue
    assert len(processes) >= 4 and set().union(*processes) == {instance.ids.first}


def test_the_network_is_carried_by_a_process_without_rights(launch: Launch) -> None:
    """slirp4netns is nobody outside, has one right over ports in the namespace, a filter, and no file to write."""
    instance = launch(network="outbound")
    assert "tap0" in shell(instance, "cat /proc/net/dev")
    assert instance._sandbox is not None and instance._sandbox._slirp is not None
    process = Path(f"/proc/{instance._sandbox._slirp.process.pid}")
    lines = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    rights = {lines[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapInh")}
    assert {int(word) for word in lines["Uid"].split()} == {instance.ids.first} and rights == {f"{1 << 10:016x}"}
    assert (lines["NoNewPrivs"], lines["Seccomp"], lines["Name"]) == ("1", "2", "slirp4netns")
    flags = [line.split()[5].split(",") for line in (process / "mountinfo").read_text().splitlines()]
    assert flags and all("ro" in options for options in flags)
    instance.close()
    assert not process.exists()


def test_files_have_the_same_owners_inside_and_on_disk(launch: Launch, container_storage: ContainerStorage) -> None:
    """Each id of the range can own a file; the layer holds it as the container showed it."""
    ids = (0, 1, 42, 999, 1000, 32768, 65533, 65534, SIZE - 1)
    first = launch()
    for id in ids:
        assert shell(first, f"cd /root && >{id} && chown {id}:{SIZE - 1 - id} {id}") == ""
    shown = shell(first, "cd /root && stat -c '%n %u:%g' *")
    assert set(shown.splitlines()) == {f"{id} {id}:{SIZE - 1 - id}" for id in ids}
    upper = first.upper
    on_disk = {place.name: (place.stat().st_uid, place.stat().st_gid) for place in (upper / "root").iterdir()}
    assert on_disk == {str(id): (id, SIZE - 1 - id) for id in ids}
    image = first.commit()
    try:
        second = launch(image)
        assert shell(second, "cd /root && stat -c '%n %u:%g' *") == shown
        second.close()
    finally:
        first.close()
        container_storage.remove_image(image)


@pytest.mark.parametrize("id", [SIZE, SIZE + 1000, 2**31, 2**32 - 2])
def test_an_id_beyond_the_range_is_refused(instance: ContainerInstance, id: int) -> None:
    """Neither a file nor a process has it, and none is given another instead."""
    assert "Invalid argument" in shell(instance, f"touch /root/a && chown {id} /root/a")
    assert shell(instance, "stat -c %u /root/a") == "0\n"
    with pytest.raises(InstanceError, match="Invalid argument"):
        instance.run(Command(["/bin/true"], user=Identity(id, 0)))


def test_two_containers_have_different_ids(launch: Launch) -> None:
    """Also while another is being started."""
    instances = [launch() for _ in range(3)]
    starts = {instance.ids.first for instance in instances}
    assert len(starts) == 3 and all((start - FIRST_ID) % SIZE == 0 for start in starts)
    assert all(FIRST_ID <= start < FIRST_ID + MOST_RANGES * SIZE for start in starts)


def test_a_set_group_id_program_has_its_group(instance: ContainerInstance) -> None:
    """As on a machine; a group of the image, not of this machine."""
    shell(instance, "cp /bin/id /usr/bin/gid && chown 0:42 /usr/bin/gid && chmod 2755 /usr/bin/gid")
    assert "egid=42" in shell(instance, "gid", user=Identity(1000, 1000))


def test_a_capability_of_a_file_holds_inside(
    container_storage: ContainerStorage, tiny_image: str, launch: Launch
) -> None:
    """A file of a layer gives its user the right that it carries, up to those of root inside."""
    container_storage.create("capable", tiny_image)
    root = container_storage.mount("capable")
    (root / "usr/bin/able").write_bytes((root / "usr/bin/cat").read_bytes())
    (root / "usr/bin/able").chmod(0o755)
    os.setxattr(root / "usr/bin/able", "security.capability", READS_ALL)
    (root / "secret").write_text("secret")
    (root / "secret").chmod(0o600)
    image = container_storage.commit("capable")
    container_storage.remove("capable")
    instance = launch(image)
    user = Identity(1000, 1000)
    assert "Permission denied" in shell(instance, "cat /secret", user=user)
    assert shell(instance, "able /secret", user=user) == "secret"


def test_streams_can_be_opened_by_every_user(instance: ContainerInstance) -> None:
    """They are pipes of this process, and belong to whom runs inside."""
    script = "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin"
    for user in (None, Identity(0, 0), Identity(1000, 1000), Identity(SIZE - 1, SIZE - 1)):
        done = instance.run(Command(["/bin/sh", "-c", script], input=b"in\n", user=user))
        assert (done.stdout, done.stderr) == (b"out\nin\n", b"err\n")


def test_a_detached_container_has_the_ids_of_the_disk(launch: Launch, container_storage: ContainerStorage) -> None:
    """Who looks at it from outside finds files numbered from 0; entered again, they are those of another range."""
    instance = launch(name="detached")
    shell(instance, "touch /root/a; chown 1000 /root/a")
    instance.detach()
    root = container_storage.mount("detached")
    assert (root / "root/a").stat().st_uid == 1000 and root.stat().st_uid == 0
    again = ContainerInstance.attach(container_storage, "detached", network="none")
    try:
        assert shell(again, "stat -c %u /root/a") == "1000\n"
        assert (again.root / "root/a").stat().st_uid == again.ids.first + 1000
    finally:
        again.close()


def is_free(first: int) -> bool:
    try:
        _, lease = lease_range(ID_TABLE, first=first, most=1)
    except NoIds:
        return False
    os.close(lease)
    return True


def holders(first: int) -> set[int]:
    """The processes that took the lock on a range, which they or what they started hold."""
    inode = str((ID_TABLE / str(first)).stat().st_ino)
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
    return {int(words[4]) for words in lines if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode}


def test_a_closed_container_frees_its_ids(launch: Launch) -> None:
    """And holds them until then; another process of the machine may take them at once."""
    instance = launch()
    first = instance.ids.first
    assert os.getpid() in holders(first)
    instance.close()
    assert os.getpid() not in holders(first)


_HOLDS = """
import sys, time
from pathlib import Path
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
storage = ContainerStorage.open(Path(sys.argv[1]))
instance = ContainerInstance.launch(storage, sys.argv[2], name="killed", network="none")
instance.run(Command(["/bin/sh", "-c", "sleep 91737 >/dev/null 2>&1 &"]))
print(instance.ids.first, flush=True)
time.sleep(600)
"""


def test_a_killed_server_leaves_neither_processes_nor_ids(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """The range is free when the last process in it has ended, not before."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(container_storage.root), tiny_image],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(imagesmith.__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        first = int(process.stdout.readline())
        assert outside_ids("91737") == {first}
        process.kill()
        process.wait()
    until = time.monotonic() + 60
    while not is_free(first):
        assert time.monotonic() < until, "the ids of a killed server are still held"
        time.sleep(0.01)
    assert outside_ids("91737") == set()
    container_storage.remove("killed")


def test_server_side_files_belong_to_root_inside(instance: ContainerInstance) -> None:
    """What the server makes in a root has an id of the range, and this thread keeps its own and its rights."""
    before = Path("/proc/thread-self/status").read_text().split("CapInh")[1].split("NoNew")[0]
    with instance.ids.acting():
        (instance.root / "made").mkdir(0o700)
        os.chown(instance.root / "made", instance.ids.outside(1000), instance.ids.outside(7))
        (instance.root / "made/below").write_text("x")
    assert Path("/proc/thread-self/status").read_text().split("CapInh")[1].split("NoNew")[0] == before
    assert shell(instance, "stat -c '%u:%g %a' /made /made/below") == "1000:7 700\n0:0 644\n"
    with pytest.raises(OSError, match="too large"):
        (instance.root / "other").mkdir()
    with pytest.raises(ValueError, match="beyond those of a build"):
        instance.ids.outside(SIZE)


def test_device_files_of_the_sandbox_work(instance: ContainerInstance) -> None:
    """Those that programs need; they belong to nobody inside."""
    script = (
        "echo x >/dev/null; for name in zero urandom random; do head -c 2 /dev/$name | wc -c; done\n"
        "echo x >/dev/full; stat -c %u /dev/null"
    )
    said = shell(instance, script).split("\n")
    assert said[:3] == ["2", "2", "2"] and said[3] == "65534" and "error" in said[4]
    mode = stat.S_IMODE(Path("/dev/null").stat().st_mode)
    shell(instance, "chmod 600 /dev/null; chown 1 /dev/null")
    assert stat.S_IMODE(Path("/dev/null").stat().st_mode) == mode and Path("/dev/null").stat().st_uid == 0
