"""A real Debian in a machine: commands, files, network, restart, sanitising, its image, and two ways to die.

Three boots under emulation, so one life of a machine is one test, and what it found is checked by small ones.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagesmith.artifacts.disks import Disk, DiskStore, examine
from imagesmith.instances import limits, timer
from imagesmith.instances.command import Command
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.metadata import GuestMetadata
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.sanitize import MARKER, sanitize
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.processes import Completed
from testing.machines import MadeBase, left_over, machine_process

pytestmark = [pytest.mark.tool, pytest.mark.timeout(1500)]

_OPEN = 'timeout 5 bash -c "echo >/dev/tcp/$1/$2" 2>/dev/null && echo open || echo closed'
_METADATA = (
    "exec 3<>/dev/tcp/169.254.169.254/80; "
    "printf 'GET /latest/meta-data/instance-id HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
)
_RESULT = "/run/cloud-init/result.json"
FACTS = GuestMetadata(instance_id="i-0123456789abcdef0", account="111111111111", region="eu-west-1")
_STARTED = "cat /proc/sys/kernel/randomize_va_space /proc/1/personality /proc/cmdline"


_LIMITS = """
import json, os, signal, subprocess, sys
sys.path.insert(0, "/root/limits")
from pathlib import Path
from imagesmith.instances.limits import ResourceLimits, leftover_groups, make_groups

