"""What a component cannot do, each tried from inside a container instance (docs/security.md)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.pulled_images import image_in
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.network import host_addresses
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.spawner_program import DEVICES
from testing.containers import Launch, libraries_of
from testing.network import listener

pytestmark = pytest.mark.tool

ALLOWED = 0x800404FB
"""chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service, sys_chroot, setfcap."""


def attempt(instance: ContainerInstance, script: str) -> tuple[int, str]:
    done = instance.run(Command(["/bin/bash", "-c", script], timeout=60))
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def test_no_file_of_the_host_is_there(instance: ContainerInstance, tmp_path: Path) -> None:
    """Neither the data directory nor any other path of the host exists inside, by name or through /proc."""
    secret = tmp_path / "keys.json"
    secret.write_text("secret")
    _, output = attempt(instance, f"cat {secret}; ls -d {tmp_path} /work /host /instance")
    assert "secret" not in output.replace(str(secret), "") and output.count("No such file") >= 4
    script = f"for place in /proc/[0-9]*/root /proc/[0-9]*/cwd; do cat $place{secret}; ls -d $place/instance; done"
    _, output = attempt(instance, script)
    assert "secret" not in output.replace(str(secret), "") and output.count("No such file") >= 4, output


def test_only_processes_of_the_container_are_seen(instance: ContainerInstance) -> None:
    """The process list holds the two processes of the holder and the command itself."""
    code, output = attempt(instance, "cat /proc/[0-9]*/comm")
    assert code == 0
    assert set(output.split()) <= {"holder", "bash", "cat"}
    assert attempt(instance, f"kill -0 {os.getpid()}")[0] != 0


def test_no_environment_of_the_server_is_readable(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even the tools that build the sandbox carry a variable or an argument that tells of the server."""
    monkeypatch.setenv("SERVER_SECRET", "hunter2")
    instance = launch()
    code, output = attempt(instance, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    assert code == 0
    assert "hunter2" not in output and str(instance.root) not in output and str(tmp_path) not in output


def test_no_descriptor_of_the_host_is_inherited(instance: ContainerInstance) -> None:
    """A command has its three streams and nothing else."""
    _, output = attempt(instance, "for fd in /proc/self/fd/*; do readlink $fd; done; true")
    assert all(line.startswith(("pipe:", "/dev/null", "/proc/")) for line in output.split()), output
    _, first = attempt(instance, "for fd in /proc/1/fd/*; do readlink $fd; done; true")
    assert all(line.startswith(("pipe:", "/dev/null", "anon_inode:")) for line in first.split()), first


_CHANGES = """\
for path in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /proc/[0-9]*/fd/*; do
  case $path in /proc/*) case $(readlink $path) in /dev/*) ;; *) continue;; esac;; esac
  for change in "chmod 0666" "chmod 0600" "chown 0:0" "chown 1000:1000" "touch -d @1"; do
    $change $path 2>/dev/null && echo "$change $path"
  done
done
echo done >/dev/null && head -c 3 /dev/zero | wc -c && head -c 5 /dev/urandom | wc -c
"""


def test_device_files_of_the_host_are_not_changed(instance: ContainerInstance) -> None:
    """/dev/null and the others are the host's: they work, and root inside changes no mode, owner or time."""

    def look() -> list[tuple[int, int, int, int]]:
        found = [Path("/dev", name).stat() for name in DEVICES]
        return [(node.st_mode, node.st_uid, node.st_gid, node.st_ctime_ns) for node in found]

    before = look()
    assert attempt(instance, _CHANGES) == (0, "3\n5\n")
    assert look() == before


def test_a_command_that_is_being_started_cannot_be_looked_into(instance: ContainerInstance) -> None:
    """Until it has become the command, the spawner's child shows its name only: no program, file or folder."""
    look = "ls -l /proc/[0-9]*/exe /proc/[0-9]*/fd; ls -d /proc/[0-9]*/root/spawner.py; cat /proc/[0-9]*/environ"
    script = f"end=$((SECONDS+2)); while [ $SECONDS -lt $end ]; do {look}; done >/tmp/seen 2>&1"
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(attempt, instance, script)
        while not looking.done():
            instance.run(Command(["/bin/true"], env={"STARTED": "yes"}))
    targets = {
        line.rpartition(" -> ")[2] for line in instance.read("/tmp/seen").decode().splitlines() if "->" in line
    }
    assert "/usr/bin/bash" in targets
    allowed = ("/usr/", "/dev/null", "pipe:", "/proc/", "anon_inode:", "/tmp/seen")
    assert [target for target in targets if not target.startswith(allowed) or "python" in target] == []


def test_the_capabilities_are_the_stated_ones(instance: ContainerInstance) -> None:
    """What a command has and can ever get is the list of the design, and the filter is on."""
    _, output = attempt(instance, "cat /proc/self/status")
    status = dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {ALLOWED}
    assert int(status["CapAmb"], 16) == 0
    assert status["Seccomp"] == "2"


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs none /tmp",
        "mount --bind /etc /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /proc",
        "umount /etc/resolv.conf",
        "mknod /tmp/disk b 8 0",
        "mknod /tmp/null c 1 3",
        "unshare --mount true",
        "unshare --user true",
        "unshare --user --map-root-user --mount true",
        "nsenter --target 1 --pid true",
        "chroot /proc/1/root true && mount -t tmpfs none /tmp",
        "test -c /dev/kmsg",
        "ls /dev/sda /dev/vda /dev/mem /dev/kvm /dev/vsock",
        "ls /sys/kernel",
        "head -c 1 /proc/kcore | grep -q .",
        "echo -17 >/proc/1/oom_score_adj && echo -1000 >/proc/1/oom_score_adj",
        "ulimit -n 1000000",
    ],
)
def test_what_would_reach_past_the_container_is_refused(instance: ContainerInstance, script: str) -> None:
    """Mounts, devices, namespaces and kernel settings are out of reach."""
    code, output = attempt(instance, script)
    assert code != 0, output


