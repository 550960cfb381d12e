"""`imagesmith base`: the bases of machines and containers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from imagesmith.artifacts.bases import ParentError
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.disks import machine_bases, publish_disk
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.cli.store import changed_store, opened_store
from imagesmith.managed.bases import managed_bases
from imagesmith.resources.managed_images import KnownImage, managed_images
from imagesmith.settings import Settings, SettingsError
from imagesmith.store import amis
from imagesmith.store.amis import Ami, AmiNameTaken, ami_id_for


@click.group(cls=PlainGroup)
def base() -> None:
    """Disks and images that builds start from."""


@base.command()
@click.argument("source")
@click.option(
    "--checksum", required=True, metavar="sha256:HEX", help="Expected checksum of the file; sha512: works too."
)
@click.option("--name", help="Name of the AMI.  [default: the last part of the source]")
@click.option("--description", default="", help="Shown with the AMI.")
@data_dir_option
@json_option
def add(source: str, *, checksum: str, name: str | None, description: str, data_dir: Path, as_json: bool) -> None:
    """Add a cloud image (qcow2 or raw; a path or URL) as a parent for image recipes.

    \b
    Examples:
      imagesmith base add ./debian-12-genericcloud-amd64.qcow2 --checksum sha512:...
      imagesmith base add https://images.example.com/alma-9.qcow2 --checksum sha256:... --name alma-9

    It becomes an AMI of the account and region of the settings; use its id as parentImage of a recipe. The image
    needs cloud-init with the NoCloud data source and an SSH server, as the cloud images of all distributions have.
    """
    settings = settings_of(data_dir)
    with opened_store(settings):
        pass
    on_line = (lambda _: None) if as_json else (lambda line: echo(line, fg="bright_black"))
    try:
        disk = machine_bases(settings).add(source, checksum, on_line=on_line)
    except ParentError as error:
        raise CommandFailed(str(error)) from error
    publish_disk(settings, disk)
    title = name or Path(source).name
    ami = Ami(
        ami_id=ami_id_for(settings.account, settings.region, title, source=disk.digest),
        account=settings.account, region=settings.region, name=title, digest=disk.digest, created=datetime.now(UTC),
        document={
            "description": description, "tags": {}, "origin": "base", "source": source, "checksum": checksum,
            "platform": "Linux", "architecture": "x86_64", "entry": "cloud-init",
        },
    )  # fmt: skip
    try:
        with changed_store(settings) as tx:
            amis.put_ami(tx, ami)
    except AmiNameTaken as error:
        raise CommandFailed(str(error), "choose another --name") from error
    if as_json:
        print_json({"amiId": ami.ami_id, "name": title, "digest": disk.digest, "size": disk.size})
    else:
        echo(f"{ami.ami_id}  {title}")


@base.command("list")
@data_dir_option
@json_option
def list_bases(data_dir: Path, as_json: bool) -> None:
    """List the managed bases, the images of the settings, and the disks that were added.

    \b
    Example:  imagesmith base list --data-dir ./data --json
    """
    settings = settings_of(data_dir)
    rows = [
        {"kind": item.kind, "parentImage": _arn(settings.partition, settings.region, item.name), "name": item.name,
         "description": item.description}
        for item in managed_bases()
    ]  # fmt: skip
    rows += [
        {"kind": item.kind, "parentImage": _arn(settings.partition, settings.region, item.name), "name": item.name,
         "description": f"{item.source}, by managed_images of the settings"}
        for item in _mapped(settings)
    ]  # fmt: skip
    try:
        with opened_store(settings) as tx:
            added = [ami for ami in amis.list_amis(tx) if ami.document.get("origin") == "base"]
    except CommandFailed:
        added = []
    rows += [
        {"kind": "machine", "parentImage": ami.ami_id, "name": ami.name,
         "description": str(ami.document.get("description") or ami.document.get("source", ""))}
        for ami in added
    ]  # fmt: skip
    columns = ("kind", "parentImage", "name", "description")
    Listing(columns, [[row[column] for column in columns] for row in rows], rows).show(as_json=as_json)


def _mapped(settings: Settings) -> list[KnownImage]:
    """The managed images of the settings. Raises CommandFailed."""
    try:
        return [image for image in managed_images(settings.managed_images) if image.name in settings.managed_images]
    except SettingsError as error:
        raise CommandFailed(str(error)) from error


def _arn(partition: str, region: str, name: str) -> str:
    return f"arn:{partition}:imagebuilder:{region}:aws:image/{name}/x.x.x"
