"""How commands are started in a container, and what becomes of them when that fails."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.protocol import InstanceError
from testing.containers import Launch
from testing.leaks import wait_until_gone
from testing.pipeline_support import eventually

pytestmark = pytest.mark.tool


def spawner_of(instance: ContainerInstance) -> int:
    """The process that starts the container's commands, as this machine counts: the child of nsenter."""
    spawner: Any = instance._spawner
    pid = spawner._process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_names_are_looked_up_on_the_path_of_the_command(instance: ContainerInstance) -> None:
    """A bare name is found in the first folder that has it, inside; an empty PATH finds nothing."""
    instance.run(
        Command(["sh", "-c", "mkdir /mine; printf '#!/bin/sh\\necho mine\\n' >/mine/uname; chmod +x /mine/uname"])
    )
    assert instance.run(Command(["uname"], env={"PATH": "/mine:/usr/bin"})).stdout == b"mine\n"
    assert instance.run(Command(["uname"], env={"PATH": "/usr/bin:/mine"})).stdout == b"Linux\n"
    assert instance.run(Command(["uname"], env={"PATH": "/nowhere"})).returncode == 127


def test_a_script_without_an_interpreter_line_is_one_of_the_shell(instance: ContainerInstance) -> None:
    """What the kernel cannot start is tried with /bin/sh, as shells do."""
    instance.write("/tmp/script", b'echo "$1"\n', mode=0o755)
    assert instance.run(Command(["/tmp/script", "a b"])).stdout == b"a b\n"


def test_a_signal_ends_with_the_status_of_a_shell(instance: ContainerInstance) -> None:
    """128 and the number of the signal."""
    assert instance.run(Command(["/bin/sh", "-c", "kill -TERM $$"])).returncode == 128 + signal.SIGTERM


BACKGROUND = {
    "nohup": "nohup sleep 3131 >/tmp/app.log 2>&1 &",
    "plain": "sleep 3131 >/dev/null 2>&1 &",
    "streams kept": "sleep 3131 &",
    "job control": "set -m; sleep 3131 >/dev/null 2>&1 &",
    "setsid": "setsid sleep 3131 </dev/null >/dev/null 2>&1 &",
    "double fork": "( ( sleep 0.05; exec setsid sleep 3131 ) </dev/null >/dev/null 2>&1 & ) &",
    "disowned": "sleep 3131 >/dev/null 2>&1 & disown",
}


@pytest.mark.parametrize("way", BACKGROUND)
def test_what_a_command_leaves_running_is_there_for_the_next(launch: Launch, way: str) -> None:
    """It runs on when later commands end, fail, and run out of time, and ends with the instance."""
    instance = launch()
    instance.run(Command(["bash", "-c", BACKGROUND[way]]))
    instance.run(Command(["bash", "-c", "exit 3"]))
    assert instance.run(Command(["bash", "-c", "sleep 3232"], timeout=0.4)).timed_out
    lines = instance.run(Command(["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])).stdout
    assert b"sleep 3131" in lines and b"sleep 3232" not in lines
    instance.close()
    assert wait_until_gone("sleep 3131") == []


@pytest.mark.parametrize("way", [way for way in BACKGROUND if way != "double fork"])
def test_a_timeout_ends_all_that_the_command_started(instance: ContainerInstance, way: str) -> None:
    """In groups and sessions of their own too."""
    assert instance.run(Command(["bash", "-c", f"{BACKGROUND[way]}\nsleep 3232"], timeout=1)).timed_out
    lines = instance.run(Command(["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])).stdout
    assert b"sleep 3131" not in lines and b"sleep 3232" not in lines


def test_a_service_that_kept_its_streams_goes_on_writing(instance: ContainerInstance) -> None:
    """Its output is read on and thrown away, so that it neither dies of it nor waits; the loss is said."""
    write = "yes | head -c 300000"
    done = instance.run(Command(["bash", "-c", f"( {write}; sleep 2; {write}; : >/tmp/second ) &"]))
    assert done.cut
    script = "for i in {1..100}; do [ -e /tmp/second ] && exit; sleep 0.1; done; exit 1"
    assert instance.run(Command(["bash", "-c", script])).returncode == 0


def test_output_of_a_filter_that_ends_late_is_there(instance: ContainerInstance) -> None:
    """Nobody waits for a process substitution but we."""
    done = instance.run(Command(["bash", "-c", "exec > >(sleep 0.6; sed 's/^/late /'); echo hello"]))
    assert done.stdout == b"late hello\n" and not done.cut


def test_orphans_are_reaped(instance: ContainerInstance) -> None:
    """What commands left running and what has ended since leaves no dead processes."""
    for _ in range(5):
        instance.run(Command(["bash", "-c", "( sleep 0.05 & ) & sleep 0.05 & true"]))
    cat = Command(["bash", "-c", "cat /proc/[0-9]*/stat"])

    def is_clean() -> bool:
        found = instance.run(cat).stdout
        return b"(sleep)" not in found and b" Z " not in found

    eventually(is_clean, "what was left running ends and is reaped")


def test_nothing_of_commands_is_left_in_the_spawner(instance: ContainerInstance) -> None:
    """Descriptors and dead children do not add up over commands that end well, fail, and run out of time."""

    def held() -> tuple[int, list[str]]:
        time.sleep(0.3)  # an answer is on its way before the last descriptor is closed
        pid = spawner_of(instance)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), children

    instance.run(Command(["/bin/true"]))
    before = held()
    for _ in range(5):
        instance.run(Command(["/bin/true"]))
        instance.run(Command(["/no/such"]))
        instance.run(Command(["/bin/sleep", "60"], timeout=0.05))
    assert held() == before and before[1] == []


def test_a_caller_that_gives_up_ends_its_command(instance: ContainerInstance) -> None:
    """An error while output is taken kills the command before it is passed on."""

    def refuse(stream: str, chunk: bytes) -> None:
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        instance.run(Command(["/bin/sh", "-c", "echo x; sleep 4545"]), refuse)
    assert b"4545" not in instance.run(Command(["/bin/sh", "-c", "cat /proc/[0-9]*/cmdline"])).stdout


def test_no_room_for_a_process_is_told(launch: Launch) -> None:
    """When the container has all the processes it may, a further command says so; those that run go on."""
    instance = launch(limits=ResourceLimits(processes=16))

    def run(_number: int) -> str:
        try:
            return str(instance.run(Command(["/bin/sleep", "1"])).returncode)
        except InstanceError as error:
            return str(error)

    with ThreadPoolExecutor(20) as pool:
        said = sorted(pool.map(run, range(20)))
    assert said[0] == "0" and "fork: Resource temporarily unavailable" in said[-1]
    assert instance.run(Command(["/bin/true"])).returncode == 0


def test_the_death_of_the_spawner_is_told(launch: Launch) -> None:
    """Without it no command can run; the container says so and can be closed."""
    instance = launch()
    instance.run(Command(["/bin/true"]))
    os.kill(spawner_of(instance), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(InstanceError, match="cannot run /bin/true"):
            instance.run(Command(["/bin/true"]))
