"""How commands are started in a container, and what becomes of them when that fails."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.limits import Limits
from imagesmith.instances.protocol import InstanceError
from instances.conftest import Launch

pytestmark = pytest.mark.tool


def spawner_of(instance: ContainerInstance) -> int:
    """The process that starts the container's commands, as this machine counts: the child of nsenter."""
    spawner: Any = instance._spawner
    pid = spawner._process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_names_are_looked_up_on_the_path_of_the_command(instance: ContainerInstance) -> None:
    """A bare name is found in the first folder that has it, inside; an empty PATH finds nothing."""
    instance.run(["sh", "-c", "mkdir /mine; printf '#!/bin/sh\\necho mine\\n' >/mine/uname; chmod +x /mine/uname"])
    assert instance.run(["uname"], env={"PATH": "/mine:/usr/bin"}).stdout == b"mine\n"
    assert instance.run(["uname"], env={"PATH": "/usr/bin:/mine"}).stdout == b"Linux\n"
    assert instance.run(["uname"], env={"PATH": "/nowhere"}).returncode == 127


def test_a_script_without_an_interpreter_line_is_one_of_the_shell(instance: ContainerInstance) -> None:
    """What the kernel cannot start is tried with /bin/sh, as shells do."""
    instance.write("/tmp/script", b'echo "$1"\n', mode=0o755)
    assert instance.run(["/tmp/script", "a b"]).stdout == b"a b\n"


def test_a_signal_ends_with_the_status_of_a_shell(instance: ContainerInstance) -> None:
    """128 and the number of the signal."""
    assert instance.run(["/bin/sh", "-c", "kill -TERM $$"]).returncode == 128 + signal.SIGTERM


def test_the_group_of_a_command_ends_with_it(instance: ContainerInstance) -> None:
    """What a command leaves in its own group is killed; only what made itself a daemon lives on."""
    instance.run(["/bin/sh", "-c", "sleep 3131 & setsid sleep 3232 </dev/null >/dev/null 2>&1 & sleep 0.2"])
    lines = instance.run(["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout
    assert b"3131" not in lines and b"3232" in lines


def test_a_daemon_may_leave_the_group_after_its_command(instance: ContainerInstance) -> None:
    """The program that began it ends first, and the daemon is a daemon only a moment later."""
    instance.run(["/bin/sh", "-c", "(sleep 0.05; exec setsid sleep 3333) </dev/null >/dev/null 2>&1 &"])
    lines = instance.run(["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout
    assert b"sleep 3333" in lines


def test_nothing_of_commands_is_left_in_the_spawner(instance: ContainerInstance) -> None:
    """Descriptors and dead children do not add up over commands that end well, fail, and run out of time."""

    def held() -> tuple[int, list[str]]:
        time.sleep(0.3)  # an answer is on its way before the last descriptor is closed
        pid = spawner_of(instance)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), children

    instance.run(["/bin/true"])
    before = held()
    for _ in range(5):
        instance.run(["/bin/true"])
        instance.run(["/no/such"])
        instance.run(["/bin/sleep", "60"], timeout=0.05)
    assert held() == before and before[1] == []


def test_a_caller_that_gives_up_ends_its_command(instance: ContainerInstance) -> None:
    """An error while output is taken kills the command before it is passed on."""

    def refuse(stream: str, chunk: bytes) -> None:
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        instance.run(["/bin/sh", "-c", "echo x; sleep 4545"], on_output=refuse)
    assert b"4545" not in instance.run(["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline"]).stdout


def test_no_room_for_a_process_is_told(launch: Launch) -> None:
    """When the container has all the processes it may, a further command says so; those that run go on."""
    instance = launch(limits=Limits(processes=16))

    def run(_number: int) -> str:
        try:
            return str(instance.run(["/bin/sleep", "1"]).returncode)
        except InstanceError as error:
            return str(error)

    with ThreadPoolExecutor(20) as pool:
        said = sorted(pool.map(run, range(20)))
    assert said[0] == "0" and "fork: Resource temporarily unavailable" in said[-1]
    assert instance.run(["/bin/true"]).returncode == 0


def test_the_death_of_the_spawner_is_told(launch: Launch) -> None:
    """Without it no command can run; the container says so and can be closed."""
    instance = launch()
    instance.run(["/bin/true"])
    os.kill(spawner_of(instance), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(InstanceError, match="cannot run /bin/true"):
            instance.run(["/bin/true"])
