"""`imagesmith event`: what the outbox holds."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from imagesmith.cli.context import data_dir_option, json_option, make_console, print_json, settings_of
from imagesmith.cli.store import opened_store
from imagesmith.events.messages import envelope
from imagesmith.store.events import newest_events


@click.group()
def event() -> None:
    """See the events that this account has caused."""


@event.command("list")
@click.option("-n", "--count", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@data_dir_option
@json_option
def list_events(count: int, data_dir: Path, as_json: bool) -> None:
    """List the last events, newest first; --json prints each as an event bus would carry it.

    \b
    Examples:
      imagesmith event list --data-dir ./data
      imagesmith event list --json --data-dir ./data | jq '.[].detail'

    Events are kept for 90 days. Reads the store, so a server need not run.
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        found = [envelope(item) for item in newest_events(tx, settings.account, settings.region, count)]
    if as_json:
        print_json(found)
        return
    table = Table("time", "event", "about", "detail", box=None, pad_edge=False)
    for item in found:
        detail = ", ".join(f"{name} {value}" for name, value in item["detail"].items())
        table.add_row(item["time"], item["detail-type"], " ".join(item["resources"]), detail)
    make_console().print(table if found else "no events yet")
