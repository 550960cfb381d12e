"""The parts of a machine that need no guest: command line, identity, console, the verdict about KVM."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from imagesmith.artifacts.storage import storage_key
from imagesmith.instances.command import Command
from imagesmith.instances.limits import ResourceLimits, make_groups
from imagesmith.instances.machine.accelerator import Accelerator, Verdict, compare, probe
from imagesmith.instances.machine.cloud_init import write_seed
from imagesmith.instances.machine.console import Console
from imagesmith.instances.machine.disable_aslr import PREFIX
from imagesmith.instances.machine.hardware import EMULATED_CPU, Acceleration, Drive, Hardware, Kernel, command_line
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.machine_factory import MachineFactory
from imagesmith.instances.machine.shell_line import CommandTooLong, shell_line
from imagesmith.instances.machine.ssh_keys import MachineIdentity, credential_strings
from imagesmith.instances.machine.way_in import KEYS, LEAVE, RULES, SERVER, boot_hook
from imagesmith.settings import InstanceType, Settings
from testing.containers import make_tiny_root


def pairs(argv: Any) -> set[tuple[str, str]]:
    return set(pairwise(argv))


def test_the_command_line_says_everything_and_nothing_is_there_by_default() -> None:
    """CPU, memory, disks in order, strings and firmware are arguments; the seed is read-only."""
    drives = (Drive("root", "root.qcow2"), Drive("seed", "seed.img", "raw", read_only=True))
    uefi = Hardware(cpus=3, memory_mb=2048, drives=drives, strings=("string-0",), firmware="uefi")
    argv = command_line(uefi, "tcg")
    text = " ".join(argv)
    assert {
        ("-smp", "3"),
        ("-m", "2048M"),
        ("-cpu", EMULATED_CPU),
        ("-display", "none"),
    } <= pairs(argv)
    assert {"-nodefaults", "-no-user-config"} <= set(argv)
    assert text.index("filename=/machine/root.qcow2") < text.index("filename=/machine/seed.img")
    assert "driver=raw,node-name=seed,file=seed-file,read-only=on" in text
    assert "type=11,path=/machine/string-0" in text and "OVMF_CODE" in text
    small = Hardware(cpus=1, memory_mb=512, drives=drives)
    assert ("-cpu", "host") in pairs(command_line(small, "kvm"))
    assert "restrict=on" in " ".join(command_line(replace(small, outbound=False), "tcg"))
    assert not {"-kernel", "-action"} & set(argv)
    direct = command_line(replace(small, kernel=Kernel("vmlinuz", "initrd.img", "ro x")), "tcg")
    assert {
        ("-kernel", "/machine/vmlinuz"),
        ("-initrd", "/machine/initrd.img"),
        ("-append", "ro x"),
        ("-action", "reboot=shutdown"),
    } <= pairs(direct)


def said(*argv: str | Path) -> bytes:
    return subprocess.run(argv, capture_output=True, check=True).stdout


def seed_files(tmp_path: Path, identity: MachineIdentity, *, user_data: bytes = b"") -> dict[str, bytes]:
    """What the NoCloud disk of a machine holds."""
    seed = tmp_path / "seed.img"
    write_seed(seed, identity, hostname="host-1", user_data=user_data)
    assert {"TYPE=vfat", "LABEL=CIDATA"} <= set(
        said("blkid", "--probe", "--output", "export", seed).decode().split()
    )
    names = said("mdir", "-b", "-i", seed, "::").decode().split()
    assert sorted(names) == ["::/meta-data", "::/user-data", "::/vendor-data"]
    return {name.removeprefix("::/"): said("mtype", "-i", seed, name) for name in names}


@pytest.mark.tool
def test_a_seed_lets_in_the_owner_of_the_key_and_nobody_else(tmp_path: Path) -> None:
    """The NoCloud disk holds our public key and the machine's own key pair."""
    identity = MachineIdentity.fresh()
    found = seed_files(tmp_path, identity)
    hook, config = json.loads(found["vendor-data"].removeprefix(b"#cloud-config-archive\n"))
    vendor = json.loads(config["content"].removeprefix("#cloud-config\n"))
    assert hook["type"] == "text/cloud-boothook" and identity.authorized in hook["content"]
    assert json.loads(found["meta-data"]) == {"instance-id": identity.instance_id, "local-hostname": "host-1"}
    assert vendor["ssh_authorized_keys"] == [identity.authorized] and vendor["disable_root"] is False
    private = asyncssh.import_private_key(vendor["ssh_keys"]["ed25519_private"])
    assert private.export_public_key() == identity.host.export_public_key()


