"""`imagesmith event`: the events in the outbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from imagesmith.cli.context import data_dir_option, json_option, settings_of
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.store import opened_store
from imagesmith.events.messages import envelope
from imagesmith.store.events import newest_events


@click.group(cls=PlainGroup)
def event() -> None:
    """Show the events of this account."""


@event.command("list")
@click.option(
    "-n", "--count", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Number of events."
)
@data_dir_option
@json_option
def list_events(count: int, data_dir: Path, as_json: bool) -> None:
    """List the last events, newest first; --json prints each in the format of an event bus.

    \b
    Examples:
      imagesmith event list --data-dir ./data
      imagesmith event list --json --data-dir ./data | jq '.[].detail'

    Events are kept for 90 days. Reads the store, so no server needs to run. Four kinds are written: an
    image entered a state, a step of a workflow waits for an answer, a pipeline was disabled because it failed
    too often, and advisories name a vulnerability of an image that was built before.
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        found = [envelope(item) for item in newest_events(tx, settings.account, settings.region, count)]
    Listing(
        columns=("time", "event", "about", "detail"),
        rows=(
            (
                item["time"], item["detail-type"], " ".join(item["resources"]),
                ", ".join(f"{name} {_shown(value)}" for name, value in item["detail"].items()),
            )
            for item in found
        ),
        documents=found,
        empty="no events yet",
    ).show(as_json=as_json)  # fmt: skip


def _shown(value: Any) -> str:
    """A value of a detail, which may be an object like the state of an image."""
    return " ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
