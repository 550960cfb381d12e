"""`imagesmith account`: the accounts of keys."""

from __future__ import annotations

import secrets
from collections import Counter
from pathlib import Path

import click

from imagesmith.cli.context import data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.key_access import account_id, now, opened_keys
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.values.names import iso_instant


@click.group()
def account() -> None:
    """The accounts that access keys belong to."""


@account.command("create")
@click.argument("account", required=False, callback=account_id)
@click.option("--name", default="", help="A name for people, shown in lists.")
@data_dir_option
@json_option
def create(account: str | None, *, name: str, data_dir: Path, as_json: bool) -> None:
    """Create the account ACCOUNT.

    Without ACCOUNT, its 12 digits are random.

    \b
    Examples:
      imagesmith account create 210987654321 --name team-web --data-dir ./data
      imagesmith key create --account 210987654321 --data-dir ./data
    """
    wanted = account or f"{secrets.randbelow(9 * 10**11) + 10**11}"
    with opened_keys(settings_of(data_dir), changes=True) as keys:
        made = keys.create_account(wanted, name)
    if as_json:
        print_json({"account": made.id, "name": made.name})
    else:
        echo(made.id)


@account.command("list")
@data_dir_option
@json_option
def list_accounts(data_dir: Path, as_json: bool) -> None:
    """List the accounts, with the number of their keys that may be used.

    \b
    Example:  imagesmith account list --data-dir ./data --json
    """
    with opened_keys(settings_of(data_dir), changes=False) as keys:
        usable = Counter(key.account for key in keys.all_keys() if key.is_usable(now()))
        found = keys.accounts()
    documents = [
        {"account": item.id, "name": item.name, "keys": usable[item.id], "created": iso_instant(item.created)}
        for item in found
    ]
    columns = ("account", "name", "keys", "created")
    rows = [[str(item[column]) for column in columns] for item in documents]
    Listing(columns, rows, documents, empty="no accounts yet").show(as_json=as_json)