@pytest.mark.tool
def test_user_data_is_given_as_it_stands_and_mixed_with_nothing(tmp_path: Path) -> None:
    """Beside it there is a boot hook with our public key and the machine's own, and no member that cloud-init would
    merge."""
    identity = MachineIdentity.fresh()
    found = seed_files(tmp_path, identity, user_data=b"#!/bin/sh\necho hello\n")
    assert found["user-data"] == b"#!/bin/sh\necho hello\n"
    large = os.urandom(3_000_000)
    assert seed_files(tmp_path, identity, user_data=large)["user-data"] == large
    (hook,) = json.loads(found["vendor-data"].removeprefix(b"#cloud-config-archive\n"))
    assert hook["type"] == "text/cloud-boothook" and hook["content"].startswith("#!/bin/sh\n")
    assert identity.authorized in hook["content"]
    client, host = (key.export_private_key().decode().splitlines()[4] for key in (identity.client, identity.host))
    assert host in hook["content"] and client not in hook["content"]


def credential_lines(identity: MachineIdentity, *, host_key: bool) -> dict[str, list[str]]:
    (text,) = credential_strings(identity, host_key=host_key)
    name, value = text.split(b"=", 1)
    assert name == b"io.systemd.credential.binary:tmpfiles.extra"
    return {line.split()[1]: line.split() for line in base64.b64decode(value).decode().splitlines()}


def test_credentials_become_files_of_the_guest() -> None:
    """Our key is root's, and both halves of the host key are lines of tmpfiles, unless cloud-init has them."""
    identity = MachineIdentity.fresh()
    found = credential_lines(identity, host_key=True)
    assert base64.b64decode(found[KEYS][-1]).decode() == f"{identity.authorized}\n"
    private = found["/etc/ssh/ssh_host_ed25519_key"]
    assert private[0] == "f~" and private[2] == "0600"
    given = asyncssh.import_private_key(base64.b64decode(private[-1]))
    assert given.export_public_key() == identity.host.export_public_key()
    assert set(credential_lines(identity, host_key=False)) == {str(Path(KEYS).parent), KEYS, RULES}


