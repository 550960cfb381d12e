"""Reading the store without a server: for commands that tell what it holds."""

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
    hint = f"start a server once with: imagesmith serve --data-dir {settings.data_dir}"
    if not settings.database_url and not (settings.data_dir / "imagesmith.sqlite").exists():
        raise CommandFailed(f"there is no database in {settings.data_dir}", hint)
    database = Database(settings.store_url)
    try:
        with database.read() as tx:
            yield tx
    except (StoreUnavailable, DBAPIError) as error:
        raise CommandFailed(f"the database cannot be read: {error}", hint) from error
    finally:
        database.close()
