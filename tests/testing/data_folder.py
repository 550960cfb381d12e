"""A data directory as a server leaves it, without a server: databases, a layout, disks, logs, keys."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pysqlite3

from imagesmith.backups.manifest import BackupRecord
from imagesmith.backups.progress import BackupProgress
from imagesmith.backups.repository import BackupRepository
from imagesmith.store import migrate, queries
from imagesmith.store.database import Database
from imagesmith.store.records import Record

OpenRepository = Callable[..., AbstractContextManager[BackupRepository]]
Take = Callable[..., tuple[BackupRecord, BackupProgress]]
ACCOUNT, REGION = "123456789012", "eu-west-1"


def record(name: str) -> Record:
    arn = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image-pipeline/{name}"
    return Record(
        arn=arn, account=ACCOUNT, region=REGION, kind="image-pipeline", slug=name, name=name,
        created=datetime(2026, 11, 23, 12, tzinfo=UTC), document={"arn": arn, "name": name},
    )  # fmt: skip


def add_record(url: str, name: str) -> None:
    database = Database(url)
    migrate.upgrade(database)
    with database.write("s") as tx:
        queries.insert(tx, record(name))
    database.close()


def has_record(url: str, name: str) -> bool:
    database = Database(url)
    with database.read() as tx:
        found = queries.get(tx, record(name).arn)
    database.close()
    return found is not None


def put_blob(folder: Path, data: bytes) -> Path:
    """A file that is named by the digest of its bytes."""
    path = folder / hashlib.sha256(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def make_data_folder(folder: Path, *, database_url: str = "") -> Path:
    """A data directory with one record, one blob of 3 MiB, one disk and one log that has two names."""
    folder.mkdir(mode=0o700)
    if not database_url:
        with pysqlite3.connect(str(folder / "engine.sqlite")) as journal:
            journal.execute("CREATE TABLE dbos_migrations (version INTEGER)")
        journal.close()
    add_record(database_url or f"sqlite:///{folder / 'imagesmith.sqlite'}", "kept")
    put_blob(folder / "oci" / "blobs" / "sha256", b"layer" * 700_000)
    put_blob(folder / "disks" / "sha256", b"disk" * 1000)
    files = {
        "oci/index.json": "{}", "logs/web.log": "begun\n", "secrets.key": "secret", "settings.toml": "",
        "signing/ed25519.pem": "private", "signing/ed25519.pub": "public", "containers/cache": "no",
        "machines/run": "no", "server.json": "{}", "oci/tmp/half": "no", "disks/drafts/half": "no",
    }  # fmt: skip
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text)
        path.chmod(0o600)
    (folder / "log-groups").mkdir()
    os.link(folder / "logs" / "web.log", folder / "log-groups" / "web.log")
    return folder


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file, databases aside."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".sqlite" not in path.name
    }
