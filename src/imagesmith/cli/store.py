"""Access to the store without a server, for commands that show its contents or change what the API cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from imagesmith.cli.audited import audited
from imagesmith.cli.context import CommandFailed
from imagesmith.settings import Settings
from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.files import is_empty, require_whole
from imagesmith.store.migrate import require_known
from imagesmith.store.outage import StoreDamaged, StoreNewer
from imagesmith.values.damaged import RESTORE


def has_store(settings: Settings) -> bool:
    """Whether there is a database with anything in it: opening an absent one would make a file."""
    file = _file(settings)
    return bool(settings.database_url) or (file.exists() and not is_empty(file))


def _file(settings: Settings) -> Path:
    return settings.data_dir / "imagesmith.sqlite"


@contextmanager
def opened_store(settings: Settings) -> Iterator[Connection]:
    """A read-only transaction. Raises CommandFailed for an absent store, or one of another version."""
    with opened_database(settings, "read") as database, database.read() as tx:
        yield tx


@contextmanager
def changed_store(settings: Settings) -> Iterator[Connection]:
    """A unit of work in the account and region of the settings. Raises CommandFailed as opened_store()."""
    scope = f"{settings.account}/{settings.region}"
    with opened_database(settings, "changed") as database, audited(settings), database.write(scope) as tx:
        yield tx


@contextmanager
def opened_database(settings: Settings, how: str) -> Iterator[Database]:
    """The database itself; `how`: what the caller does, for the message. Raises CommandFailed as opened_store()."""
    hint = f"start a server once with: imagesmith serve --data-dir {settings.data_dir}"
    file = _file(settings)
    if not settings.database_url:
        if not file.exists():
            named = f"name the folder of a server with --data-dir; or {hint}"
            raise CommandFailed(f"there is no database in {settings.data_dir}", named)
        require_whole(file)
        if is_empty(file):
            raise CommandFailed(f"{file} is empty", f"{RESTORE}; or {hint}")
    database = Database(settings.store_url)
    try:
        require_known(database)
        yield database
    except (StoreDamaged, StoreNewer) as error:
        raise CommandFailed(str(error)) from error
    except (StoreUnavailable, DBAPIError) as error:
        raise CommandFailed(f"the database cannot be {how}: {error}", hint) from error
    finally:
        database.close()
