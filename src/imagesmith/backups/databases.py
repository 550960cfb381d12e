"""Copies of the databases that are consistent while a server writes, and their way back.

SQLite: `VACUUM INTO`, one read transaction; the journal before the records, so that a step that the records hold as
ended is not run again. PostgreSQL: one `pg_dump` of both schemas, one snapshot.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesmith import processes
from imagesmith.backups.manifest import BackupError
from imagesmith.processes import ProcessFailed

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection

SQLITE_FILES: Final = ("engine.sqlite", "imagesmith.sqlite")
"""In the order of their copies."""
JOURNAL_SCHEMA: Final = "imagesmith_engine"
_LIST_BYTES: Final = 16 * 1024 * 1024
_SECONDS: Final = 6 * 3600.0
_BINARIES: Final = Path("/usr/lib/postgresql")
_TABLE: Final = "alembic_version"


def copy_sqlite(file: Path, target: Path) -> None:
    """Write a consistent copy of a database in use to a new file. Raises BackupError."""
    import pysqlite3

    try:
        with contextlib.closing(pysqlite3.connect(str(file), timeout=60, isolation_level=None)) as opened:
            opened.execute("VACUUM INTO ?", (str(target),))
            found = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
    except pysqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise BackupError(f"{file} cannot be copied: {error}") from error
    if found != "ok":
        raise BackupError(f"{file} is damaged ({found}), so its copy would be too: restore an earlier backup")


def dump_postgresql(url: str, target: Path) -> None:
    """Write both schemas to a new file, in the format of `pg_restore`. Raises BackupError."""
    with _connected(url) as connection:
        schema = _default_schema(connection)
    _run(
        "pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--schema={schema}",
        f"--schema={JOURNAL_SCHEMA}", f"--file={target}",
    )  # fmt: skip


def require_empty_postgresql(url: str) -> None:
    """Raise BackupError for a database that holds tables of this project."""
    with _connected(url) as connection:
        from sqlalchemy import inspect

        inspector = inspect(connection)
        if inspector.has_table(_TABLE) or JOURNAL_SCHEMA in inspector.get_schema_names():
            name = connection.engine.url.render_as_string(hide_password=True)
            raise BackupError(
                f"the database {name} is not empty: create an empty one, and name it with --database-url"
            )


def restore_postgresql(url: str, dump: Path) -> None:
    """Fill an empty database, completely or not at all. Raises BackupError."""
    require_empty_postgresql(url)
    with _connected(url) as connection:
        schema = _default_schema(connection)
    listed = _run("pg_restore", url, "--list", str(dump)).splitlines()
    # every database has its default schema already
    kept = [line for line in listed if f" SCHEMA - {schema} " not in line and f" - SCHEMA {schema} " not in line]
    contents = dump.with_name(f"{dump.name}.list")
    try:
        contents.write_text("\n".join(kept) + "\n")
        _run(
            "pg_restore", url, "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error",
            f"--use-list={contents}", f"--dbname={_parsed(url).database}", str(dump),
        )  # fmt: skip
    finally:
        contents.unlink(missing_ok=True)


@contextlib.contextmanager
def _connected(url: str) -> Iterator[Connection]:
    # imported late: a backup of SQLite does not need it
    from sqlalchemy.exc import SQLAlchemyError

    from imagesmith.store.database import make_engine

    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise BackupError(f"the database does not answer: {error}") from error
    finally:
        engine.dispose()


def _default_schema(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT current_schema()").scalar())


def _parsed(url: str) -> URL:
    from sqlalchemy import make_url

    return make_url(url)


def _run(tool: str, url: str, *arguments: str) -> str:
    """What a client program of PostgreSQL prints; the password is in its environment, which only its user reads."""
    parsed = _parsed(url)
    environment = {
        "PGHOST": parsed.host or "", "PGPORT": str(parsed.port or ""), "PGUSER": parsed.username or "",
        "PGPASSWORD": str(parsed.password or ""), "PGDATABASE": parsed.database or "",
        **{f"PG{name.upper()}": str(value) for name, value in parsed.query.items() if name.startswith("ssl")},
    }  # fmt: skip
    given = processes.host_environment({name: value for name, value in environment.items() if value})
    try:
        done = processes.check([_find(tool), *arguments], env=given, timeout=_SECONDS, limit=_LIST_BYTES)
    except ProcessFailed as error:
        raise BackupError(f"{tool} failed: {error.completed.tail()}") from error
    return done.stdout.decode(errors="replace")


def _find(tool: str) -> str:
    """The newest of Debian's versions, which reads older servers; else that of the PATH. Raises BackupError."""
    versions = [path for path in _BINARIES.glob(f"*/bin/{tool}") if path.parts[-3].isdigit()]
    if versions:
        return str(max(versions, key=lambda path: int(path.parts[-3])))
    for folder in os.get_exec_path():
        if os.access(Path(folder) / tool, os.X_OK):
            return tool
    raise BackupError(f"{tool} is missing: install the package postgresql-client, of the server's version or newer")
