"""`imagesmith pipeline`: run pipelines and follow them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from rich.markup import escape
from rich.table import Table

from imagesmith.build_logs.logs import log_path
from imagesmith.cli.build_details import read_details
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
from imagesmith.cli.follow import follow_build
from imagesmith.cli.image import describe
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.log_watch import RetryingClient
from imagesmith.cli.screen import echo, make_console
from imagesmith.resources.run_tags import CACHE, NO_BOOT, NO_CACHE
from imagesmith.values.arn import slug_of
from imagesmith.values.states import ImageStatus


@click.group(cls=PlainGroup)
def pipeline() -> None:
    """Run and inspect pipelines."""


@pipeline.command("list")
@data_dir_option
@json_option
def list_pipelines(data_dir: Path, as_json: bool) -> None:
    """List the pipelines of this account.

    \b
    Example:  imagesmith pipeline list --data-dir ./data
    """
    with api_errors():
        pages = connect(data_dir).get_paginator("list_image_pipelines").paginate()
        found = [item for page in pages for item in page["imagePipelineList"]]
    Listing(
        columns=("pipeline", "status", "last run", "result", "next run"),
        rows=(
            (
                item["name"], item["status"], item.get("dateLastRun", ""), item.get("lastRunStatus", ""),
                item.get("dateNextRun", ""),
            )
            for item in found
        ),
        documents=found,
        empty="no pipelines yet",
    ).show(as_json=as_json)  # fmt: skip


@pipeline.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Show progress and log lines until the build ends.")
@click.option(
    "--cache",
    metavar="AGE",
    default="",
    help="Continue after components that an earlier run completed at most AGE (30m, 24h, 7d) ago; of a container "
    "image also the greatest age of what instructions took from the network.",
)
@click.option("--no-cache", is_flag=True, help="Container images: use nothing of earlier builds.")
@click.option("--no-boot", is_flag=True, help="Machine images: run build components without starting a machine.")
@data_dir_option
@json_option
def run(name: str, follow: bool, cache: str, no_cache: bool, no_boot: bool, data_dir: Path, as_json: bool) -> None:
    """Start a pipeline by NAME or ARN; with --follow exit 1 unless the image becomes AVAILABLE.

    \b
    Examples:
      imagesmith pipeline run web --follow --data-dir ./data
      imagesmith pipeline run web-machine --cache 24h --data-dir ./data

    --cache, --no-cache and --no-boot are tags of the image that is built: imagesmith:cache, imagesmith:no-cache and
    imagesmith:no-boot.
    """
    flags = {NO_CACHE: no_cache, NO_BOOT: no_boot}
    tags = {**({CACHE: cache} if cache else {}), **{tag: "true" for tag, given in flags.items() if given}}
    with api_errors():
        client = connect(data_dir)
        arn = _find(client, name)
        image_arn = client.start_image_pipeline_execution(
            imagePipelineArn=arn, clientToken=str(uuid4()), **({"tags": tags} if tags else {})
        )["imageBuildVersionArn"]
    if not follow:
        if as_json:
            print_json({"imageBuildVersionArn": image_arn})
        else:
            echo(image_arn)
        return
    settings = settings_of(data_dir)
    final = follow_build(RetryingClient(data_dir), image_arn, settings.data_dir, quiet=as_json, sleep=time.sleep)
    details = read_details(settings, image_arn)
    if not as_json and not log_path(settings.data_dir / "logs", image_arn).exists():
        echo(
            f"no log lines: {settings.data_dir} is not the folder of this server; name it with --data-dir", err=True
        )
    if as_json:
        print_json({**final, "build": details.to_json()})
    else:
        make_console().print(describe(final, details, settings.data_dir))
    if final["state"]["status"] != ImageStatus.AVAILABLE:
        raise CommandFailed(f"the build ended {final['state']['status']}", f"imagesmith image logs {image_arn}")


@pipeline.command()
@click.argument("name")
@data_dir_option
@json_option
def plan(name: str, data_dir: Path, as_json: bool) -> None:
    """Show whether pipeline NAME would build if its schedule fired now, and why.

    \b
    Examples:
      imagesmith pipeline plan web --data-dir ./data
      imagesmith pipeline plan web --json --data-dir ./data | jq .builds

    Also shows what each reference resolves to. Changes nothing. Reads the store, so no server needs to run.
    """
    # imported late: `imagesmith --help` should not load every resource
    from imagesmith.cli.plan import plan_named

    found = plan_named(settings_of(data_dir), name, now=datetime.now(UTC))
    if as_json:
        print_json(asdict(found))
        return
    console = make_console()
    console.print(f"{'it would build' if found.builds else 'it would not build'}: {found.reason}", soft_wrap=True)
    if found.next_run:
        console.print(f"next run {found.next_run}")
    if found.hint:
        console.print(f"hint: {escape(found.hint)}", soft_wrap=True)
    for warning in found.warnings:
        console.print(f"warning: {escape(warning)}", soft_wrap=True)
    if found.baseline_image:
        console.print(f"compared with {found.baseline_image}", soft_wrap=True)
    table = Table("", "written", "resolves to", "was", box=None, pad_edge=False)
    for item in found.inputs:
        table.add_row(
            item.role, item.reference, item.resolved, "" if item.baseline == item.resolved else item.baseline
        )
    if found.inputs:
        console.print(table)


@pipeline.command()
@click.argument("name")
@click.option(
    "-n", "--count", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Number of lines."
)
@data_dir_option
@json_option
def logs(name: str, count: int, data_dir: Path, as_json: bool) -> None:
    """Print the last lines of the log of pipeline NAME: the decision of each tick, its reason, and how runs ended.

    \b
    Examples:
      imagesmith pipeline logs web --data-dir ./data
      imagesmith pipeline logs web -n 1000 --json --data-dir ./data | jq -r 'select(.stage == "tick").text'

    With --json one object per line. Reads the files, so no server needs to run.
    """
    from imagesmith.cli.pipeline_logs import last_lines

    for line in last_lines(settings_of(data_dir), name, count):
        echo(json_text(asdict(line)) if as_json else f"{line.time} {line.stage} | {line.text}")


def _find(client: Any, name: str) -> str:
    if name.startswith("arn:"):
        return name
    pages = client.get_paginator("list_image_pipelines").paginate()
    known: list[Mapping[str, Any]] = [item for page in pages for item in page["imagePipelineList"]]
    for item in known:
        if name == item["name"] or item["arn"].endswith(f"/{slug_of(name)}"):
            return str(item["arn"])
    names = ", ".join(item["name"] for item in known) or "none"
    raise CommandFailed(f"there is no pipeline {name}", f"known pipelines: {names}")
