"""`imagesmith key`: access keys, changed while servers run."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import click

from imagesmith.accounts.key_store import CreatedKey
from imagesmith.accounts.keys import principal_arn
from imagesmith.cli.context import data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.key_access import account_id, now, opened_keys, policy_text, tell_pair, user_name
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.store.access_keys import KeyState, StoredKey
from imagesmith.values.names import iso_instant

_LONGEST_DAYS = 36_500
_LONGEST_HOURS = 24 * 365


@click.group()
def key() -> None:
    """Access keys: create, rotate, revoke, restrict; a running server needs no restart."""


@key.command("create")
@click.option("--account", callback=account_id, help="The account.  [default: that of the settings]")
@click.option("--user", default="", callback=user_name, help="The user of the account.  [default: its root]")
@click.option("--policy", metavar="FILE", help="What it may do, see docs/security.md; - reads standard input.")
@click.option("--days", type=click.IntRange(1, _LONGEST_DAYS), help="How long it is valid.  [default: for ever]")
@data_dir_option
@json_option
def create(
    account: str | None, *, user: str, policy: str | None, days: int | None, data_dir: Path, as_json: bool
) -> None:
    """Create a key, and print its secret this once.

    \b
    Examples:
      imagesmith key create --account 210987654321 --user ci --policy ci.json --data-dir ./data
      imagesmith key create --user auditor --days 30 --json --data-dir ./data
    """
    settings = settings_of(data_dir)
    text = policy_text(policy)
    ends = now() + timedelta(days=days) if days else None
    with opened_keys(settings, changes=True) as keys:
        made = keys.create(account or settings.account, user=user, policy=text, expires=ends)
    _tell(made, as_json=as_json)


@key.command("rotate")
@click.argument("key_id")
@click.option(
    "--grace-hours",
    type=click.IntRange(0, _LONGEST_HOURS),
    default=24,
    show_default=True,
    help="How long the old key stays valid; 0 ends it now.",
)
@data_dir_option
@json_option
def rotate(key_id: str, *, grace_hours: int, data_dir: Path, as_json: bool) -> None:
    """Replace the key KEY_ID: same account, user and policy. Both are valid until the grace ends.

    \b
    Example:  imagesmith key rotate AKIAIOSFODNN7EXAMPLE --grace-hours 48 --data-dir ./data
    """
    with opened_keys(settings_of(data_dir), changes=True) as keys:
        made = keys.rotate(key_id, grace=timedelta(hours=grace_hours))
    _tell(made, as_json=as_json)


@key.command("revoke")
@click.argument("key_id")
@click.option("--force", is_flag=True, help="Also the last key that may do everything in its account.")
@data_dir_option
def revoke(key_id: str, *, force: bool, data_dir: Path) -> None:
    """End the key KEY_ID at once.

    Requests that no server executes yet are refused.

    \b
    Example:  imagesmith key revoke AKIAIOSFODNN7EXAMPLE --data-dir ./data
    """
    with opened_keys(settings_of(data_dir), changes=True) as keys:
        keys.revoke(key_id, force=force)
    echo(f"{key_id} is revoked")


@key.command("policy")
@click.argument("key_id")
@click.option("--set", "file", metavar="FILE", help="The new policy; - reads standard input.")
@click.option("--remove", is_flag=True, help="Let the key do everything in its account.")
@click.option("--force", is_flag=True, help="Also restrict the last key that may do everything in its account.")
@data_dir_option
def policy(key_id: str, *, file: str | None, remove: bool, force: bool, data_dir: Path) -> None:
    """Show, set or remove the policy of the key KEY_ID.

    \b
    Examples:
      imagesmith key policy AKIAIOSFODNN7EXAMPLE --data-dir ./data
      imagesmith key policy AKIAIOSFODNN7EXAMPLE --set readers.json --data-dir ./data
    """
    if file is not None and remove:
        raise click.UsageError("Use either --set or --remove.")
    settings = settings_of(data_dir)
    if file is None and not remove:
        with opened_keys(settings, changes=False) as keys:
            echo(keys.key(key_id).policy or "(none: the key may do everything in its account)")
        return
    text = policy_text(file)
    with opened_keys(settings, changes=True) as keys:
        keys.set_policy(key_id, text, force=force)
    echo(f"{key_id} has a new policy" if text else f"{key_id} may do everything in its account")


@key.command("list")
@click.option("--account", callback=account_id, help="Only those of this account.")
@data_dir_option
@json_option
def list_keys(account: str | None, data_dir: Path, as_json: bool) -> None:
    """List the keys, revoked ones included; no secret is shown.

    \b
    Example:  imagesmith key list --data-dir ./data --json
    """
    settings = settings_of(data_dir)
    with opened_keys(settings, changes=False) as keys:
        found = keys.all_keys(account or "")
    moment = now()
    documents = [_document(item, moment, settings.partition) for item in found]
    columns = ("accessKeyId", "account", "user", "state", "policy", "created", "ends")
    rows = [
        [
            item.id, item.account, item.user or "(root)", _state(item, moment), "yes" if item.policy else "no",
            iso_instant(item.created), _shown(item.end),
        ]
        for item in found
    ]  # fmt: skip
    Listing(columns, rows, documents, empty="no keys yet").show(as_json=as_json)


def _tell(made: CreatedKey, *, as_json: bool) -> None:
    key = made.key
    if as_json:
        values = {"accessKeyId": key.id, "secretAccessKey": made.secret, "account": key.account, "user": key.user}
        print_json({**values, **({"ends": _shown(key.expires)} if key.expires else {})})
    else:
        tell_pair(key.id, made.secret)


def _document(key: StoredKey, moment: datetime, partition: str) -> dict[str, str | bool]:
    return {
        "accessKeyId": key.id, "account": key.account, "user": key.user,
        "principal": principal_arn(key.account, key.user, partition=partition), "state": _state(key, moment),
        "hasPolicy": bool(key.policy), "replacedBy": key.replaced_by, "created": iso_instant(key.created),
        "ends": _shown(key.end),
    }  # fmt: skip


def _state(key: StoredKey, moment: datetime) -> str:
    if key.state is KeyState.REVOKED:
        return "revoked"
    if not key.is_usable(moment):
        return "expired"
    return "rotated" if key.replaced_by else "active"


def _shown(moment: datetime | None) -> str:
    return "" if moment is None else iso_instant(moment)
