"""Machine images against Packer's QEMU builder: the same base disk, the same script, the same accelerator.

    .venv/bin/python benchmarks/machines.py --data-dir FOLDER [--without-packer | --only-packer]

FOLDER is a data directory whose managed machine base is made already (script/demo --machine makes one) and in which
no server runs. One run of each, in turn, because under emulation one takes minutes:

    boot       a run with the cache on, that finds nothing in it
    rebuild    the same again
    no-boot    the same components without a machine
    packer     the same commands, on a copy of the base

Every run is a build alone: no tests, no distribution. Packer's image is neither cleaned nor registered, and nothing
is found out about what is in it. Wall time means something on a quiet machine only: the processor time of all
that a run started is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builds import REGION, start_server
from imagesmith.artifacts.disks import DiskStore
from imagesmith.build_logs.logs import log_path
from imagesmith.cli.context import connect
from imagesmith.instances.machine.accelerator import Accelerator
from imagesmith.instances.machine.hardware import EMULATED_CPU
from imagesmith.instances.machine.ssh_keys import MachineIdentity, credential_strings
from imagesmith.resources.run_tags import CACHE, NO_BOOT
from imagesmith.settings import Machines

COMMANDS = (
    "export DEBIAN_FRONTEND=noninteractive",
    "apt-get update -q",
    "apt-get install -q -y --no-install-recommends nginx-light",
    "head -c 30000000 /dev/urandom >/srv/data",
)
COMPONENT = """\
name: bench-machine
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Work
        action: ExecuteBash
        timeoutSeconds: 3000
        inputs:
          commands:
{commands}
"""


def make_pipeline(client: Any) -> str:
    """A recipe of one component, and a pipeline without tests."""
    name = f"bench-{int(time.time())}"
    text = COMPONENT.format(commands="\n".join(f"            - {line}" for line in COMMANDS))
    component = client.create_component(name=name, semanticVersion="1.0.0", platform="Linux", data=text)
    recipe = client.create_image_recipe(
        name=name, semanticVersion="1.0.0",
        components=[{"componentArn": component["componentBuildVersionArn"]}],
        parentImage=f"arn:aws:imagebuilder:{REGION}:aws:image/debian-12-x86/x.x.x",
    )["imageRecipeArn"]  # fmt: skip
    infrastructure = client.create_infrastructure_configuration(name=name, instanceProfileName="bench")
    return str(
        client.create_image_pipeline(
            name=name, imageRecipeArn=recipe,
            infrastructureConfigurationArn=infrastructure["infrastructureConfigurationArn"],
            imageTestsConfiguration={"imageTestsEnabled": False},
        )["imagePipelineArn"]
    )  # fmt: skip


@dataclass(frozen=True)
class Took:
    """Seconds of one run: on the clock, and of processors, everything that it started included."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:7.1f} s wall, {self.cpu:7.1f} s of processors"


