"""`imagesmith ami`: the AMI catalog, export of its disks, and a console on a disk."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from imagesmith.artifacts.disks import EXPORT_FORMATS, DiskError
from imagesmith.cli.console_relay import relay
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.disks import disk_store, find_ami, own_machines, used_disk
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.cli.store import opened_store
from imagesmith.distribution.companions import companions, write_companions
from imagesmith.inspection.signing import SigningError, SigningKey
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.protocol import InstanceError
from imagesmith.store import amis
from imagesmith.store.amis import Ami
from imagesmith.values.names import human_size, iso_instant


@click.group(cls=PlainGroup)
def ami() -> None:
    """Machine images: the catalog, export, boot."""


@ami.command("list")
@click.option("--region", default="", help="Only this region.")
@data_dir_option
@json_option
def list_amis(region: str, data_dir: Path, as_json: bool) -> None:
    """List the AMIs of all accounts and regions, newest first.

    \b
    Example:  imagesmith ami list --region us-east-1 --data-dir ./data
    """
    with opened_store(settings_of(data_dir)) as tx:
        found = amis.list_amis(tx, region=region)
    Listing(
        columns=("ami", "name", "region", "account", "created"),
        rows=((item.ami_id, item.name, item.region, item.account, iso_instant(item.created)) for item in found),
        documents=[_to_json(item) for item in found],
        empty="no AMIs yet",
    ).show(as_json=as_json)


@ami.command()
@click.argument("ami_id")
@data_dir_option
@json_option
def show(ami_id: str, data_dir: Path, as_json: bool) -> None:
    """Show one AMI: its disk, tags and permissions.

    \b
    Example:  imagesmith ami show ami-0123456789abcdef0 --data-dir ./data --json
    """
    settings = settings_of(data_dir)
    found = find_ami(settings, ami_id)
    shown = _to_json(found)
    try:
        disk = disk_store(settings).get(found.digest)
        shown = {**shown, "path": str(disk.path), "size": disk.size, "virtualSize": disk.virtual_size}
    except DiskError as error:
        shown = {**shown, "problem": str(error)}
    if as_json:
        print_json(shown)
        return
    for key, value in shown.items():
        text = f"{value} ({human_size(value)})" if key in ("size", "virtualSize") else value
        echo(f"{key + ':':18} {text}")


@ami.command()
@click.argument("ami_id")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "form", type=click.Choice((*EXPORT_FORMATS, "qcow2")), default="raw", show_default=True)
@data_dir_option
def export(ami_id: str, target: Path, form: str, data_dir: Path) -> None:
    """Write the disk of an AMI to a file; the file appears when it is complete.

    \b
    Beside it: TARGET.sha256, TARGET.sigstore.json (the signed provenance), TARGET.spdx.json and
    TARGET.cdx.json with their signatures, TARGET.vsa.sigstore.json (what was checked), as far as
    the disk has them; see docs/verify.md.

    \b
    Examples:
      imagesmith ami export ami-0123456789abcdef0 web.raw
      imagesmith ami export ami-0123456789abcdef0 web.vmdk --format vmdk
    """
    settings = settings_of(data_dir)
    found = find_ami(settings, ami_id)
    try:
        store = disk_store(settings)
        store.export(found.digest, target, form)
        beside = companions(store, found, target, SigningKey.open(settings.data_dir), datetime.now(UTC))
        write_companions(target, beside)
    except (DiskError, SigningError, OSError) as error:
        raise CommandFailed(f"{ami_id} cannot be exported: {error}") from error
    echo(f"{target}: {human_size(target.stat().st_size)}, {form}; beside it: {', '.join(sorted(beside))}")


@ami.command()
@click.argument("disk_name", metavar="AMI|BASE|FILE")
@click.option("--uefi", is_flag=True, help="Boot with UEFI instead of BIOS.")
@click.option(
    "--memory",
    "memory_mb",
    type=click.IntRange(64, 16_777_216),
    help="MiB of memory.  [default: from the settings]",
)
@data_dir_option
def boot(disk_name: str, *, uefi: bool, memory_mb: int | None, data_dir: Path) -> None:
    """Start a machine on a throw-away overlay of a disk and open its serial console.

    \b
    Examples:
      imagesmith ami boot ami-0123456789abcdef0
      imagesmith ami boot debian-12-x86 --uefi

    cloud-init sets the root password that is printed at the start. Ctrl-] ends the machine and discards
    its changes. Without a terminal, the console goes to standard output until the machine is switched off.
    """
    settings = settings_of(data_dir)
    factory = own_machines(settings)
    password = secrets.token_hex(6)
    options = replace(
        factory.options(), firmware="uefi" if uefi else "bios", password=password, interactive=True,
        memory_mb=memory_mb or factory.machines.memory_mb,
    )  # fmt: skip
    with used_disk(factory, settings, disk_name, on_line=echo) as (disk, _):
        try:
            machine = MachineInstance.start(
                factory.folder / f"boot-{os.getpid()}", disk.path, options=options, accelerator=factory.accelerator,
                limits=factory.limits, on_line=echo,
            )  # fmt: skip
        except InstanceError as error:
            raise CommandFailed(str(error), "see: imagesmith doctor") from error
        try:
            echo(f"log in as root with the password {password}; Ctrl-] ends the machine")
            relay(machine)
        finally:
            machine.close()


def _to_json(item: Ami) -> Mapping[str, Any]:
    return {
        "amiId": item.ami_id, "name": item.name, "account": item.account, "region": item.region,
        "digest": item.digest, "snapshotId": item.snapshot_id, "created": iso_instant(item.created),
        "imageArn": item.image_arn, **item.document,
    }  # fmt: skip
