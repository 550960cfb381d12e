"""Accounts and keys for commands: open the store, change it, and wait until running servers have seen that."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click

from imagesmith.accounts.key_file import ACCOUNT, USER
from imagesmith.accounts.key_follower import SOON_SECONDS, open_box
from imagesmith.accounts.key_store import KeyRefused, KeyStore
from imagesmith.accounts.keys import KeysError
from imagesmith.accounts.operator_key import refresh_operator_key
from imagesmith.accounts.secret_box import SecretsError
from imagesmith.cli.audited import audited
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.screen import echo
from imagesmith.cli.store import opened_database
from imagesmith.locks import is_locked
from imagesmith.policies.access import LONGEST_POLICY, parse_access_policy
from imagesmith.policies.document import PolicyRefused
from imagesmith.settings import Settings


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def opened_keys(settings: Settings, *, changes: bool) -> Iterator[KeyStore]:
    """The accounts and keys. After a change, servers have seen it when this returns. Raises CommandFailed."""
    with opened_database(settings, "changed" if changes else "read") as database:
        try:
            box = open_box(settings, database)
            keys = KeyStore(database, box, partition=settings.partition, clock=now)
            with audited(settings, lambda: keys.created) if changes else nullcontext():
                yield keys
            if changes:
                refresh_operator_key(settings, box, keys.load(), now())
        except KeyRefused as error:
            raise CommandFailed(str(error), error.hint) from error
        except (SecretsError, KeysError) as error:
            raise CommandFailed(str(error)) from error
    if changes and (settings.database_url or is_locked(settings.data_dir / "server.lock")):
        # servers look several times a second; what follows this command may rely on the change
        time.sleep(SOON_SECONDS)


def account_id(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is not None and not ACCOUNT.fullmatch(text):
        raise click.BadParameter(f"'{text}' is not an account; write 12 digits")
    return text


def user_name(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if text and not USER.fullmatch(text):
        raise click.BadParameter(f"'{text}' is not a user name; write 1 to 64 letters, digits or any of +=,.@_-")
    return text


def policy_text(file: str | None) -> str:
    """The policy of a file or, with `-`, of standard input. Raises CommandFailed."""
    if file is None:
        return ""
    try:
        text = sys.stdin.read(LONGEST_POLICY + 1) if file == "-" else Path(file).read_text(encoding="utf-8")
        parse_access_policy(text or "{")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"the policy {file} cannot be read: {error}") from error
    except PolicyRefused as error:
        raise CommandFailed(
            f"the policy {file} cannot be used: {error}",
            'write {"allow": ["imagebuilder:Get*"]}, or Version and Statement as in IAM; see docs/security.md',
        ) from error
    return text


def tell_pair(access_key_id: str, secret: str) -> None:
    """Print a new pair for people; the secret is shown this once."""
    echo(f"accessKeyId      {access_key_id}")
    echo(f"secretAccessKey  {secret}")
    echo("keep the secret now: it is shown this once", err=True)
