"""Actions on machines: launch, inspect, sanitise, make an image (spec/workflows.md 5.2, 5.5, 5.7, 5.10)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from imagesmith.artifacts.disk_formats import refused_exports
from imagesmith.artifacts.disks import Disk, DiskError
from imagesmith.artifacts.overlays import DiskState, next_key
from imagesmith.builds import disk_cache, reproducible
from imagesmith.builds.failures import StepFailed, explain
from imagesmith.builds.machine_output import register_disk
from imagesmith.builds.machine_source import Source, ami_source, output_source, parent_source, planned
from imagesmith.builds.read_inventories import inventory_reported
from imagesmith.builds.revoked_images import refuse_revoked_parent
from imagesmith.builds.steps import no_boot
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.builds.steps.findings import collect_metadata as collect_container_metadata
from imagesmith.distribution.destinations.catalog_region import own_id
from imagesmith.inspection.inventory import DATABASES, Inventory
from imagesmith.inspection.inventory_calls import inventory_of_archive
from imagesmith.instances.command import Command
from imagesmith.instances.machine.backing_chain import BackingChain
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.metadata import GuestMetadata
from imagesmith.instances.machine.options import MachineOptions, Volume
from imagesmith.instances.machine.sanitize import MARKER, SCRIPT, sanitize
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.recipes.devices import DeviceRefused, read_devices
from imagesmith.store.build_outcome import BuildParent, BuildUpdate
from imagesmith.values.names import human_size, sha256_hex

_INVENTORY_BYTES = 256 * 1024 * 1024
_SECONDS = 600.0
_GIB = 1024**3

# Without the file lists of packages: these assign packages of languages, which are not read here.
_READ = " ".join(path.rstrip("/") for path in DATABASES if path != "var/lib/dpkg/info/")
_PACK = f'cd / && set --; for path in {_READ}; do [ -e "$path" ] && set -- "$@" "$path"; done; tar -chf - "$@"'
_GROW = (
    "command -v growpart >/dev/null || exit 0; root=$(findmnt -no SOURCE /); "
    'disk=$(lsblk -ndo PKNAME "$root") && growpart "/dev/$disk" "${root##*[!0-9]}" && resize2fs "$root"'
)


def launch_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Launch a machine: in BUILD on the parent, later on the output image, as users would start it."""
    update = BuildUpdate()
    override = str(inputs.get("imageIdOverride", ""))
    if override:
        source = ami_source(run, override)
        refuse_revoked_parent(run, source.disk.digest, override)
    elif run.type == "BUILD" or not run.digest:
        with run.timed("parent"):
            source = parent_source(run)
        refuse_revoked_parent(run, source.disk.digest)
        update = BuildUpdate(parent=BuildParent(digest=source.disk.digest, image=run.plan.parent.reference))
    else:
        source = output_source(run, run.output_digest())
    options = _options(run, inputs, source)
    options = replace(options, metadata=guest_metadata(run, inputs, options))
    if run.type == "BUILD":
        reproducible.begin(run)
    if no_boot.is_requested(run):
        done = no_boot.launch(run, source, options)
        return replace(done, update=replace(done.update, parent=update.parent))
    deferred = run.type == "BUILD" and disk_cache.is_requested(run)
    with run.timed("launch"):
        machine = run.worker_context.instances.launch_machine(
            run.own_instance, source.disk.path, options=options, image_arn=run.plan.image_arn,
            execution=run.execution, cancellation=run.cancellation, on_line=run.note, deferred=deferred,
        )  # fmt: skip
    if deferred:
        now = run.worker_context.clock()
        machine.disk.state = disk_cache.first_state(run, source.disk.digest, options, now=now)
        machine.at_first_start = partial(_grow, options=options, source=source)
    elif run.type == "BUILD":
        _grow(machine, options, source)
    return Outcome({"instanceId": run.own_instance}, update=update)


