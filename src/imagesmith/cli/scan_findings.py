"""`imagesmith image findings`: the findings of a build's scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from imagesmith.cli.context import api_errors, connect, data_dir_option, json_option, print_json
from imagesmith.cli.image import get_image
from imagesmith.cli.screen import make_console
from imagesmith.values.states import ScanStatus

_COLOURS: Mapping[str, str] = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow"}


@click.command()
@click.argument("reference")
@data_dir_option
@json_option
def findings(reference: str, data_dir: Path, as_json: bool) -> None:
    """Show the vulnerabilities that the scan of a build found, worst first.

    \b
    REFERENCE is an ARN, NAME (newest build), NAME/1.0.0 or NAME/1.0.0/3.
    Example:  imagesmith image findings web/1.0.0/1 --data-dir ./data
    """
    with api_errors():
        image = get_image(data_dir, reference)
        found = findings_of(connect(data_dir), image["arn"])
    state = image.get("scanState", {})
    if as_json:
        print_json({"scanState": state, "findings": found})
        return
    make_console().print(describe_findings(found, state))


def findings_of(client: Any, arn: str) -> list[Mapping[str, Any]]:
    """Every finding of one build, through the API."""
    wanted = [{"name": "imageBuildVersionArn", "values": [arn]}]
    pages = client.get_paginator("list_image_scan_findings").paginate(filters=wanted)
    return [item for page in pages for item in page["findings"]]


def describe_findings(found: Sequence[Mapping[str, Any]], state: Mapping[str, Any]) -> Table | str:
    """A table of findings; without any a sentence, which tells a clean scan from a missing one."""
    status = state.get("status")
    reason = f": {state['reason']}" if "reason" in state else ""
    if not found:
        if status == ScanStatus.COMPLETED:
            return "the scan found nothing"
        return escape(f"this build was not scanned (scan state {status or 'none'}{reason})")
    table = Table("severity", "vulnerability", "package", "version", "fixed in", box=None, pad_edge=False)
    for item in found:
        details = item.get("packageVulnerabilityDetails", {})
        packages = details.get("vulnerablePackages") or [{}]
        colour = _COLOURS.get(item["severity"], "default")
        for package in packages:
            table.add_row(
                f"[{colour}]{item['severity']}[/{colour}]",
                escape(str(details.get("vulnerabilityId", item.get("title", "")))),
                escape(str(package.get("name", ""))),
                escape("-".join(str(package[part]) for part in ("version", "release") if part in package)),
                escape(str(package.get("fixedInVersion", "no fix yet"))),
            )
    return table
