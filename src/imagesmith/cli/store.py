"""Using the store without a server: commands that tell what it holds, or set what the API has no operation for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from imagesmith.cli.context import CommandFailed
from imagesmith.settings import Settings
from imagesmith.store.database import Database, StoreUnavailable


@contextmanager
def opened_store(settings: Settings) -> Iterator[Connection]:
    """A transaction that only reads. Raises CommandFailed when there is no store, or one of another version."""
    with _database(settings, "read") as database, database.read() as tx:
        yield tx


@contextmanager
def changed_store(settings: Settings) -> Iterator[Connection]:
    """A unit of work in the account and region of the settings. Raises CommandFailed as opened_store()."""
    scope = f"{settings.account}/{settings.region}"
    with _database(settings, "changed") as database, database.write(scope) as tx:
        yield tx


@contextmanager
def _database(settings: Settings, how: str) -> Iterator[Database]:
    hint = f"start a server once with: imagesmith serve --data-dir {settings.data_dir}"
    if not settings.database_url and not (settings.data_dir / "imagesmith.sqlite").exists():
        raise CommandFailed(f"there is no database in {settings.data_dir}", hint)
    database = Database(settings.store_url)
    try:
        yield database
    except (StoreUnavailable, DBAPIError) as error:
        raise CommandFailed(f"the database cannot be {how}: {error}", hint) from error
    finally:
        database.close()
