"""The parts of a machine that need no guest: command line, identity, console, the verdict about KVM."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncssh
import pycdlib
import pytest

from imagesmith.instances.machine.accelerator import Accelerator, Verdict, probe
from imagesmith.instances.machine.command import Command, CommandTooLong
from imagesmith.instances.machine.console import Console
from imagesmith.instances.machine.hardware import EMULATED_CPU, Drive, Hardware, Kernel, command_line
from imagesmith.instances.machine.hasten import PREFIX
from imagesmith.instances.machine.identity import Identity, credential_strings, write_seed
from imagesmith.instances.machine.loop import LoopThread
from imagesmith.instances.machine.place import MachinePlace
from imagesmith.settings import InstanceType, Settings


def pairs(argv: Any) -> set[tuple[str, str]]:
    return set(pairwise(argv))


def test_the_command_line_says_everything_and_nothing_is_there_by_default() -> None:
    """CPU, memory, disks in order, strings and firmware are arguments; the seed is read-only."""
    drives = (Drive("root", "root.qcow2"), Drive("seed", "seed.iso", "raw", read_only=True))
    argv = command_line(Hardware(3, 2048, drives, ("string-0",), firmware="uefi"), "tcg")
    text = " ".join(argv)
    assert {
        ("-smp", "3"),
        ("-m", "2048M"),
        ("-cpu", EMULATED_CPU),
        ("-display", "none"),
    } <= pairs(argv)
    assert {"-nodefaults", "-no-user-config"} <= set(argv)
    assert text.index("filename=/machine/root.qcow2") < text.index("filename=/machine/seed.iso")
    assert "driver=raw,node-name=seed,file=seed-file,read-only=on" in text
    assert "type=11,path=/machine/string-0" in text and "OVMF_CODE" in text
    assert ("-cpu", "host") in pairs(command_line(Hardware(1, 512, drives), "kvm"))
    assert "restrict=on" in " ".join(command_line(Hardware(1, 512, drives, outbound=False), "tcg"))
    assert not {"-kernel", "-action"} & set(argv)
    direct = command_line(Hardware(1, 512, drives, kernel=Kernel("vmlinuz", "initrd.img", "ro x")), "tcg")
    assert {
        ("-kernel", "/machine/vmlinuz"),
        ("-initrd", "/machine/initrd.img"),
        ("-append", "ro x"),
        ("-action", "reboot=shutdown"),
    } <= pairs(direct)


def test_a_seed_lets_in_the_owner_of_the_key_and_nobody_else(tmp_path: Path) -> None:
    """The NoCloud disk holds our public key and the machine's own key pair; user data stays as it was given."""
    identity = Identity.fresh()
    user_data = b"#!/bin/sh\necho hello\n"
    write_seed(tmp_path / "seed.iso", identity, hostname="host-1", user_data=user_data)
    image = pycdlib.PyCdlib()
    image.open(str(tmp_path / "seed.iso"))

    def read(name: str) -> bytes:
        data = io.BytesIO()
        image.get_file_from_iso_fp(data, joliet_path=f"/{name}")
        return data.getvalue()

    vendor = json.loads(read("vendor-data").removeprefix(b"#cloud-config\n"))
    assert json.loads(read("meta-data")) == {"instance-id": identity.instance_id, "local-hostname": "host-1"}
    assert read("user-data") == user_data
    assert image.pvd.volume_identifier.decode().strip() == "cidata"
    image.close()
    assert vendor["ssh_authorized_keys"] == [identity.authorized] and vendor["disable_root"] is False
    private = asyncssh.import_private_key(vendor["ssh_keys"]["ed25519_private"])
    assert private.export_public_key() == identity.host.export_public_key()
    assert "cloud_config_modules" not in vendor, "user data may need every module"


def test_credentials_become_files_of_the_guest() -> None:
    """Our key is root's, and both halves of the host key are lines of tmpfiles."""
    identity = Identity.fresh()
    found = dict(text.split(b"=", 1) for text in credential_strings(identity))
    key = base64.b64decode(found[b"io.systemd.credential.binary:ssh.authorized_keys.root"]).decode()
    lines = base64.b64decode(found[b"io.systemd.credential.binary:tmpfiles.extra"]).decode().splitlines()
    assert key == f"{identity.authorized}\n"
    private = next(line.split() for line in lines if line.split()[1].endswith("ed25519_key"))
    assert private[0] == "f~" and private[2] == "0600"
    given = asyncssh.import_private_key(base64.b64decode(private[-1]))
    assert given.export_public_key() == identity.host.export_public_key()


def test_two_machines_have_nothing_in_common() -> None:
    """Every identity is fresh."""
    one, two = Identity.fresh(), Identity.fresh()
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
    place = MachinePlace.of(settings)
    large, other = place.options(["m5.unknown", "t3.large"]), place.options(["t3.nano"])
    assert (large.cpus, large.memory_mb) == (4, 8192)
    assert (other.cpus, other.memory_mb) == (settings.machines.cpus, settings.machines.memory_mb)
    assert place.sweep() == []
    (place.folder / "dead-build").mkdir(parents=True)
    (place.folder / "alive-build").mkdir()
    assert place.sweep(["alive-build"]) == ["dead-build"]


def test_commands_are_quoted_and_bounded() -> None:
    """No word of a command means anything to the shell that takes it, and a line that is too long is refused."""
    command = Command(("echo", "$HOME; rm -rf /"), {"A": "b c"}, "/a b", 10)
    assert command.line == "cd '/a b' && exec env -i 'A=b c' echo '$HOME; rm -rf /'"
    assert replace(command, prefix=PREFIX).line.startswith(
        "cd '/a b' && exec setarch x86_64 -R env -i 'A=b c' echo "
    )
    with pytest.raises(CommandTooLong, match="the arguments of echo"):
        _ = Command(("echo", "x" * 140_000), {}, "/", 10).line


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
