"""`imagesmith parameter`: the values that `ssm:` references of recipes mean."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from imagesmith.cli.context import (
    CommandFailed,
    data_dir_option,
    json_option,
    make_console,
    print_json,
    settings_of,
)
from imagesmith.cli.store import changed_store, opened_store
from imagesmith.store.parameters import (
    Parameter,
    all_parameters,
    delete_parameter,
    get_parameter,
    put_parameter,
)
from imagesmith.values.names import iso_instant

_NAME = re.compile(r"[A-Za-z0-9_./-]{1,1011}")
_LONGEST = 4096


def _name(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if not _NAME.fullmatch(text):
        raise click.BadParameter(
            f"'{text}' is no parameter name; write letters, digits, and . - _ /, like /golden/debian-12"
        )
    return text


@click.group()
def parameter() -> None:
    """Set and see stored parameters: recipes name them as parent, like ssm:/golden/debian-12."""


@parameter.command("put")
@click.argument("name", callback=_name)
@click.argument("value")
@data_dir_option
def put(name: str, value: str, data_dir: Path) -> None:
    """Give the parameter NAME a VALUE, instead of the one it has.

    \b
    Example:  imagesmith parameter put /golden/debian-12 ami-0123456789abcdef0 --data-dir ./data

    A pipeline whose recipe has the parent ssm:NAME takes the value at its next start, and under the dependency
    condition another value is an update.
    """
    if not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise click.BadParameter(f"a value has 1 to {_LONGEST} printable characters", param_hint="VALUE")
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        put_parameter(tx, settings.account, settings.region, Parameter(name, value, datetime.now(UTC)))


@parameter.command("get")
@click.argument("name", callback=_name)
@data_dir_option
def get(name: str, data_dir: Path) -> None:
    """Print the value of the parameter NAME.

    \b
    Example:  imagesmith parameter get /golden/debian-12 --data-dir ./data
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        found = get_parameter(tx, settings.account, settings.region, name)
    if found is None:
        raise CommandFailed(f"there is no parameter {name}", "see: imagesmith parameter list")
    click.echo(found.value)


@parameter.command("list")
@data_dir_option
@json_option
def list_parameters(data_dir: Path, as_json: bool) -> None:
    """List the parameters of this account and region.

    \b
    Example:  imagesmith parameter list --json --data-dir ./data
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        found = all_parameters(tx, settings.account, settings.region)
    if as_json:
        print_json(
            [{"name": item.name, "value": item.value, "updated": iso_instant(item.updated)} for item in found]
        )
        return
    table = Table("name", "value", "updated", box=None, pad_edge=False)
    for item in found:
        table.add_row(item.name, item.value, iso_instant(item.updated))
    make_console().print(table if found else "no parameters yet")


@parameter.command("delete")
@click.argument("name", callback=_name)
@data_dir_option
def delete(name: str, data_dir: Path) -> None:
    """Remove the parameter NAME; runs of recipes that name it fail from then on.

    \b
    Example:  imagesmith parameter delete /golden/debian-12 --data-dir ./data
    """
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        removed = delete_parameter(tx, settings.account, settings.region, name)
    if not removed:
        raise CommandFailed(f"there is no parameter {name}", "see: imagesmith parameter list")