@pytest.fixture
def ssh_root(tmp_path: Path) -> Path:
    """A root with the tools of this machine, for scripts that change `/etc/ssh` and homes."""
    root = tmp_path / "root"
    make_tiny_root(root)
    for name in ("etc/ssh/sshd_config.d", "home/web/.ssh", "var/lib/cloud/instances/i-1", "dev", "root/.ssh"):
        (root / name).mkdir(parents=True)
    os.mknod(root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return root


def in_root(root: Path, script: str, *arguments: str) -> None:
    done = subprocess.run(
        ["chroot", str(root), "sh", "-s", *arguments], input=script, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.tool
@pytest.mark.parametrize("included", [True, False])
def test_the_boot_hook_lets_in_where_systemd_does_not(ssh_root: Path, included: bool) -> None:
    """An sshd that reads the folder finds the rule; any other one finds our key among root's own, once."""
    key, server = MachineIdentity.fresh().authorized, ssh_root / SERVER[1:]
    (ssh_root / "etc/ssh/sshd_config").write_text("Include /etc/ssh/sshd_config.d/*.conf\n" if included else "")
    own = ssh_root / "root/.ssh/authorized_keys"
    own.write_text("ssh-ed25519 AAAA somebody\n")
    for _ in range(2):
        in_root(ssh_root, boot_hook(key, "a private key\n"))
    assert (server / "host_key").read_text() == "a private key\n"
    assert (server / "host_key").stat().st_mode & 0o777 == 0o600
    assert (server / "authorized_keys").read_text() == f"{key}\n"
    assert (ssh_root / KEYS[1:]).read_text() == f"{key}\n"
    assert (ssh_root / RULES[1:]).exists() == included
    assert own.read_text() == f"ssh-ed25519 AAAA somebody\n{key}\n"


@pytest.mark.tool
def test_nothing_of_our_keys_stays_in_an_image(ssh_root: Path) -> None:
    """Files of ours go, lines of ours go out of the keys of others, and so does what cloud-init kept of them."""
    identity = MachineIdentity.fresh()
    private, public = identity.host.export_private_key().decode(), identity.host.export_public_key().decode()
    (ssh_root / "etc/ssh/sshd_config").write_text("PermitRootLogin no\n")
    in_root(ssh_root, boot_hook(identity.authorized, private))
    (ssh_root / RULES[1:]).write_text("Match User root\n")
    (ssh_root / "home/web/.ssh/authorized_keys").write_text(f"ssh-rsa AA a\n{identity.authorized}\nssh-rsa BB b\n")
    (ssh_root / "var/lib/cloud/instances/i-1/vendor-data.txt").write_text(f"keys: {identity.authorized}")
    (ssh_root / "var/lib/cloud/instances/i-1/user-data.txt").write_text("of somebody else")
    for name, text in (
        ("ssh_host_ed25519_key", private),
        ("ssh_host_ed25519_key.pub", public),
        ("ssh_host_rsa_key", "r"),
    ):
        (ssh_root / "etc/ssh" / name).write_text(text)
    in_root(ssh_root, LEAVE, *identity.marks)
    kept = {str(place.relative_to(ssh_root)) for place in (ssh_root / "etc/ssh").rglob("*")}
    assert not (ssh_root / SERVER[1:]).exists()
    assert kept == {"etc/ssh/sshd_config", "etc/ssh/sshd_config.d", "etc/ssh/ssh_host_rsa_key"}
    assert not (ssh_root / "root/.ssh/authorized_keys").exists()
    assert (ssh_root / "home/web/.ssh/authorized_keys").read_text() == "ssh-rsa AA a\nssh-rsa BB b\n"
    assert [place.name for place in (ssh_root / "var/lib/cloud/instances/i-1").iterdir()] == ["user-data.txt"]


def test_two_machines_have_nothing_in_common() -> None:
    """Every identity is fresh."""
    one, two = MachineIdentity.fresh(), MachineIdentity.fresh()
    assert one.authorized != two.authorized
    assert one.host.export_public_key() != two.host.export_public_key()


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        (b"[  1.0] Kernel panic - not syncing: VFS: Unable to mount root\r\n", "panicked.*Unable to mount root"),
        (b"\r\nYou are in emergency mode. After logging in", "emergency shell"),
        (b"BusyBox v1.35\r\n(initramfs) ", "emergency shell"),
        (b"Booting from Hard Disk...\r\nNo bootable device.\r\n", "does not boot"),
        (b"grub rescue> ", "does not boot"),
    ],
)
def test_trouble_is_seen_on_the_console_however_it_arrives(said: bytes, trouble: str) -> None:
    """Each sign is found when it comes byte by byte, and ordinary output is none."""
    console = Console()
    console.add(b"[  OK  ] Started something\r\n" * 500)
    assert console.trouble == ""
    for byte in said:
        console.add(bytes([byte]))
    assert re.search(trouble, console.trouble)
    console.restart()
    assert console.trouble == "" and console.lines() == ""


def test_the_console_is_bounded_and_readable(tmp_path: Path) -> None:
    """Memory and file are bounded; escape sequences and empty lines are left out of what is shown."""
    console = Console(tmp_path / "log")
    for _ in range(40):
        console.add(b"x" * 1024 * 1024)
    console.add(b"\r\n\x1b[0;32m  OK  \x1b[0m done\r\n\r\n\x1b[2Jlast\x07\r\n")
    assert console.lines(2) == "  OK   done\nlast"
    assert (tmp_path / "log").stat().st_size <= 9 * 1024 * 1024


@pytest.mark.tool
def test_without_the_device_machines_are_emulated(tmp_path: Path) -> None:
    """The verdict says why; so does that of a device that is not KVM."""
    assert "there is no" in probe(tmp_path / "kvm").reason
    verdict = Accelerator(tmp_path / "a", device=tmp_path / "kvm").verdict()
    assert verdict.acceleration == "tcg" and not verdict.proven


@pytest.mark.parametrize(
    ("accelerated", "emulated", "chosen"),
    [
        (0.2, 0.4, "kvm"),
        (0.5, 0.4, "kvm"),  # other work of the machine
        (1.3, 0.4, "tcg"),
        (11.1, 0.5, "tcg"),  # seen: a hypervisor that interprets the guests of its guests
        (11.1, None, "kvm"),  # nothing to compare with
    ],
)
def test_a_kvm_slower_than_emulation_is_not_used(
    accelerated: float, emulated: float | None, chosen: Acceleration
) -> None:
    """KVM may take three times as long as emulation; the reason names both times."""
    verdict = compare(accelerated, emulated)
    assert verdict.acceleration == chosen
    assert chosen == "kvm" or f"took {accelerated} s under KVM and {emulated} s emulated" in verdict.reason


