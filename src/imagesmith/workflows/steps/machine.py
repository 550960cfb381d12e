"""Actions on machines: launch, look into, sanitise, make an image of (spec/workflows.md 5.2, 5.5, 5.7, 5.10)."""

from __future__ import annotations

import base64
import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.artifacts.overlays import DiskState, next_key
from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import Inventory, take_inventory
from imagesmith.instances.machine.disk_chain import DiskChain
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.metadata import InstanceFacts
from imagesmith.instances.machine.options import MachineOptions, Volume
from imagesmith.instances.machine.sanitize import MARKER, SCRIPT, sanitize
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.values.names import human_size, sha256_hex
from imagesmith.workflows import disk_cache
from imagesmith.workflows.amis import own_id
from imagesmith.workflows.failures import StepFailed, explain
from imagesmith.workflows.machine import Source, ami_source, keep_disk, output_source, parent_source, planned
from imagesmith.workflows.steps import no_boot
from imagesmith.workflows.steps.context import Outcome, StepRun
from imagesmith.workflows.steps.findings import collect_metadata as collect_container_metadata

_ROOT_NAMES = ("/dev/xvda", "/dev/sda1", "/dev/sda", "/dev/vda")
_INVENTORY_BYTES = 256 * 1024 * 1024
_SECONDS = 600.0
_GIB = 1024**3

# What an inventory reads; what is not there is left out by the shell's patterns.
_DATABASES = (
    "etc/os-release usr/lib/os-release var/lib/dpkg/status var/lib/dpkg/status.d lib/apk/db var/lib/rpm "
    "usr/lib/sysimage/rpm"
)
_PACK = (
    f'cd / && set --; for place in {_DATABASES}; do [ -e "$place" ] && set -- "$@" "$place"; done; tar -chf - "$@"'
)
_GROW = (
    "command -v growpart >/dev/null || exit 0; root=$(findmnt -no SOURCE /); "
    'disk=$(lsblk -ndo PKNAME "$root") && growpart "/dev/$disk" "${root##*[!0-9]}" && resize2fs "$root"'
)


def launch_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """BUILD: a machine on the parent. Later: on the output image, as anybody would start it."""
    facts: dict[str, Any] = {}
    override = str(inputs.get("imageIdOverride", ""))
    if override:
        source = ami_source(run, override)
    elif run.type == "BUILD" or not run.digest:
        with run.timed("parent"):
            source = parent_source(run)
        facts = {"parent": {"digest": source.disk.digest, "image": run.plan.parent.reference}}
    else:
        source = output_source(run, run.output_digest())
    options = _options(run, inputs, source)
    options = replace(options, facts=machine_facts(run, inputs, options))
    if no_boot.wanted(run):
        done = no_boot.launch(run, source, options)
        return replace(done, facts={**facts, **done.facts})
    deferred = run.type == "BUILD" and disk_cache.wanted(run)
    with run.timed("launch"):
        machine = run.shop.instances.launch_machine(
            run.own_instance, source.disk.path, options=options, image_arn=run.plan.image_arn,
            execution=run.execution, cancellation=run.cancellation, on_line=run.say, deferred=deferred,
        )  # fmt: skip
    if deferred:
        machine.state = disk_cache.first_state(run, source.disk.digest, options)
        machine.at_first_start = partial(_grow, options=options, source=source)
    elif run.type == "BUILD":
        _grow(machine, options, source)
    return Outcome({"instanceId": run.own_instance}, facts=facts)


