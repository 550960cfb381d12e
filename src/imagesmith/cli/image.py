"""`imagesmith image`: list, show, follow logs, compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Column, Table

from imagesmith.build_logs.logs import log_path, parse_line
from imagesmith.cli.context import (
    CommandFailed,
    api_errors,
    connect,
    data_dir_option,
    json_option,
    json_text,
    print_json,
    settings_of,
)
from imagesmith.cli.lazy import LazyCommand, LazyGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo, make_console
from imagesmith.inspection.changes import PackageChanges, compare_packages
from imagesmith.values.arn import Arn
from imagesmith.values.names import human_size
from imagesmith.values.states import ImageStatus

if TYPE_CHECKING:
    from imagesmith.cli.build_details import BuildDetails

_MORE = (
    ("scan_findings", "findings", "Show the vulnerabilities that the scan of a build found, worst first."),
    (
        "verify",
        "verify",
        "Check the signed provenance of an image, and show its builder, sources and build time.",
    ),
    (
        "attest",
        "attest",
        "Attach inventory, provenance and signature to an image of a registry, again or for the first time.",
    ),
    ("image_ancestry", "ancestry", "Show what an image is built on, up to the base, and what is built on it."),
    (
        "image_ancestry",
        "revoke",
        "Revoke an image and everything that is built on it: no run and no distribution may use them.",
    ),
    ("image_ancestry", "unrevoke", "Withdraw the revocation of an image; its children may be used again too."),
    (
        "image_rebuild",
        "rebuild",
        "Build an image again from its provenance alone, and compare it with the first one, bit for bit.",
    ),
    ("image_steps", "steps", "Show the workflow steps of a build: state, time and failures."),
    ("image_steps", "approve", "Resume a build that waits for an action."),
    (
        "image_steps",
        "reject",
        "Stop a build that waits for an action; the step fails, and its onFailure decides what follows.",
    ),
    (
        "image_actions",
        "cancel",
        "Stop a build: its commands end at once, its instances are removed, and it becomes CANCELLED.",
    ),
    (
        "image_actions",
        "retry",
        "Send a machine image that failed or was cancelled back to its test or distribution phase.",
    ),
)
_COLOURS: dict[str, str] = {
    ImageStatus.AVAILABLE: "green",
    ImageStatus.FAILED: "red",
    ImageStatus.CANCELLED: "yellow",
}
_LAZY = {name: LazyCommand(f"imagesmith.cli.{module}", name, text) for module, name, text in _MORE}


@click.group(cls=LazyGroup, lazy=_LAZY)
def image() -> None:
    """Show images, their logs and packages; approve, reject, cancel and retry builds."""


@image.command("list")
@data_dir_option
@json_option
def list_images(data_dir: Path, as_json: bool) -> None:
    """List the builds of this account, newest first.

    \b
    Example:  imagesmith image list --data-dir ./data --json
    """
    with api_errors():
        pages = connect(data_dir).get_paginator("list_image_build_versions").paginate()
        found = [summary for page in pages for summary in page["imageSummaryList"]]
    Listing(
        columns=("image", "version", "state", "type", "created"),
        rows=(
            (item["name"], item["version"], _coloured(item["state"]["status"]), item["type"], item["dateCreated"])
            for item in found
        ),
        documents=found,
        empty="no images yet",
    ).show(as_json=as_json)


@image.command()
@click.argument("reference")
@data_dir_option
@json_option
def show(reference: str, data_dir: Path, as_json: bool) -> None:
    """Show one build: state, digest, location, time of each stage.

    \b
    REFERENCE is an ARN, NAME (newest build), NAME/1.0.0 or NAME/1.0.0/3.
    Example:  imagesmith image show web/1.0.0/1 --data-dir ./data
    """
    # commands that only use the API do not load the modules for the database
    from imagesmith.cli.build_details import read_details

    with api_errors():
        found = get_image(data_dir, reference)
    details = read_details(settings_of(data_dir), found["arn"])
    if as_json:
        print_json({**found, "build": details.to_json()})
        return
    make_console().print(describe(found, details, settings_of(data_dir).data_dir))


@image.command()
@click.argument("reference")
@click.option("-f", "--follow", "keep_following", is_flag=True, help="Follow the log until the build ends.")
@click.option(
    "--step", "step", default="", help="Only the lines of one step of its workflows; -f ends with the step."
)
@data_dir_option
@json_option
def logs(reference: str, keep_following: bool, step: str, data_dir: Path, as_json: bool) -> None:
    """Print the log of a build, or of one step; with --json one object per line.

    \b
    -f continues after a restart of the server, and waits for a step that has not started.
    Example:  imagesmith image logs -f web/1.0.0/1 --data-dir ./data
              imagesmith image logs -f web/1.0.0/1 --step ApplyBuildComponents --data-dir ./data
    Over HTTP: GET /logs/image?imageBuildVersionArn=ARN (server-sent events, signed like the API; docs/builds.md).
    """
    from imagesmith.cli.log_watch import LogWatch

    with api_errors():
        arn = get_image(data_dir, reference)["arn"]
    watch = LogWatch(data_dir, arn, step)
    for line in watch.lines(keep_following=keep_following):
        echo(json_text(asdict(parse_line(line))) if as_json else line)


@image.command()
@click.argument("before")
@click.argument("after")
@data_dir_option
@json_option
def diff(before: str, after: str, data_dir: Path, as_json: bool) -> None:
    """Compare the packages of two builds.

    \b
    Example:  imagesmith image diff web/1.0.0/1 web/1.0.1/1 --data-dir ./data
    """
    with api_errors():
        sides = [get_image(data_dir, reference)["arn"] for reference in (before, after)]
        changes = compare_packages(*(packages_of(connect(data_dir), arn) for arn in sides))
    if as_json:
        print_json({"before": sides[0], "after": sides[1], **changes.to_json()})
        return
    make_console().print(describe_changes(changes, *sides))


def get_image(data_dir: Path, reference: str) -> Mapping[str, Any]:
    """The image of an ARN, NAME, NAME/VERSION or NAME/VERSION/BUILD."""
    client = connect(data_dir)
    if reference.startswith("arn:"):
        return client.get_image(imageBuildVersionArn=reference)["image"]
    name, *rest = reference.split("/")
    pages = client.get_paginator("list_image_build_versions").paginate()
    wanted = "/".join(rest)
    for page in pages:
        for summary in page["imageSummaryList"]:
            same_name = name in (summary["name"], Arn.parse(summary["arn"]).slug)
            if same_name and (
                summary["version"] == wanted or summary["version"].startswith(f"{wanted}/") or not wanted
            ):
                return client.get_image(imageBuildVersionArn=summary["arn"])["image"]
    raise CommandFailed(f"there is no image {reference}", "list them with: imagesmith image list")


def packages_of(client: Any, arn: str) -> dict[str, str]:
    """Name -> version, through the API."""
    pages = client.get_paginator("list_image_packages").paginate(imageBuildVersionArn=arn)
    return {item["packageName"]: item["packageVersion"] for page in pages for item in page["imagePackageList"]}


def describe(found: Mapping[str, Any], details: BuildDetails, data_dir: Path) -> Table:
    table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    state = found["state"]
    table.add_row("arn", found["arn"])
    table.add_row("state", _coloured(state["status"]))
    if "reason" in state:
        table.add_row("reason", escape(state["reason"]))
    for name, value in (
        ("os", found.get("osVersion", "")),
        ("digest", details.digest),
        ("size", human_size(details.size) if details.size else ""),
        ("packages", str(details.packages) if details.packages else ""),
    ):
        if value:
            table.add_row(name, value)
    for container in found.get("outputResources", {}).get("containers", ()):
        for uri in container.get("imageUris", ()):
            table.add_row("image", uri)
    for ami in found.get("outputResources", {}).get("amis", ()):
        table.add_row("ami", escape(f"{ami['image']}  {ami['region']}  {ami['accountId']}  {ami['name']}"))
    for name, seconds in details.stages.items():
        table.add_row(f"time {name}", f"{seconds:.1f} s")
    table.add_row("log", escape(str(log_path(data_dir / "logs", found["arn"]))))
    uris = [uri for item in found.get("outputResources", {}).get("containers", ()) for uri in item["imageUris"]]
    if any(uri.startswith("oci:") for uri in uris):
        table.add_row("use it", f"skopeo copy {uris[0]} docker://REGISTRY/NAME:TAG")
    return table


def describe_changes(changes: PackageChanges, before: str, after: str) -> Table:
    sides = [Arn.parse(arn).path for arn in (before, after)]
    table = Table("package", sides[0], sides[1], box=None, pad_edge=False)
    for name, version in changes.added.items():
        table.add_row(f"[green]+ {name}[/green]", "", version)
    for name, version in changes.removed.items():
        table.add_row(f"[red]- {name}[/red]", version, "")
    for name, (old, new) in changes.changed.items():
        table.add_row(f"[yellow]~ {name}[/yellow]", old, new)
    table.caption = (
        f"{len(changes.added)} added, {len(changes.removed)} removed, {len(changes.changed)} changed, "
        f"{changes.same} the same"
    )
    return table


def _coloured(state: str) -> str:
    colour = _COLOURS.get(state, "cyan")
    return f"[{colour}]{state}[/{colour}]"
