"""`imagesmith audit`: who changed what, when, from where."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from imagesmith.accounts.audit_reader import AuditQuery, audit_lines
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, json_text, settings_of
from imagesmith.cli.key_access import account_id
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo

_AGO = re.compile(r"([0-9]{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"'{text}' is not a time; write 30m, 12h, 7d, 2026-11-29 or 2026-11-29T12:00:00Z"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


@click.command()
@click.option("--since", callback=_moment, help="30m, 12h, 7d, or a date or time (UTC).  [default: all]")
@click.option("--account", callback=account_id, help="Of this account only.")
@click.option("--operation", default="", help="An operation, in which * matches any text: Delete*.")
@click.option("--result", default="", help="OK, or the code of an error.")
@data_dir_option
@json_option
def audit(
    since: datetime | None, account: str | None, *, operation: str, result: str, data_dir: Path, as_json: bool
) -> None:
    """Show the changes that were asked for, and what became of them. --json prints one object a line.

    \b
    Examples:
      imagesmith audit --since 12h --operation 'Delete*' --data-dir ./data
      imagesmith audit --result AccessDeniedException --json --data-dir ./data

    The lines are those of this data directory; other servers on the same database have their own.
    """
    # imported late: see screen.make_console
    from rich.markup import escape

    settings_of(data_dir)
    query = AuditQuery(since=since, account=account or "", operation=operation, result=result)
    damaged = 0
    rows = []
    for record in audit_lines(data_dir, query):
        if "damaged" in record:
            echo(f"warning: {record['damaged']} is not a record", err=True)
            damaged += 1
        elif as_json:
            echo(json_text(record))
        else:
            names = ("time", "principal", "source", "operation", "resource", "result")
            rows.append([escape(str(record.get(name, ""))) for name in names])
    if not as_json:
        columns = ("time", "who", "from", "operation", "resource", "result")
        Listing(columns, rows, [], empty="no changes yet").show(as_json=False)
    if damaged:
        raise CommandFailed(f"{damaged} lines of the audit log are damaged", "compare the files with a backup")
