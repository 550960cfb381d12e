"""Users, mounts, networks and loneliness of one command in a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagesmith.instances.command import Command, Identity, MemoryFolder, MountedTree
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.detached_mounts import detached_mount, thrown_away
from imagesmith.instances.host import HostInstance
from imagesmith.instances.mount_targets import make_folders, mount_targets
from imagesmith.instances.protocol import InstanceError
from testing.containers import Launch

pytestmark = pytest.mark.tool


def shell(instance: ContainerInstance, script: str, **options: object) -> str:
    done = instance.run(Command(["/bin/sh", "-c", script], timeout=30, **options))  # type: ignore[arg-type]
    return (done.stdout + done.stderr).decode()


def test_a_command_runs_under_the_numbers_of_its_user(instance: ContainerInstance) -> None:
    """User, group and further groups; without a capability, and its streams are its own."""
    user = Identity(65534, 65533, (7, 9))
    assert shell(instance, "id -u; id -g; id -G", user=user) == "65534\n65533\n65533 7 9\n"
    assert "hello" in shell(instance, "echo hello >/dev/stdout", user=user)
    status = shell(instance, "grep -E 'Cap(Eff|Prm|Inh|Amb)' /proc/self/status", user=user)
    assert {line.split()[1] for line in status.splitlines()} == {"0" * 16}
    assert "Permission denied" in shell(instance, "echo x >/etc/os-release", user=user)


def test_root_with_another_group_keeps_its_rights(instance: ContainerInstance) -> None:
    """Only the user decides about capabilities."""
    said = shell(instance, "id -g; touch /etc/made && grep CapEff /proc/self/status", user=Identity(0, 12))
    assert said.startswith("12\nCapEff:") and int(said.split()[-1], 16) != 0


@pytest.mark.parametrize("read_only", [True, False])
def test_a_tree_is_mounted_for_one_command(instance: ContainerInstance, tmp_path: Path, read_only: bool) -> None:
    """Read-only or not; the next command does not see it, and its missing target is gone."""
    source = tmp_path / "root" / "data"
    source.mkdir(parents=True)
    (source / "file").write_text("content\n")
    os.chown(source, instance.ids.first, instance.ids.first)
    tree = detached_mount(tmp_path / "root", "/data", read_only=read_only)
    changed = instance.root.stat().st_mtime_ns
    try:
        with mount_targets(instance.root, [("/a/b", True)], ids=instance.ids):
            said = shell(instance, "cat /a/b/file; echo x >/a/b/new", mounts=[MountedTree("/a/b", tree)])
    finally:
        os.close(tree)
    assert said.startswith("content\n") and ("Read-only" in said) == read_only
    assert (source / "new").exists() != read_only
    assert "No such file" in shell(instance, "ls /a")
    assert instance.root.stat().st_mtime_ns == changed


def test_a_source_cannot_be_a_link_out_of_its_root(tmp_path: Path) -> None:
    """Links are resolved inside the root."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to("/etc")
    with pytest.raises(FileNotFoundError):
        detached_mount(tmp_path / "root", "/link", read_only=True)


def test_what_is_written_to_a_view_is_thrown_away(instance: ContainerInstance, tmp_path: Path) -> None:
    """The root below it stays as it is."""
    targets = mount_targets(instance.root, [("/m", True)], ids=instance.ids)
    with thrown_away(instance.root, tmp_path, instance.ids) as view, targets:
        tree = detached_mount(view, "/etc", read_only=False)
        try:
            said = shell(instance, "echo x >/m/os-release; cat /m/os-release", mounts=[MountedTree("/m", tree)])
        finally:
            os.close(tree)
    assert said == "x\n" and "ID=tiny" in shell(instance, "cat /etc/os-release")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_memory_is_empty_and_bounded(instance: ContainerInstance) -> None:
    """It ends with its command."""
    with mount_targets(instance.root, [("/m", True)], ids=instance.ids):
        folder = MemoryFolder("/m", 65536)
        said = shell(instance, "ls /m; dd if=/dev/zero of=/m/x bs=1024 count=100", mounts=[folder])
        assert "No space left" in said
        assert shell(instance, "ls /m") == ""


def test_a_folder_in_memory_holds_programs(instance: ContainerInstance) -> None:
    """They lie in a folder of the sandbox and can be executed."""
    folder = MemoryFolder("/dev/pipes", files={"EOF": "#!/bin/sh\necho program\n"})
    assert shell(instance, "/dev/pipes/EOF", mounts=[folder]) == "program\n"


def test_a_command_without_a_network_has_a_loopback(instance: ContainerInstance) -> None:
    """And nothing else, while other commands keep theirs."""
    assert shell(instance, "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '", network="none") == "lo\n"


def test_a_command_that_is_alone_leaves_no_process(instance: ContainerInstance) -> None:
    """Not one in a session of its own either; without it, background programs run on."""
    shell(instance, "setsid sleep 6161 & sleep 6262 >/dev/null 2>&1 &", alone=True)
    assert "sleep" not in shell(instance, "cat /proc/*/comm")
    shell(instance, "sleep 6363 >/dev/null 2>&1 &")
    assert "sleep" in shell(instance, "cat /proc/*/comm")


def test_folders_are_made_inside_the_root(launch: Launch) -> None:
    """A link leads to its target in the root, and new folders are their user's."""
    instance = launch(name="folders")
    shell(instance, "mkdir /real; ln -s /real /link")
    assert make_folders(instance.root, "/link/a/b", uid=12, gid=13, ids=instance.ids)
    assert shell(instance, "stat -c '%u:%g %a' /real/a/b /real") == "12:13 755\n0:0 755\n"
    assert not make_folders(instance.root, "/link/a", uid=0, gid=0, ids=instance.ids)
    with pytest.raises(InstanceError, match="is not a folder"):
        make_folders(instance.root, "/etc/os-release/x", uid=0, gid=0, ids=instance.ids)


def test_other_kinds_refuse_what_only_a_container_does(tmp_path: Path) -> None:
    """By name, instead of running the command otherwise."""
    host = HostInstance(tmp_path)
    for options in ({"user": Identity(1, 1)}, {"network": "none"}, {"alone": True}):
        with pytest.raises(InstanceError, match="another user, with mounts or without a network"):
            host.run(Command(["true"], **options))
