"""Migrates a database to the schema of this version; refuses the schema of a newer version."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.outage import StoreNewer

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(database: Database) -> str:
    """Run the missing migrations; returns the new revision. Raises StoreUnavailable, StoreNewer."""
    newest = _newest()
    with database.write("schema") as connection:
        found = _revision(connection)
        _refuse_newer(database, found)
        if found != newest:
            _migrate(connection)
    return newest


def require_known(database: Database) -> None:
    """Raise StoreNewer for an unknown schema, StoreUnavailable for an older one."""
    with database.read() as connection:
        found = _revision(connection)
    _refuse_newer(database, found)
    if found != _newest():
        raise StoreUnavailable(
            f"{label_of(database)} has the schema of an older version ({found or 'none'}); "
            "the next start of a server upgrades it"
        )


def outdated(database: Database) -> str:
    """The schema that upgrade() would migrate; empty for a new database and for the newest schema."""
    with database.read() as connection:
        found = _revision(connection)
    _refuse_newer(database, found)
    return found if found != _newest() else ""


def is_new(database: Database) -> bool:
    """Whether the database is still empty."""
    with database.read() as connection:
        return not _revision(connection)


def label_of(database: Database) -> str:
    """The path of the file, or the address without its password."""
    url = database.engine.url
    return str(url.database) if database.is_sqlite else url.render_as_string(hide_password=True)


def _newest() -> str:
    return max(path.name.partition("_")[0] for path in (_FOLDER / "versions").glob("[0-9]*.py"))


def _refuse_newer(database: Database, found: str) -> None:
    if found > _newest():
        raise StoreNewer(
            f"{label_of(database)} was written by a newer version of imagesmith "
            f"(schema {found}; this version knows {_newest()}): "
            "install that version, or restore the backup from before the upgrade"
        )


def _revision(connection: sa.Connection) -> str:
    """The revision of the database; empty for a new one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")))


def _migrate(connection: sa.Connection) -> None:
    # imported late: most starts have nothing to migrate, and the import takes a tenth of a start
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnavailable(f"the database was written by another version of imagesmith: {error}") from error
