"""`imagesmith lifecycle`: what lifecycle policies would do, and runs without waiting for their time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from sqlalchemy.engine import Connection

from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, settings_of
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.cli.store import changed_store, opened_store
from imagesmith.lifecycle.preview import preview
from imagesmith.settings import Settings
from imagesmith.store import lifecycle as executions
from imagesmith.store import queries
from imagesmith.store.queries import Selection
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn, slug_of
from imagesmith.values.states import PolicyStatus

_KIND: Final = "lifecycle-policy"
_MOST_NAMES: Final = 50


@click.group(cls=PlainGroup)
def lifecycle() -> None:
    """Preview and run lifecycle policies."""


@lifecycle.command("preview")
@click.argument("name")
@data_dir_option
@json_option
def show_preview(name: str, data_dir: Path, *, as_json: bool) -> None:
    """Show what a run of a policy would do now to images, AMIs and containers. Nothing is changed.

    \b
    Examples:
      imagesmith lifecycle preview old-images --data-dir ./data
      imagesmith lifecycle preview old-images --json

    An image comes before its outputs. The last column says why something would stay as it is.
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        planned = list(preview(tx, _policy(tx, settings, name), now=datetime.now(UTC)))
    rows = [(str(item.action), f"{'  ' * bool(item.parent)}{item.resource}", item.skipped) for item in planned]
    documents = [
        {"action": item.action, "resource": item.resource, "parent": item.parent, "skipped": item.skipped}
        for item in planned
    ]
    Listing(("action", "resource", "skipped"), rows, documents, empty="nothing is selected").show(as_json=as_json)


@lifecycle.command()
@click.argument("name")
@data_dir_option
def run(name: str, data_dir: Path) -> None:
    """Make a policy due now, instead of at the time of day of the settings; the server runs it within seconds.

    \b
    Example:  imagesmith lifecycle run old-images --data-dir ./data

    A policy has one execution at a time: a run that has not ended is not started again.
    """
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        policy = _policy(tx, settings, name)
        if policy.status != PolicyStatus.ENABLED:
            raise CommandFailed(f"the policy {name} is {policy.status}", "enable it with UpdateLifecyclePolicy")
        executions.set_next_run(tx, policy.arn, datetime.now(UTC))
    echo(f"{policy.arn} is due")


def _policy(tx: Connection, settings: Settings, name: str) -> Record:
    """A policy by its name or ARN. Raises CommandFailed."""
    arn = name
    if not name.startswith("arn:"):
        arn = str(
            Arn(
                partition=settings.partition, region=settings.region, owner=settings.account, kind=_KIND,
                slug=slug_of(name),
            )
        )  # fmt: skip
    found = queries.get(tx, arn)
    if found is None or found.kind != _KIND:
        known = queries.page(tx, Selection(settings.account, settings.region, _KIND), None, _MOST_NAMES)
        names = ", ".join(item.name for item in known) or "none"
        raise CommandFailed(f"there is no lifecycle policy {name}", f"known policies: {names}")
    return found