def collect_metadata(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Store operating system and packages of a machine for ListImagePackages."""
    if no_boot.is_requested(run):
        return collect_container_metadata(run, inputs)
    machine = run.attach_machine(inputs)
    values = _cached_values(run, machine, "inventory")
    if not values:
        values = _inventory(run, machine).to_json()
        if machine.disk.state is not None:
            disk_cache.keep_values(run, machine.disk.state, "inventory", values, now=run.worker_context.clock())
    run.worker_context.inspections.put_inventory(
        run.plan.image_arn, values["rows"], os_version=values["osVersion"], system=values.get("system")
    )
    run.log.line("inventory", values["words"])
    return Outcome({"osVersion": values["osVersion"], "associationId": run.command_id})


def _inventory(run: StepRun, machine: MachineInstance) -> Inventory:
    done = machine.run(Command(["/bin/sh", "-c", _PACK], timeout=_SECONDS, limit=_INVENTORY_BYTES))
    if done.returncode != 0 or done.timed_out or done.dropped:
        raise StepFailed(f"the package databases cannot be read ({done.ending}): {done.stderr[-500:].decode()}")
    storage = run.worker_context.storage
    with storage.scratch() as scratch, inventory_reported():
        return inventory_of_archive(storage.sealed, done.stdout, scratch, run.cancellation)


def _cached_values(run: StepRun, machine: MachineInstance, name: str) -> Mapping[str, Any]:
    """Cached values of the state of a machine that has not started; empty without any."""
    if machine.disk.state is None or machine.started:
        return {}
    found = disk_cache.find_values(run, disk_cache.values_key(machine.disk.state.key, name))
    if found is None:
        return {}
    disk_cache.log_hit(run, name, found, now=run.worker_context.clock())
    return found.entry.values


def sanitize_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Remove data that an image must not hold; with user data of the recipe only if that asked for it
    (spec/workflows.md 5.7)."""
    if no_boot.is_requested(run):
        return _cleaned(run, run.attach_container(inputs))
    machine = run.attach_machine(inputs)
    directory = run.plan.working_directory
    state, machine.disk.state = machine.disk.state, None
    if state is not None:
        state = replace(state, key=next_key(state.key, {"clean-up": sha256_hex(SCRIPT), "directory": directory}))
        said = _cleaned_before(run, machine, state)
        if said:
            return Outcome({"runCommandId": run.command_id, "status": "Success", "output": said})
    done = _cleaned(run, machine, own_user_data=bool(machine.options.user_data))
    machine.disk.state = state
    return done


def _cleaned(run: StepRun, instance: Instance, *, own_user_data: bool = False) -> Outcome:
    directory = run.plan.working_directory
    if not own_user_data:
        # Made now and not by user data at the launch: a restart empties /tmp.
        made = instance.run(Command(["/bin/sh", "-c", MARKER, "sh", directory]))
        if made.returncode != 0:
            raise StepFailed(f"the working directory {directory} cannot be used: {made.tail(3)}")
    with run.timed("sanitize"):
        said = sanitize(instance, directory=directory)
    for line in said.splitlines():
        run.note(f"    {line}")
    return Outcome({"runCommandId": run.command_id, "status": "Success", "output": said})


def _cleaned_before(run: StepRun, machine: MachineInstance, state: DiskState) -> str:
    """Resume a machine that has not started from the cached image of its cleaned state; empty without one."""
    if machine.started:
        return ""
    found = disk_cache.find_values(run, disk_cache.values_key(state.key, "image"))
    disk = _disk_of(run, found.entry.values) if found is not None else None
    if found is None or disk is None:
        return ""
    disk_cache.log_hit(run, "clean-up", found, now=run.worker_context.clock())
    machine.resume(BackingChain(disk.path))
    machine.disk.state = replace(state, since=found.entry.since, below=None)
    return f"already done in the image {disk.digest} of the cache"


def _disk_of(run: StepRun, values: Mapping[str, Any]) -> Disk | None:
    try:
        return run.worker_context.disks.whole(str(values["digest"]), cancellation=run.cancellation)
    except DiskError:
        return None


def create_image(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Shut the machine down, keep its disk by digest, and register the disk as an AMI of the build Region."""
    if no_boot.is_requested(run):
        made, entry = no_boot.make_disk(run, inputs)
        return Outcome({"imageId": register_disk(run, made, entry=entry).ami_id})
    machine = run.attach_machine(inputs)
    if machine.options.volumes:
        run.note("warning: the image is the root disk; further volumes of the recipe are not part of it")
    known = _cached_values(run, machine, "image")
    disk = _disk_of(run, known) if known else None
    if disk is None:
        disk = _captured(run, machine)
        if machine.disk.state is not None:
            disk_cache.keep_values(
                run, machine.disk.state, "image", {"digest": disk.digest}, now=run.worker_context.clock()
            )
    ami = register_disk(run, disk, entry=machine.options.entry)
    return Outcome({"imageId": ami.ami_id})


def _captured(run: StepRun, machine: MachineInstance) -> Disk:
    with run.timed("stop"):
        machine.leave()
        machine.stop()
    try:
        with run.timed("image"):
            return run.worker_context.disks.capture(machine.disk.path, cancellation=run.cancellation)
    except (DiskError, OSError) as error:
        raise explain(error, "making the image", free=run.worker_context.reserve.free) from error


def _options(run: StepRun, inputs: Mapping[str, Any], source: Source) -> MachineOptions:
    machine = planned(run)
    try:
        devices = read_devices(machine.block_devices)
    except DeviceRefused as error:
        raise StepFailed(f"the recipe cannot be built: {error}") from error
    root_gb, volumes = devices.root_gb, tuple(Volume(name, size) for name, size in devices.volumes)
    if 0 < root_gb * _GIB < source.disk.virtual_size:
        raise StepFailed(
            f"the block device of the root disk has {root_gb} GiB, and the parent image needs "
            f"{human_size(source.disk.virtual_size)}: set a larger volumeSize, or remove it"
        )
    if run.type == "BUILD":
        refusal = refused_exports(max(root_gb * _GIB, source.disk.virtual_size), machine.distributions)
        if refusal:
            raise StepFailed(f"the image could not be exported: {refusal}")
        _log_warnings(run, devices.warnings)
    user_data = base64.b64decode(machine.user_data) if run.type == "BUILD" else b""
    entry = source.entry if run.type == "BUILD" and not user_data else "cloud-init"
    return replace(
        run.worker_context.machines.options(_types(run, inputs)), root_gb=root_gb, volumes=volumes,
        user_data=user_data, entry=entry, firmware=source.firmware, fast_boot=run.type == "BUILD",
    )  # fmt: skip


def _log_warnings(run: StepRun, warnings: Sequence[str]) -> None:
    """Log members of the recipe and the infrastructure without effect, before the build begins."""
    machine = planned(run)
    for warning in warnings:
        run.note(f"warning: {warning}")
    run.log_unused()
    types = machine.instance_types
    if types and not any(run.worker_context.machines.knows(name) for name in types):
        run.note(
            f"warning: [instance_types] of the settings has none of {', '.join(types)}: the machine gets "
            "machines.cpus and machines.memory_mb"
        )


def guest_metadata(run: StepRun, inputs: Mapping[str, Any], options: MachineOptions) -> GuestMetadata:
    """What the metadata service of the machine answers with."""
    parent = run.plan.parent.reference
    started_on = parent if parent.startswith("ami-") else ""
    if run.type != "BUILD" and run.digest:
        started_on = own_id(run.plan)
    return GuestMetadata(
        instance_id=run.own_instance, account=run.plan.account, region=run.plan.region,
        ami_id=str(inputs.get("imageIdOverride", "")) or started_on,
        instance_type=run.worker_context.machines.type_of(_types(run, inputs)), user_data=options.user_data,
        tokens_required=planned(run).tokens_required,
    )  # fmt: skip


def _types(run: StepRun, inputs: Mapping[str, Any]) -> Sequence[str]:
    """The instance types to try, in order."""
    return inputs.get("instanceTypesOverride") or planned(run).instance_types


def _grow(machine: MachineInstance, options: MachineOptions, source: Source) -> None:
    """Grow the root file system to a larger disk, if cloud-init does not do it."""
    if options.entry == "credentials" and options.root_gb * _GIB > source.disk.virtual_size:
        done = machine.run(Command(["/bin/sh", "-c", _GROW], timeout=_SECONDS))
        if done.returncode != 0:
            raise InstanceError(f"the root file system cannot grow: {done.tail(3)}")