def test_no_control_group_is_there(instance: ContainerInstance) -> None:
    """A component cannot freeze itself or raise a limit: no control groups are mounted, and none can be."""
    done = instance.run(
        Command(["/bin/sh", "-c", "grep -c cgroup /proc/self/mountinfo; mount -t cgroup2 none /mnt"])
    )
    assert done.stdout == b"0\n" and done.returncode != 0


def test_no_setting_of_the_kernel_opens_for_writing(instance: ContainerInstance) -> None:
    """Every file outside the process folders of /proc that somebody may write is read-only inside.

    The id of root outside is all that most of /proc/sys asks for.
    """
    harmless = ("/proc/mtrr", "/proc/pressure/")  # wants CAP_SYS_ADMIN; only registers for notifications
    files = (path for path in _kernel_files(Path("/proc")) if not str(path).startswith(harmless))
    writable = [path for path in files if _mode(path) & 0o222]
    assert Path("/proc/sys/kernel/core_pattern") in writable and len(writable) > 100
    # Opening for appending writes nothing, should it succeed.
    script = 'while read -r file; do ( : >>"$file" ) 2>/dev/null && echo "$file"; done; true'
    names = "".join(f"{path}\n" for path in writable)
    done = instance.run(Command(["/bin/bash", "-c", script], input=names.encode(), timeout=120))
    assert (done.returncode, done.stdout.decode()) == (0, "")


def _kernel_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_symlink() or (folder == Path("/proc") and path.name.isdigit()):
            continue
        if path.is_dir():
            with contextlib.suppress(OSError):
                yield from _kernel_files(path)
        else:
            yield path


def _mode(path: Path) -> int:
    """0 for a file that has gone since it was found, as those of network devices of others."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def test_devices_are_the_harmless_ones(instance: ContainerInstance) -> None:
    """/dev holds the usual pseudo devices and nothing of this machine."""
    _, output = attempt(instance, "ls /dev")
    usual = {
        "core",
        "fd",
        "full",
        "mqueue",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
        "console",
    }
    assert set(output.split()) <= usual


def test_a_device_node_of_an_image_does_not_open(
    container_storage: ContainerStorage, tiny_image: str, launch: Launch
) -> None:
    """A layer may hold device nodes; they are dead inside, and can be removed."""
    container_storage.create("devices", tiny_image)
    os.mknod(container_storage.mount("devices") / "disk", 0o660 | 0o060000, os.makedev(254, 0))
    image = container_storage.commit("devices")
    container_storage.remove("devices")
    instance = launch(image)
    code, output = attempt(instance, "head -c 1 /disk")
    assert code != 0 and "Permission denied" in output
    assert attempt(instance, "rm /disk && ls /disk")[1].endswith("No such file or directory\n")


def test_a_set_user_id_program_has_the_rights_of_root_inside(instance: ContainerInstance) -> None:
    """It becomes root of the container, with the rights and the filter of root's own commands."""
    script = (
        "cp /bin/id /bin/cat /usr/local/; chmod 6755 /usr/local/id /usr/local/cat\n"
        "as='chroot --userspec=65534:65534 /'; $as /usr/local/id; $as /usr/local/cat /proc/self/status"
    )
    attempt(instance, "mkdir -p /usr/local")
    code, output = attempt(instance, script)
    assert code == 0 and "uid=65534" in output and "euid=0(root)" in output
    status = dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == ALLOWED and status["Seccomp"] == "2"


