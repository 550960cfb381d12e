"""Bring a database to the schema of this version; refuses one that a newer version wrote."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from imagesmith.store.database import Database, StoreUnavailable

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(database: Database) -> str:
    """Run the missing migrations and give the revision reached. Raises StoreUnavailable."""
    newest = max(path.name.partition("_")[0] for path in (_FOLDER / "versions").glob("[0-9]*.py"))
    with database.write("schema") as connection:
        if _revision(connection) != newest:
            _migrate(connection)
    return newest


def _revision(connection: sa.Connection) -> str:
    """What the database has; empty when it is new."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.scalar(sa.text("SELECT version_num FROM alembic_version")))


def _migrate(connection: sa.Connection) -> None:
    # imported late: most starts have nothing to migrate, and would spend a tenth of their time on it
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
