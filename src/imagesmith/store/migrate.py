"""Bring a database to the schema of this version; refuses one that a newer version wrote."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from imagesmith.store.database import Database, StoreUnavailable


def upgrade(database: Database) -> str:
    """Run the missing migrations and give the revision reached. Raises StoreUnavailable."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.write("schema") as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreUnavailable(f"the database was written by another version of imagesmith: {error}") from error
    return ScriptDirectory.from_config(config).get_current_head() or ""