def test_the_loopback_of_the_host_is_not_reached(launch: Launch) -> None:
    """The server's own port is closed from inside, by every name the sandbox network could have for it."""
    instance = launch(network="outbound")
    with listener("127.0.0.1") as port:
        for address in ("127.0.0.1", "localhost", "10.0.2.2", "127.0.1.1", "0.0.0.0"):
            code, output = attempt(instance, f"exec 3<>/dev/tcp/{address}/{port} && cat <&3")
            assert code != 0 and "hello" not in output, address


def test_the_other_addresses_of_the_host_are_not_reached(launch: Launch) -> None:
    """A server that listens on every address is closed from inside too."""
    addresses = host_addresses(Path("/proc/net/fib_trie").read_text())
    assert addresses, "this machine has no address but loopback: the test would prove nothing"
    instance = launch(network="outbound")
    with listener("0.0.0.0") as port:
        for address in addresses:
            code, output = attempt(instance, f"exec 3<>/dev/tcp/{address}/{port} && cat <&3")
            assert code != 0 and "hello" not in output, address


def test_metadata_services_are_not_reached(launch: Launch) -> None:
    """The link-local range, where clouds hand out credentials, has no route."""
    instance = launch(network="outbound")
    code, output = attempt(instance, "exec 3<>/dev/tcp/169.254.169.254/80")
    assert code != 0 and ("No route" in output or "unreachable" in output or "Permission denied" in output)


def test_routes_cannot_be_changed_from_inside(launch: Launch) -> None:
    """Root inside has no capability over its own network."""
    instance = launch(network="outbound")
    code, _ = attempt(instance, "echo 1 >/proc/sys/net/ipv4/ip_forward")
    assert code != 0


def test_without_network_there_is_only_loopback(instance: ContainerInstance) -> None:
    """network='none' leaves the container alone."""
    code, output = attempt(instance, "cat /proc/net/dev; cat /etc/resolv.conf")
    assert code == 0 and "lo:" in output and "tap0" not in output and "nameserver" not in output


def test_the_number_of_processes_is_bounded(launch: Launch) -> None:
    """A fork bomb ends in refused forks, and the container can be closed."""
    instance = launch(limits=ResourceLimits(processes=40))
    assert instance.unlimited == ()
    done = instance.run(Command(["/bin/bash", "-c", "for i in {1..200}; do sleep 30 & done"], timeout=4))
    assert b"Resource temporarily unavailable" in done.stderr
    instance.close()


def test_memory_is_bounded(launch: Launch) -> None:
    """A command that wants more memory than the limit is killed, not the machine."""
    instance = launch(limits=ResourceLimits(memory_mb=64))
    code, output = attempt(instance, "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo survived ${#x}")
    assert code != 0 and "survived" not in output
    assert attempt(instance, "echo still here") == (0, "still here\n")


def test_the_size_of_a_file_is_bounded(launch: Launch) -> None:
    """One file cannot fill the disk."""
    instance = launch(limits=ResourceLimits(file_mb=5))
    code, _ = attempt(instance, "head -c 20000000 /dev/zero >/tmp/big")
    assert code != 0
    assert int(attempt(instance, "stat -c %s /tmp/big")[1]) <= 5 * 1024 * 1024