groups = make_groups("guest", ResourceLimits(processes=8, memory_mb=32))
entrance = str(groups.entrances[0] / "cgroup.procs")
JOIN = f'echo 0 >{entrance} || exit 9; '
forks = 'for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; wait'
allocates = 'exec python3 -c "len(bytearray(96 * 1024 * 1024))"'
forked = subprocess.Popen(["sh", "-c", JOIN + forks], stderr=subprocess.PIPE, start_new_session=True)
denied = forked.stderr.readline().decode()
most = len(Path(entrance).read_text().split())
os.killpg(forked.pid, signal.SIGKILL)
forked.wait()
memory = subprocess.run(["sh", "-c", JOIN + allocates]).returncode
killed = groups.out_of_memory()
frozen = subprocess.Popen(["sh", "-c", JOIN + "echo on; exec sleep 600"], stdout=subprocess.PIPE)
frozen.stdout.readline()
(groups.folders[0] / "cgroup.freeze").write_text("1")
groups.remove()
found = [groups.missing, denied, most, memory, killed, frozen.wait(60), len(leftover_groups("guest"))]
print(json.dumps(found))
"""


@dataclass
class Life:
    """What one machine said and left."""

    folder: Path
    base: MadeBase
    said: dict[str, Completed] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    image: Disk | None = None

    def text(self, name: str) -> str:
        return self.said[name].stdout.decode()


def boot(life: Life, disk: Path, name: str, **options: object) -> MachineInstance:
    return MachineInstance.launch(
        life.folder / "machines" / name, disk, options=MachineOptions(**options),  # type: ignore[arg-type]
        accelerator=Accelerator(life.folder / "machines"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    """A port of this computer, on every address, that answers."""
    server = socketserver.ThreadingTCPServer(("0.0.0.0", 0), socketserver.BaseRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def life(machine_base: MadeBase, tmp_path_factory: pytest.TempPathFactory, listener: int) -> Life:
    """A machine on the base: used, restarted, sanitised, stopped, its disk captured."""
    life = Life(tmp_path_factory.mktemp("life"), machine_base)
    machine = boot(life, machine_base.disk.path, "web-build", entry="credentials", fast_boot=True, metadata=FACTS)
    try:
        use(life, machine, listener)
        life.said["first start"] = machine.run(Command(["sh", "-c", _STARTED]))
        machine.reboot()
        life.said["metadata after reboot"] = machine.run(Command(["bash", "-c", _METADATA]))
        life.said["second start"] = machine.run(Command(["sh", "-c", _STARTED]))
        life.said["after reboot"] = machine.run(Command(["cat", "/root/file", "/proc/sys/kernel/random/boot_id"]))
        machine.run(Command(["sh", "-c", "echo ls >/root/.bash_history; echo x >/var/log/own.log"]))
        machine.run(Command(["sh", "-c", MARKER, "sh", "/tmp"]))
        life.facts["sanitised"] = sanitize(machine, directory="/tmp")
        machine.stop()
        life.image = DiskStore(life.folder / "disks").capture(machine.disk.path)
    finally:
        machine.close()
    life.facts["left"] = left_over(life.folder)
    return life


def use(life: Life, machine: MachineInstance, listener: int) -> None:
    """Everything a component may do, before the restart."""
    host = socket.gethostbyname(socket.gethostname())
    outside = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    life.facts["is an instance"] = isinstance(machine, Instance)
    life.said["status"] = machine.run(Command(["sh", "-c", "echo out; echo err >&2; exit 3"]))
    life.said["missing"] = machine.run(Command(["no-such-program"]))
    life.said["timeout"] = machine.run(Command(["sh", "-c", "echo started; sleep 600"], timeout=5))
    life.said["left running"] = machine.run(Command(["sh", "-c", "sleep 600 & echo gone on"], timeout=120))
    life.said["environment"] = machine.run(
        Command(["sh", "-c", 'echo "$A|$HOME|$(pwd)"'], env={"A": "b c'd"}, cwd="/usr")
    )
    life.said["input"] = machine.run(Command(["wc", "-c"], input=b"x" * 3_000_000))
    chunks: list[bytes] = []
    life.said["long"] = machine.run(
        Command(["head", "-c", "300000", "/dev/zero"], limit=1000), lambda _, chunk: chunks.append(chunk)
    )
    life.facts["chunks"] = sum(map(len, chunks))
    machine.write("/root/file", b"kept\n", mode=0o640)
    life.facts["file"] = (machine.read("/root/file"), machine.exists("/root/file"), machine.exists("/root/other"))
    local = life.folder / "local"
    local.write_bytes(os.urandom(200_000))
    machine.push(local, "/root/pushed")
    machine.pull("/root/pushed", life.folder / "back")
    life.facts["copied"] = (life.folder / "back").read_bytes() == local.read_bytes()
    with pytest.raises(InstanceError, match="machine web-build: no such file"):
        machine.read("/root/other")
    life.said["before reboot"] = machine.run(Command(["cat", "/proc/sys/kernel/random/boot_id"]))
    life.said["mirror"] = machine.run(Command(["sh", "-c", "apt-get update -q 2>&1 | tail -1"], timeout=240))
    for name, address in (("its host", "10.0.3.2"), ("outer host", "10.0.2.2"), ("loopback", host)):
        life.said[name] = machine.run(Command(["sh", "-c", _OPEN, "sh", address, str(listener)]))
    life.said["own address"] = machine.run(Command(["sh", "-c", _OPEN, "sh", outside[0], str(listener)]))
    life.said["hosts"] = machine.run(Command(["getent", "-s", "hosts:files", "ahostsv6", "ip6-loopback"]))
    life.said["disabled"] = machine.run(Command(["systemctl", "disable", "apt-daily.timer"]))
    life.said["metadata"] = machine.run(Command(["bash", "-c", _METADATA]))
    life.said["link-local"] = machine.run(Command(["sh", "-c", _OPEN, "sh", "169.254.169.253", "80"]))
    socket.create_connection((outside[0], listener), 5).close()
    for module in (limits, timer):
        assert module.__file__ is not None
        machine.run(Command(["mkdir", "-p", "/root/limits/imagesmith/instances"]))
        place = f"/root/limits/{module.__name__.replace('.', '/')}.py"
        machine.write(place, Path(module.__file__).read_bytes(), mode=0o644)
    life.said["limits"] = machine.run(Command(["python3", "-"], input=_LIMITS.encode(), timeout=300))


def test_commands_end_as_they_do_in_a_container(life: Life) -> None:
    """Status, both streams, a missing program, the time limit, programs left running, variables and folder."""
    assert life.facts["is an instance"]
    assert (life.said["status"].returncode, life.said["status"].stdout, life.said["status"].stderr) == (
        3, b"out\n", b"err\n",
    )  # fmt: skip
    assert life.said["missing"].returncode == 127
    assert life.said["timeout"].timed_out and life.said["timeout"].stdout == b"started\n"
    assert life.said["left running"].returncode == 0 and not life.said["left running"].timed_out
    assert life.text("environment") == "b c'd|/root|/usr\n"


def test_control_groups_of_version_2_limit_and_end(life: Life) -> None:
    """In the guest, where the controllers belong to version 2: processes, memory, and a frozen process."""
    missing, denied, most, memory, killed, frozen, left = json.loads(life.text("limits"))
    assert missing == [] and "ork" in denied and most <= 8
    assert (memory, killed) == (-9, 1)
    assert (frozen, left) == (-9, 0)


def test_streams_and_files_are_whole(life: Life) -> None:
    """Large input arrives, long output is bounded and streamed, files come back byte by byte."""
    assert life.text("input").strip() == "3000000"
    assert life.said["long"].dropped == 299_000 and life.facts["chunks"] == 300_000
    assert life.facts["file"] == (b"kept\n", True, False) and life.facts["copied"]


def test_the_guest_reaches_the_mirror_and_nothing_of_the_host(life: Life) -> None:
    """A port that is open on the host's loopback and on its address is closed from inside, by every way."""
    assert "Reading package lists" in life.text("mirror")
    ways = ("its host", "outer host", "loopback", "own address", "link-local")
    assert {way: life.text(way).strip() for way in ways} == dict.fromkeys(ways, "closed")


