"""Whatever ends a build, nothing of it runs, stays mounted or lies about (docs/design.md, Instances)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.leftovers import remove_left_instances
from imagesmith.instances.limits import leftover_groups
from imagesmith.instances.protocol import InstanceError
from testing.containers import Launch, with_config
from testing.leaks import groups_of, processes_with, wait_until_gone

pytestmark = pytest.mark.tool

BUILD = """
import sys
from pathlib import Path
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.dockerfile_builds.build import DockerfileBuild
from imagesmith.instances.isolation import private_mounts

root, image, kind = sys.argv[1:4]
private_mounts()
storage = ContainerStorage.open(Path(root))
if kind == "container":
    instance = ContainerInstance.launch(storage, image, name="killed-build")
    instance.run(Command(["/bin/sh", "-c", "setsid sleep 6161 </dev/null >/dev/null 2>&1 &"]))
    say = lambda stream, chunk: print("ready", flush=True)
    instance.run(Command(["/bin/sh", "-c", "echo on; sleep 6161"]), say)
else:
    text = "FROM {{{ imagebuilder:parentImage }}}\\nRUN echo on; sleep 6161\\n"
    say = lambda stream, chunk: print("ready" if b"on\\n" in chunk else "", flush=True)
    DockerfileBuild(
        storage=storage, text=text, name="killed-build", find=str, parent=image, timeout=60, on_output=say
    ).whole()
"""


def start_build(storage: ContainerStorage, image: str, kind: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", BUILD, str(storage.root), image, kind]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line == b"ready\n":
            return process
    raise AssertionError(process.stderr.read().decode())


@pytest.mark.parametrize("kind", ["container", "dockerfile"])
def test_kill_9_of_the_server_leaves_no_process_and_no_mount(
    container_storage: ContainerStorage, tiny_image: str, kind: str
) -> None:
    """Everything dies with the process that ran the build; the next start's sweep removes the rest."""
    before = set(container_storage.mounted())
    process = start_build(container_storage, tiny_image, kind)
    assert processes_with("sleep 6161")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert wait_until_gone("sleep 6161", f"/proc/{process.pid}/fd/", "killed-build") == []
    assert set(container_storage.mounted()) <= before
    report = remove_left_instances(container_storage)
    assert len(report.containers) == 1
    assert container_storage.containers() == ()
    assert leftover_groups(container_storage.key) == ()
    assert list((container_storage.root / "tmp").iterdir()) == []


def test_a_run_that_was_frozen_when_the_server_was_killed_ends_with_the_sweep(
    container_storage: ContainerStorage, tiny_image: str
) -> None:
    """No signal ends what is frozen in a freezer of version 1; the next start thaws it."""
    process = start_build(container_storage, tiny_image, "dockerfile")
    pid = int(processes_with("sleep 6161")[0].partition(":")[0])
    groups = groups_of(pid)
    for group in groups:
        for name, state in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (group / name).exists():
                (group / name).write_text(state)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    remove_left_instances(container_storage)
    assert wait_until_gone("sleep 6161", f"/proc/{process.pid}/fd/", "killed-build") == []
    assert container_storage.containers() == ()
    assert leftover_groups(container_storage.key) == ()
    assert not [group for group in groups if group.exists()]


def test_a_sweep_spares_what_is_alive(launch: Launch, container_storage: ContainerStorage) -> None:
    """Containers that a live build owns go on working; those of a dead one are removed."""
    alive = launch(name="alive-build")
    container_storage.create("dead-build", "scratch")
    container_storage.mount("dead-build")
    report = remove_left_instances(container_storage, {"alive-build"})
    assert report.containers == ("dead-build",)
    assert alive.run(Command(["/bin/true"])).returncode == 0


def test_a_failing_launch_leaves_nothing(
    container_storage: ContainerStorage, tiny_image: str, launch: Launch
) -> None:
    """A variable that no program can have fails the launch: container, sandbox and groups are gone again."""
    image = with_config(container_storage, tiny_image, Env=["A=\0"])
    with pytest.raises(InstanceError, match="no variable"):
        launch(image, name="odd")
    assert "odd" not in container_storage.containers()
    assert leftover_groups(f"{container_storage.key}-odd") == ()


def test_the_death_of_a_sandbox_is_told(launch: Launch) -> None:
    """When something kills the sandbox's first process, the next command says so and close() still cleans up."""
    instance = launch(name="shot")
    sandbox: Any = instance._sandbox
    os.kill(sandbox.pid, signal.SIGKILL)
    for _ in range(100):
        if not sandbox.alive:
            break
        time.sleep(0.02)
    with pytest.raises(InstanceError, match="ended"):
        instance.run(Command(["/bin/true"]))
    instance.close()
    assert "shot" not in instance.storage.containers()


def test_root_inside_that_kills_everything_kills_only_itself(launch: Launch) -> None:
    """kill -9 -1 from inside ends the container's programs and no other."""
    instance = launch(name="suicidal")
    with contextlib.suppress(InstanceError):
        instance.run(Command(["/bin/bash", "-c", "kill -9 -1"]))
    instance.close()
    assert "suicidal" not in instance.storage.containers()


def test_descriptors_do_not_add_up(launch: Launch) -> None:
    """Launching, running and closing gives every file descriptor and thread back."""
    launch(name="warm-up").close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(3):
        instance = launch(name=f"count-{number}")
        instance.run(Command(["/bin/true"]))
        instance.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
