"""`imagesmith parameter`: the values of `ssm:` references in recipes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from imagesmith.cli.audited import audited
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, settings_of
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.cli.store import changed_store, opened_database, opened_store
from imagesmith.components.secrets import MASK
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.store.parameters import (
    ParameterRecord,
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
            f"'{text}' is not a parameter name; write letters, digits, and . - _ /, like /golden/debian-12"
        )
    return text


@click.group(cls=PlainGroup)
def parameter() -> None:
    """Set and show stored parameters; a recipe can have one as parent, like ssm:/golden/debian-12."""


@parameter.command("put")
@click.argument("name", callback=_name)
@click.argument("value", required=False)
@click.option("--secure", is_flag=True, help="A secret, encrypted and masked; without VALUE it is read from stdin.")
@data_dir_option
def put(name: str, value: str | None, data_dir: Path, *, secure: bool) -> None:
    """Set the parameter NAME to VALUE, replacing its current value.

    \b
    Examples:
      imagesmith parameter put /golden/debian-12 ami-0123456789abcdef0 --data-dir ./data
      imagesmith parameter put /app/license --secure --data-dir ./data <license.txt

    Components read a value with {{ aws:ssm:NAME }}.

    A pipeline whose recipe has the parent ssm:NAME uses the value at its next start; with the dependency
    condition a new value counts as an update.
    """
    if value is None:
        if not secure:
            raise click.UsageError("VALUE is missing; only a --secure one is read from stdin.")
        value = sys.stdin.read(_LONGEST + 2).removesuffix("\n")
    if not 0 < len(value) <= _LONGEST or not value.isprintable():
        raise click.BadParameter(f"a value has 1 to {_LONGEST} printable characters", param_hint="VALUE")
    settings = settings_of(data_dir)
    with opened_database(settings, "changed") as database:
        record = _record(settings, database, name, value, secure=secure)
        scope = f"{settings.account}/{settings.region}"
        with audited(settings), database.write(scope) as tx:
            put_parameter(tx, settings.account, settings.region, record)


def _record(settings: Settings, database: Database, name: str, value: str, *, secure: bool) -> ParameterRecord:
    now = datetime.now(UTC)
    if not secure:
        return ParameterRecord(name, value, now)
    # imported late: only secrets need a cipher
    from imagesmith.accounts.key_follower import open_box
    from imagesmith.accounts.sealed_parameters import sealed_parameter

    with _secrets_errors():
        return sealed_parameter(
            name, value, account=settings.account, region=settings.region, updated=now,
            box=open_box(settings, database),
        )  # fmt: skip


@parameter.command("get")
@click.argument("name", callback=_name)
@click.option("--with-decryption", "decrypt", is_flag=True, help="Also show a secure value.")
@data_dir_option
def get(name: str, data_dir: Path, *, decrypt: bool) -> None:
    """Print the value of the parameter NAME.

    \b
    Example:  imagesmith parameter get /golden/debian-12 --data-dir ./data
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        found = get_parameter(tx, settings.account, settings.region, name)
    if found is None:
        raise CommandFailed(f"there is no parameter {name}", "see: imagesmith parameter list")
    echo(_shown(settings, found, decrypt=decrypt))


def _shown(settings: Settings, found: ParameterRecord, *, decrypt: bool) -> str:
    if not found.secure:
        return found.value
    if not decrypt:
        return MASK
    from imagesmith.accounts.sealed_parameters import open_parameter
    from imagesmith.accounts.secret_box import open_existing

    with _secrets_errors():
        return open_parameter(found, settings.account, settings.region, open_existing(settings))


@contextmanager
def _secrets_errors() -> Iterator[None]:
    """Convert what the key file raises to one line."""
    from imagesmith.accounts.secret_box import SecretsError

    try:
        yield
    except (SecretsError, OSError) as error:
        raise CommandFailed(str(error)) from error


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
    documents = [
        {
            "name": item.name,
            "value": MASK if item.secure else item.value,
            "type": "SecureString" if item.secure else "String",
            "updated": iso_instant(item.updated),
        }
        for item in found
    ]
    columns = ("name", "value", "updated")
    rows = [[item[column] for column in columns] for item in documents]
    Listing(columns, rows, documents, empty="no parameters yet").show(as_json=as_json)


@parameter.command("delete")
@click.argument("name", callback=_name)
@data_dir_option
def delete(name: str, data_dir: Path) -> None:
    """Remove the parameter NAME; later runs of recipes that name it fail.

    \b
    Example:  imagesmith parameter delete /golden/debian-12 --data-dir ./data
    """
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        removed = delete_parameter(tx, settings.account, settings.region, name)
    if not removed:
        raise CommandFailed(f"there is no parameter {name}", "see: imagesmith parameter list")