def collect_metadata(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Operating system and packages of a machine, as ListImagePackages shows them."""
    if no_boot.wanted(run):
        return collect_container_metadata(run, inputs)
    machine = run.machine(inputs)
    facts = _known(run, machine, "inventory")
    if not facts:
        inventory = _inventory(run, machine)
        facts = {
            "rows": inventory.rows(), "osVersion": inventory.system.os_version, "words": inventory.words(),
        }  # fmt: skip
        if machine.state is not None:
            disk_cache.keep_facts(run, machine.state, "inventory", facts)
    run.shop.records.put_inventory(run.plan.image_arn, facts["rows"], os_version=facts["osVersion"])
    run.log.line("inventory", facts["words"])
    return Outcome({"osVersion": facts["osVersion"], "associationId": run.command_id})


def _inventory(run: StepRun, machine: MachineInstance) -> Inventory:
    done = machine.run(["/bin/sh", "-c", _PACK], timeout=_SECONDS, limit=_INVENTORY_BYTES)
    if done.returncode != 0 or done.timed_out or done.dropped:
        raise StepFailed(f"the package databases cannot be read ({done.ending}): {done.stderr[-500:].decode()}")
    with tempfile.TemporaryDirectory(prefix="inventory-", dir=run.shop.machines.folder.parent) as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        with Root(Path(folder)) as root:
            return take_inventory(root)


def _known(run: StepRun, machine: MachineInstance, name: str) -> Mapping[str, Any]:
    """What the cache knows of the state of a machine that has not started; empty when nothing."""
    if machine.state is None or machine.started:
        return {}
    found = disk_cache.find_facts(run, disk_cache.facts_key(machine.state.key, name))
    if found is None:
        return {}
    disk_cache.say_found(run, name, found)
    return found.entry.facts


def sanitize_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Remove what an image must not hold; with user data of its own only if that asked for it (5.7)."""
    if no_boot.wanted(run):
        return _cleaned(run, run.container(inputs))
    machine = run.machine(inputs)
    directory = run.plan.working_directory
    state, machine.state = machine.state, None
    if state is not None:
        state = replace(state, key=next_key(state.key, {"clean-up": sha256_hex(SCRIPT), "directory": directory}))
        said = _cleaned_before(run, machine, state)
        if said:
            return Outcome({"runCommandId": run.command_id, "status": "Success", "output": said})
    done = _cleaned(run, machine, own_user_data=bool(machine.options.user_data))
    machine.state = state
    return done


def _cleaned(run: StepRun, instance: Instance, *, own_user_data: bool = False) -> Outcome:
    directory = run.plan.working_directory
    if not own_user_data:
        # Made now and not at the launch, where the default user data would: a restart empties /tmp.
        made = instance.run(["/bin/sh", "-c", MARKER, "sh", directory])
        if made.returncode != 0:
            raise StepFailed(f"the working directory {directory} cannot be used: {made.tail(3)}")
    with run.timed("sanitize"):
        said = sanitize(instance, directory=directory)
    for line in said.splitlines():
        run.say(f"    {line}")
    return Outcome({"runCommandId": run.command_id, "status": "Success", "output": said})


def _cleaned_before(run: StepRun, machine: MachineInstance, state: DiskState) -> str:
    """Let a machine that has not started go on from the image of its cleaned state, if the cache knows that."""
    if machine.started:
        return ""
    found = disk_cache.find_facts(run, disk_cache.facts_key(state.key, "image"))
    disk = _disk_of(run, found.entry.facts) if found is not None else None
    if found is None or disk is None:
        return ""
    disk_cache.say_found(run, "clean-up", found)
    machine.resume(DiskChain(disk.path))
    machine.state = replace(state, since=found.entry.since, below=None)
    return f"done already in the image {disk.digest} of the cache"


def _disk_of(run: StepRun, facts: Mapping[str, Any]) -> Disk | None:
    try:
        return run.shop.disks.get(str(facts["digest"]))
    except DiskError:
        return None


def create_image(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Shut the machine down, keep its disk by digest, and register that as an AMI of the build Region."""
    if no_boot.wanted(run):
        made, entry = no_boot.make_disk(run, inputs)
        return Outcome({"imageId": keep_disk(run, made, entry=entry).ami_id})
    machine = run.machine(inputs)
    if machine.options.volumes:
        run.say("warning: the image is the root disk; further volumes of the recipe are not part of it")
    known = _known(run, machine, "image")
    disk = _disk_of(run, known) if known else None
    if disk is None:
        disk = _captured(run, machine)
        if machine.state is not None:
            disk_cache.keep_facts(run, machine.state, "image", {"digest": disk.digest})
    ami = keep_disk(run, disk, entry=machine.options.entry)
    return Outcome({"imageId": ami.ami_id})


def _captured(run: StepRun, machine: MachineInstance) -> Disk:
    with run.timed("stop"):
        machine.stop()
    try:
        with run.timed("image"):
            return run.shop.disks.capture(machine.disk, cancellation=run.cancellation)
    except (DiskError, OSError) as error:
        raise explain(error, "making the image", free=run.shop.reserve.free) from error


def _options(run: StepRun, inputs: Mapping[str, Any], source: Source) -> MachineOptions:
    machine = planned(run)
    root_gb, volumes = _volumes(machine.block_devices)
    if 0 < root_gb * _GIB < source.disk.virtual_size:
        raise StepFailed(
            f"the block device of the root disk has {root_gb} GiB, and the parent image needs "
            f"{human_size(source.disk.virtual_size)}: give it a larger volumeSize, or leave it out"
        )
    user_data = base64.b64decode(machine.user_data) if run.type == "BUILD" else b""
    entry = source.entry if run.type == "BUILD" and not user_data else "cloud-init"
    return replace(
        run.shop.machines.options(_types(run, inputs)), root_gb=root_gb, volumes=volumes, user_data=user_data,
        entry=entry, firmware=source.firmware, quick=run.type == "BUILD",
    )  # fmt: skip


def machine_facts(run: StepRun, inputs: Mapping[str, Any], options: MachineOptions) -> InstanceFacts:
    """What the metadata service of the machine tells."""
    parent = run.plan.parent.reference
    started_on = parent if parent.startswith("ami-") else ""
    if run.type != "BUILD" and run.digest:
        started_on = own_id(run)
    return InstanceFacts(
        run.own_instance, run.plan.account, run.plan.region, str(inputs.get("imageIdOverride", "")) or started_on,
        run.shop.machines.type_of(_types(run, inputs)), options.user_data, planned(run).tokens_required,
    )  # fmt: skip


def _types(run: StepRun, inputs: Mapping[str, Any]) -> Sequence[str]:
    """The instance types to be tried, in order."""
    return inputs.get("instanceTypesOverride") or planned(run).instance_types


def _volumes(devices: Sequence[Mapping[str, Any]]) -> tuple[int, tuple[Volume, ...]]:
    """Size of the root disk in GiB, 0 for the parent's, and the further volumes."""
    root, volumes = 0, []
    for index, device in enumerate(devices):
        size = int(device.get("ebs", {}).get("volumeSize", 0))
        if "noDevice" in device or not size:
            continue
        if device.get("deviceName") in _ROOT_NAMES:
            root = size
        else:
            volumes.append(Volume(f"volume{index}", size))
    return root, tuple(volumes)


def _grow(machine: MachineInstance, options: MachineOptions, source: Source) -> None:
    """The room that a larger disk gives, where cloud-init does not see to it."""
    if options.entry == "credentials" and options.root_gb * _GIB > source.disk.virtual_size:
        done = machine.run(["/bin/sh", "-c", _GROW], timeout=_SECONDS)
        if done.returncode != 0:
            raise InstanceError(f"the root file system cannot grow: {done.tail(3)}")
