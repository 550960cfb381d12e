"""A copy of the databases before a migration, so that the older version can be installed again.

before-upgrade/<time>-<schema>/    engine.sqlite and imagesmith.sqlite, or postgresql.dump: whole or absent
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Final

from imagesmith.backups import databases
from imagesmith.draft_folders import fresh_draft_folder
from imagesmith.files import move_many

FOLDER: Final = "before-upgrade"
_KEPT: Final = 3


def copy_before_upgrade(data_dir: Path, database_url: str, schema: str, *, now: datetime) -> Path:
    """Copy the databases of an older `schema`; returns the folder of the copies. The newest three are kept.

    `database_url`: of PostgreSQL; empty: SQLite in the data directory. Raises BackupError, OSError.
    """
    work = data_dir / "backup-drafts"
    (data_dir / FOLDER).mkdir(mode=0o700, exist_ok=True)
    target = data_dir / FOLDER / f"{now:%Y%m%dT%H%M%SZ}-{schema}"
    with fresh_draft_folder(work, lock=work / "lock") as draft:
        copies = draft / target.name
        copies.mkdir(mode=0o700)
        if database_url:
            databases.dump_postgresql(database_url, copies / "postgresql.dump")
        else:
            for name in databases.SQLITE_FILES:
                if (data_dir / name).exists():
                    databases.copy_sqlite(data_dir / name, copies / name)
        for copy in copies.iterdir():
            copy.chmod(0o600)
        move_many([copies], target.parent)
    for old in sorted((data_dir / FOLDER).iterdir())[:-_KEPT]:
        shutil.rmtree(old)
    return target