def test_the_verdict_is_remembered_for_this_boot_of_the_host(tmp_path: Path) -> None:
    """A distrusted KVM stays distrusted, a file of another boot or with nonsense counts for nothing."""
    device = tmp_path / "kvm"
    accelerator = Accelerator(tmp_path, device=device)
    accelerator.distrust("a guest hung")
    assert Accelerator(tmp_path, device=device).verdict().reason == "a guest hung"
    accelerator.trust(accelerator.verdict())
    assert accelerator.verdict().proven
    file = tmp_path / "accelerator.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "host": "another boot"}))
    assert "there is no" in accelerator.verdict().reason
    file.write_text("{")
    assert "there is no" in accelerator.verdict().reason


def test_the_settings_can_decide(tmp_path: Path) -> None:
    """With an accelerator in the settings nothing is tried and nothing is written."""
    accelerator = Accelerator(tmp_path / "none", wanted="kvm", device=tmp_path / "kvm")
    assert accelerator.verdict() == Verdict("kvm", "the settings say so", proven=True)
    accelerator.distrust("it hung")
    assert not (tmp_path / "none").exists()


def test_instance_types_are_what_the_settings_say(tmp_path: Path) -> None:
    """The first type that is known counts; without any, the default of the settings."""
    settings = Settings(tmp_path, instance_types={"t3.large": InstanceType(4, 8192)})
    place = MachineFactory.of(settings)
    large, other = place.options(["m5.unknown", "t3.large"]), place.options(["t3.nano"])
    assert (large.cpus, large.memory_mb) == (4, 8192)
    assert (other.cpus, other.memory_mb) == (settings.machines.cpus, settings.machines.memory_mb)
    assert place.remove_leftovers() == []
    (place.folder / "dead-build").mkdir(parents=True)
    (place.folder / "alive-build").mkdir()
    assert place.remove_leftovers(["alive-build"]) == ["dead-build"]


def test_control_groups_of_machines_of_a_killed_server_go(tmp_path: Path) -> None:
    """They bear the name of the folder of machines; those of machines that are kept stay, and those of others."""
    place, other = (MachineFactory.of(Settings(tmp_path / name)) for name in ("one", "other"))
    made = {
        name: make_groups(f"{storage_key(factory.folder)}-{name}", ResourceLimits())
        for factory, name in ((place, "dead-build"), (place, "kept-build"), (other, "dead-test"))
    }
    try:
        place.remove_leftovers(["kept-build"])
        left = {name for name, groups in made.items() if all(folder.exists() for folder in groups.folders)}
        assert left == {"kept-build", "dead-test"}
    finally:
        for groups in made.values():
            groups.remove()


def test_commands_are_quoted_and_bounded() -> None:
    """No word of a command means anything to the shell that takes it, and a line that is too long is refused."""
    command = Command(["echo", "$HOME; rm -rf /"], env={"A": "b c"}, cwd="/a b")
    assert shell_line(command) == "cd '/a b' && exec env -i 'A=b c' echo '$HOME; rm -rf /'"
    assert shell_line(command, PREFIX).startswith("cd '/a b' && exec setarch x86_64 -R env -i 'A=b c' echo ")
    with pytest.raises(CommandTooLong, match="the arguments of echo"):
        shell_line(Command(["echo", "x" * 140_000]))


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread("test")
    yield thread
    thread.close()
    thread.close()


def test_the_loop_runs_checks_and_ends(loop: LoopThread) -> None:
    """Results and failures come back, a failing check ends the work, and so does the time limit."""

    async def value() -> int:
        return 3

    assert loop.call(value()) == 3
    with pytest.raises(TimeoutError):
        loop.call(asyncio.sleep(60), timeout=0.05)

    def fail() -> None:
        raise KeyError("checked")

    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    with pytest.raises(KeyError, match="checked"):
        loop.call(long(), check=fail)
    until = time.monotonic() + 10
    while not ended and time.monotonic() < until:
        time.sleep(0.01)
    assert ended == ["cancelled"]
