"""This computer as an instance."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from imagesmith.instances.command import Command
from imagesmith.instances.host import HostInstance
from imagesmith.instances.protocol import CannotReboot, Instance, InstanceError
from testing.pipeline_support import eventually


@pytest.fixture
def host(tmp_path: Path) -> HostInstance:
    return HostInstance(tmp_path, environment={"PATH": "/usr/bin:/bin", "KEPT": "yes"})


def test_is_an_instance(host: HostInstance) -> None:
    """It satisfies the protocol and says what it is."""
    assert isinstance(host, Instance)
    assert (host.kind, host.environment["KEPT"]) == ("host", "yes")


def test_run(host: HostInstance, tmp_path: Path) -> None:
    """Commands run below the folder with the environment that was given, and no other."""
    (tmp_path / "sub").mkdir()
    script = 'pwd; echo "$KEPT $MORE [${HOME-}]"; cat'
    done = host.run(Command(("sh", "-c", script), env={"MORE": "too"}, cwd="sub", input=b"in"))
    assert done.stdout.decode() == f"{tmp_path}/sub\nyes too []\nin"
    assert host.run(Command(("sh", "-c", "exit 5"))).returncode == 5
    with pytest.raises(InstanceError, match="does not exist"):
        host.run(Command(("true",), cwd="none"))


def test_timeout_kills_the_group(host: HostInstance) -> None:
    """After the time is over children are gone too."""
    started = time.monotonic()
    done = host.run(Command(("sh", "-c", "sleep 50 & sleep 50"), timeout=0.3))
    assert done.timed_out and time.monotonic() - started < 5


def test_files(host: HostInstance, tmp_path: Path) -> None:
    """Files are read, written, pushed and pulled, by relative and absolute path."""
    host.write("one", b"1", mode=0o640)
    assert (host.read(str(tmp_path / "one")), (tmp_path / "one").stat().st_mode & 0o777) == (b"1", 0o640)
    assert host.exists("one") and not host.exists("none")
    (tmp_path / "broken").symlink_to("nowhere")
    assert host.exists("broken")
    host.push(tmp_path / "one", "two")
    host.pull("two", tmp_path / "three")
    assert (tmp_path / "three").read_bytes() == b"1"


def test_errors_name_the_path(host: HostInstance, tmp_path: Path) -> None:
    """What cannot be done is told with the path that was asked for."""
    host.write("one", b"12345")
    for act in (
        lambda: host.read("none"),
        lambda: host.read("."),
        lambda: host.read("one", limit=4),
        lambda: host.write("none/x", b""),
        lambda: host.pull("none", tmp_path / "x"),
    ):
        with pytest.raises(InstanceError, match=r"none|one|[.]"):
            act()


def test_what_a_host_cannot_do(host: HostInstance) -> None:
    """Restarts and checkpoints are refused in words; closing is always fine."""
    with pytest.raises(CannotReboot, match="not restarted"):
        host.reboot()
    with pytest.raises(InstanceError, match="no checkpoints"):
        host.checkpoint()
    host.close()
    host.close()


def test_what_a_command_leaves_running_lives_on_and_a_timeout_ends_it(tmp_path: Path) -> None:
    """As on every computer: a background program outlives its step, unless the step ran out of time."""
    host = HostInstance(tmp_path)
    done = host.run(Command(["bash", "-c", "nohup sleep 60 >log 2>&1 & echo $! >pid"]))
    assert done.returncode == 0 and not done.cut
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert host.run(Command(["bash", "-c", "sleep 60 & echo $! >pid; sleep 60"], timeout=0.5)).timed_out
    place = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    assert not place.exists() or ") Z " in place.read_text()


def test_what_a_command_leaves_running_can_go_on_writing(tmp_path: Path) -> None:
    """Its output is read and thrown away, more than a pipe holds, on both streams."""
    write = "head -c 300000 /dev/zero"
    done = HostInstance(tmp_path).run(Command(["bash", "-c", f"( sleep 2; {write}; {write} >&2; : >second ) &"]))
    assert done.cut
    eventually((tmp_path / "second").exists, "the process that was left running has written all")


def test_late_output_of_a_filter_is_read_and_its_loss_is_known(tmp_path: Path) -> None:
    """Within bounds; a program that holds the streams and is silent is not waited for."""
    host = HostInstance(tmp_path)
    done = host.run(Command(["bash", "-c", "exec > >(sleep 0.6; sed 's/^/late /'); echo hello"]))
    assert done.stdout == b"late hello\n" and not done.cut
    assert host.run(Command(["bash", "-c", "sleep 3 & echo begun"])).cut