def test_the_guest_finds_its_metadata_service(life: Life) -> None:
    """The machine's own id, at the address of EC2's service, which also answers after a restart."""
    for said in ("metadata", "metadata after reboot"):
        assert life.text(said).splitlines()[-1] == FACTS.instance_id


def test_names_of_the_hosts_file_are_found(life: Life) -> None:
    """/etc/hosts of the base is one that the resolver reads."""
    assert life.text("hosts").split()[0] == "::1"


def test_a_restart_is_a_restart(life: Life) -> None:
    """The guest runs another boot afterwards, with its files."""
    file, boot_id = life.text("after reboot").split()
    assert file == "kept" and boot_id != life.text("before reboot").strip()


def test_a_quick_start_is_of_the_kernel_and_a_restart_of_the_disk(life: Life) -> None:
    """The first start has no boot loader, and the setting for addresses is the usual one all the same."""
    random, personality, arguments = life.text("first start").split("\n", 2)
    assert (random, personality) == ("2", "00000000") and "BOOT_IMAGE" not in arguments and "root=UUID" in arguments
    random, _, arguments = life.text("second start").split("\n", 2)
    assert random == "2" and arguments.startswith("BOOT_IMAGE=/vmlinuz ") and "norandmaps" not in arguments


def test_nothing_is_left_of_a_closed_machine(life: Life) -> None:
    """No folder, no process."""
    assert life.facts["left"] == []


def test_the_image_boots_by_uefi_as_a_new_machine(life: Life) -> None:
    """It stands alone, is sanitised, and lets in who cloud-init says; a panic and the end of QEMU are told."""
    assert life.image is not None and examine(life.image.path).format == "qcow2"
    assert "removed: host keys" in str(life.facts["sanitised"])
    machine = boot(life, life.image.path, "web-test", firmware="uefi")
    try:
        check_image(machine)
        with pytest.raises(InstanceError, match=r"(?s)kernel panicked: .*sysrq.*last lines of its console"):
            machine.run(
                Command(["sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60"])
            )
        os.kill(machine_process(machine.folder), signal.SIGKILL)
        machine.emulator.wait(20)
        with pytest.raises(InstanceError, match=r"QEMU ended|no channel to the machine"):
            machine.run(Command(["true"]))
    finally:
        machine.close()
    assert left_over(life.folder) == []


def check_image(machine: MachineInstance) -> None:
    """What must be fresh in a machine made from an image."""

    def say(script: str) -> str:
        return machine.run(Command(["sh", "-c", script], timeout=240)).stdout.decode().strip()

    assert say("[ -d /sys/firmware/efi ] && echo uefi") == "uefi"
    assert say("cat /root/file") == "kept"
    assert say("cat /root/.bash_history /var/log/own.log 2>/dev/null") == ""
    assert say("ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"
    assert len(say("cat /etc/machine-id")) == 32 == len(say("cat /var/lib/dbus/machine-id || cat /etc/machine-id"))
    assert say("systemctl is-active first-boot-complete.target systemd-firstboot.service") == "active\nactive"
    assert say("systemctl is-enabled apt-daily.timer apt-daily-upgrade.timer ssh.socket ssh.service") == (
        "disabled\nenabled\ndisabled\nenabled"
    )
    assert say("systemctl --failed --no-legend") == ""
    assert '"errors": []' in say(f"until [ -e {_RESULT} ]; do sleep 1; done; cat {_RESULT}")
    assert len(say("cat /root/.ssh/authorized_keys").splitlines()) == 1