def test_a_disk_that_runs_full_ends_the_container(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too little space stays free the build is ended with that reason, before the machine is in trouble."""
    free = shutil.disk_usage("/").free // 1024**2
    instance = launch(limits=ResourceLimits(free_disk_mb=free - 300))
    with pytest.raises(InstanceError, match="must stay free"):
        instance.run(Command(["/bin/bash", "-c", "yes | head -c 600000000 >/tmp/big; sleep 20"], timeout=60))


@pytest.mark.parametrize("option", ["--cap-add\0ALL", "--bind\0/usr\0/mnt", "--dev-bind\0/dev\0/dev"])
def test_no_variable_or_path_becomes_an_option_of_the_sandbox(
    instance: ContainerInstance, container_storage: ContainerStorage, launch: Launch, tmp_path: Path, option: str
) -> None:
    """A NUL in a variable of a call or of an image, in a folder or in an argument is refused, wherever it hides."""
    calls: list[dict[str, Any]] = [
        {"env": {"A": f"x\0{option}"}}, {"env": {f"A\0x\0{option}": "x"}}, {"cwd": f"/\0{option}"},
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(InstanceError, match="characters"):
            instance.run(Command(["/bin/true"], **call))
    with pytest.raises(InstanceError, match="characters"):
        instance.run(Command(["/bin/true", f"x\0{option}"]))
    image = _image_with_variable(container_storage, tmp_path, f"A=x\0{option}")
    with pytest.raises(InstanceError, match="characters"):
        launch(image, name="poisoned")


def _image_with_variable(storage: ContainerStorage, folder: Path, variable: str) -> str:
    """An image whose configuration no tool would write: made by hand, as an attacker would."""
    blobs = folder / "layout/blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for source in (Path("/bin/sh"), *libraries_of(Path("/bin/sh"))):
            data = source.read_bytes()
            entry = tarfile.TarInfo(str(source).lstrip("/"))
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    layer = put(archive.getvalue(), "layer.v1.tar")
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": [variable]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }  # fmt: skip
    parts = {"config": put(json.dumps(config).encode(), "config.v1+json"), "layers": [layer]}
    manifest = put(json.dumps({"schemaVersion": 2, **parts}).encode(), "manifest.v1+json")
    (folder / "layout/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    storage.tool(["skopeo", "copy", "--quiet", f"oci:{folder}/layout", f"dir:{folder}/image"], what="reading")
    return image_in(folder / "image", storage, "the image")


def test_two_containers_see_nothing_of_each_other(launch: Launch) -> None:
    """Files, processes and ports of one build are invisible to another."""
    first, second = launch(), launch()
    attempt(first, "echo mine >/tmp/mine; setsid sleep 99 </dev/null >/dev/null 2>&1 &")
    assert attempt(second, "cat /tmp/mine")[0] != 0
    assert "sleep" not in attempt(second, "cat /proc/[0-9]*/comm")[1]


@pytest.mark.parametrize("link", ["absolute", "climbing", "through_proc"])
def test_links_never_lead_reading_or_writing_to_the_host(
    instance: ContainerInstance, tmp_path: Path, link: str
) -> None:
    """read, write, push and pull follow a link of the image inside the image."""
    host = tmp_path / "host-file"
    host.write_text("host")
    target = {"absolute": str(host), "climbing": "../" * 20 + str(host), "through_proc": f"/proc/1/root{host}"}[
        link
    ]
    assert attempt(instance, f"ln -s {target} /tmp/link")[0] == 0
    with pytest.raises(InstanceError):
        instance.read("/tmp/link")
    with pytest.raises(InstanceError):
        instance.pull("/tmp/link", tmp_path / "pulled")
    (tmp_path / "evil").write_text("evil")
    with contextlib.suppress(InstanceError):
        instance.write("/tmp/link", b"evil")
    with contextlib.suppress(InstanceError):
        instance.push(tmp_path / "evil", "/tmp/link")
    assert host.read_text() == "host"


def test_a_root_that_changes_under_way_leads_nothing_to_the_host(
    instance: ContainerInstance, tmp_path: Path
) -> None:
    """/etc replaced by a link to a folder of the host: later commands fail or run, and the host stays untouched."""
    target = tmp_path / "folder"
    target.mkdir()
    attempt(instance, f"mv /etc /etc2; rm -rf /etc; ln -s /oldroot{target} /etc")
    attempt(instance, f"mv /tmp /tmp2; ln -s /oldroot{target} /tmp")
    with contextlib.suppress(InstanceError):
        instance.run(Command(["/bin/true"]))
    assert list(target.iterdir()) == []
    assert not Path("/oldroot").exists()