def processor_seconds(pid: int) -> float:
    """What a process and the ones it has waited for have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def build(client: Any, pipeline: str, data_dir: Path, tags: Mapping[str, str], *, server: int) -> tuple[Took, str]:
    """How long one run took, and the digest of its disk."""
    used = processor_seconds(server)
    started = time.monotonic()
    arn = client.start_image_pipeline_execution(imagePipelineArn=pipeline, tags=dict(tags))["imageBuildVersionArn"]
    while True:
        image = client.get_image(imageBuildVersionArn=arn)["image"]
        if image["state"]["status"] in ("AVAILABLE", "FAILED", "CANCELLED"):
            break
        time.sleep(0.2)
    took = time.monotonic() - started
    if image["state"]["status"] != "AVAILABLE":
        raise SystemExit(f"{arn}: {image['state']}\n{log_path(data_dir / 'logs', arn).read_text()[-4000:]}")
    ami = image["outputResources"]["amis"][0]["image"]
    command = [str(Path(sys.executable).parent / "imagesmith"), "ami", "show", ami, "--json"]
    shown = subprocess.run([*command, "--data-dir", str(data_dir)], capture_output=True, check=True).stdout
    return Took(took, processor_seconds(server) - used), str(json.loads(shown)["digest"])


def packer(base: Path, acceleration: str) -> Took:
    """How long `packer build` took on a disk."""
    identity = MachineIdentity.fresh()
    with tempfile.TemporaryDirectory(prefix="bench-packer-", dir=base.parent.parent) as folder:
        place = Path(folder)
        key = place / "key"
        key.write_bytes(identity.client.export_private_key())
        key.chmod(0o600)
        extra: list[list[str]] = [["-serial", f"file:{place}/console.log"], ["-cpu", EMULATED_CPU]]
        for index, text in enumerate(credential_strings(identity)):
            (place / f"string-{index}").write_bytes(text)
            extra.append(["-smbios", f"type=11,path={place}/string-{index}"])
        template = {
            "builders": [
                {
                    "type": "qemu", "iso_url": str(base), "iso_checksum": f"sha256:{base.name}", "disk_image": True,
                    "format": "qcow2", "disk_compression": True, "disk_cache": "unsafe", "disk_discard": "unmap",
                    "skip_resize_disk": True, "accelerator": acceleration, "headless": True, "memory": 1024,
                    "cpus": 2, "net_device": "virtio-net", "output_directory": str(place / "out"),
                    "ssh_username": "root", "ssh_private_key_file": str(key), "ssh_timeout": "20m",
                    "boot_wait": "1s", "shutdown_command": "poweroff", "machine_type": "q35", "qemuargs": extra,
                    "disable_vnc": True,
                }
            ],
            "provisioners": [{"type": "shell", "inline": list(COMMANDS)}],
        }  # fmt: skip
        (place / "template.json").write_text(json.dumps(template))
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": folder, "CHECKPOINT_DISABLE": "1"}
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        done = subprocess.run(
            ["packer", "build", "template.json"],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.monotonic() - started
        if done.returncode != 0:
            raise SystemExit(f"packer failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Took(took, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)


def compressed_again(disk: Path) -> int:
    """Bytes of the same content as `qemu-img convert -c` writes it."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=disk.parent.parent) as folder:
        target = Path(folder) / "again"
        subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", str(disk), str(target)], check=True)
        return target.stat().st_size


def measured(data_dir: Path, *, boot_only: bool) -> Took:
    """Print what this program takes; gives what a build with a boot took."""
    server = start_server(data_dir)
    try:
        client = connect(data_dir)
        pipeline = make_pipeline(client)

        def run(tags: Mapping[str, str]) -> tuple[Took, str]:
            return build(client, pipeline, data_dir, tags, server=server.pid)

        boot, digest = run({"purpose": "benchmark"} if boot_only else {CACHE: "24h"})
        print(f"boot       {boot}")
        if boot_only:
            return boot
        again, same = run({CACHE: "24h"})
        part = again.wall / boot.wall
        print(f"rebuild    {again}   {part:.3f} of the first (goal 0.10); same disk: {digest == same}")
        without, other = run({NO_BOOT: "true"})
        print(f"no-boot    {without}   {boot.wall / without.wall:.1f} times as fast (goal 3)")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    store = DiskStore(data_dir / "disks")
    for name, made in (("boot", digest), ("no-boot", other)):
        disk = store.get(made)
        ratio = disk.size / compressed_again(disk.path)
        print(f"image of {name}: {disk.size} bytes, {ratio:.3f} of qemu-img convert -c (goal 1.05)")
    return boot


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--without-packer", action="store_true")
    parser.add_argument("--only-packer", action="store_true", help="of the others, only the one that boots")
    options = parser.parse_args()
    data_dir = options.data_dir.absolute()
    boot = measured(data_dir, boot_only=options.only_packer)
    if options.without_packer:
        return
    base = next(iter(sorted((data_dir / "bases").glob("debian-12-x86-*.json"))))
    parent = DiskStore(data_dir / "disks").get(json.loads(base.read_text())["digest"])
    acceleration = Accelerator(data_dir / "machines", wanted=Machines().accelerator).verdict().acceleration
    peer = packer(parent.path, acceleration)
    print(f"packer     {peer}   {acceleration}")
    print(f"boot is {boot.wall / peer.wall:.2f} of it by the clock (goal 0.80), {boot.cpu / peer.cpu:.2f} in work")


if __name__ == "__main__":
    main()
