"""`imagesmith backup` and `imagesmith restore`: the whole data directory, and the database of several hosts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.table import Table

from imagesmith.artifacts.shared import SharedStore, SharedStoreError
from imagesmith.artifacts.shared_kinds import open_shared_store
from imagesmith.backups.checking import check_backup
from imagesmith.backups.listing import find_backup, list_backups, remove_old
from imagesmith.backups.manifest import BackupEntry, BackupError, BackupRecord
from imagesmith.backups.progress import BackupProgress, BackupSource
from imagesmith.backups.repository import BackupRepository, open_repository
from imagesmith.backups.restoring import RestoreTarget, restore_backup
from imagesmith.backups.taking import take_backup
from imagesmith.builds.stores import s3_config
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.screen import echo, make_console
from imagesmith.settings import Settings
from imagesmith.values.names import human_size

_THREADS: Final = 4
_RESTORE_HINT: Final = "see docs/operations.md, Backup and restore"


@click.command()
@click.argument("target")
@click.option("--keep", type=click.IntRange(1), help="Remove all but this number of backups afterwards.")
@click.option("--no-secrets", is_flag=True, help="Leave out secrets.key, the signing key and tls/.")
@data_dir_option
@json_option
def backup(target: str, keep: int | None, no_secrets: bool, data_dir: Path, as_json: bool) -> None:
    """Back up a data directory while its server runs.

    \b
    TARGET is a folder or s3://BUCKET[/PREFIX]; it holds any number of backups, and what they
    share once. With PostgreSQL it also dumps both schemas (pg_dump), with a shared
    store its objects. A backup contains secrets: keep it private.
    The exit status is 1 if a file is damaged, which the backup then lacks.
    Example:  imagesmith backup /backup --keep 30 --data-dir ./data
    """
    settings = settings_of(data_dir)
    if not settings.data_dir.is_dir():
        raise CommandFailed(f"there is no data directory {settings.data_dir}", "name one with --data-dir")
    source = BackupSource(
        data_dir=settings.data_dir, database_url=settings.database_url,
        shared=_shared(settings, settings.artifacts), secrets=not no_secrets,
        name=f"{socket.gethostname()}:{settings.data_dir.absolute()}",
    )  # fmt: skip
    progress = BackupProgress()
    _require_apart(settings, target)
    with _repository(settings, target, new=True) as repository, ThreadPoolExecutor(_THREADS) as pool:
        with _reporting(progress, hidden=as_json):
            record = take_backup(source, repository, pool, now=datetime.now(UTC), progress=progress)
        removed = remove_old(repository, keep, source.name) if keep else []
    _report(record, progress, removed, as_json=as_json)
    if record.damaged:
        raise CommandFailed(
            f"the backup {record.id} lacks {len(record.damaged)} damaged files: {', '.join(record.damaged[:3])}",
            "run: imagesmith verify --all --repair, then back up again",
        )


def _report(record: BackupRecord, progress: BackupProgress, removed: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({
            **asdict(record), "copiedFiles": progress.copied, "copiedSize": progress.copied_size,
            "removed": removed, "warnings": progress.warnings,
        })  # fmt: skip
        return
    for line in progress.warnings:
        echo(f"warning: {line}", err=True)
    echo(
        f"backup {record.id}: {record.files:,} files, {human_size(record.size)}; "
        f"new: {progress.copied:,} files, {human_size(progress.copied_size)}"
    )
    for name in removed:
        echo(f"removed {name}")


@click.command()
@click.argument("source")
@click.option("--backup", "wanted", default="", help="Its id, or the start of it.  [default: the newest]")
@click.option("--list", "listed", is_flag=True, help="Only list the backups.")
@click.option("--check", "checked", is_flag=True, help="Only read the backup, and compare all digests.")
@click.option(
    "--database-url",
    default="",
    envvar="IMAGESMITH_RESTORE_DATABASE_URL",
    show_envvar=True,
    help="An empty PostgreSQL database, for a backup of PostgreSQL.",
)
@click.option("--artifacts", default="", help="The shared store for its objects; those it has are kept.")
@click.option("--no-artifacts", is_flag=True, help="The shared store is intact: restore no object of it.")
@data_dir_option
@json_option
def restore(
    source: str, wanted: str, listed: bool, checked: bool, database_url: str, artifacts: str, no_artifacts: bool,
    data_dir: Path, as_json: bool,
) -> None:  # fmt: skip
    """Restore a backup into an empty data directory.

    \b
    SOURCE is what `imagesmith backup` wrote to. Each file is compared with its digest.
    A restore that was interrupted is completed by the same command; no server
    starts on a half restored folder.
    Example:  imagesmith restore /backup --data-dir /var/lib/imagesmith
              imagesmith restore /backup --list
    """
    settings = settings_of(data_dir)
    with _repository(settings, source) as repository:
        if listed:
            _show(list_backups(repository), as_json=as_json)
            return
        record = find_backup(repository, wanted)
        if checked:
            _check(repository, record, as_json=as_json)
            return
        target = RestoreTarget(
            data_dir=settings.data_dir, database_url=database_url, shared=_shared(settings, artifacts),
            without_shared=no_artifacts,
        )  # fmt: skip
        counted = _Counted()
        restore_backup(repository, record, target, report=counted.add)
    if as_json:
        print_json({**asdict(record), "dataDir": str(settings.data_dir), "restored": counted.files})
        return
    echo(f"restored {record.id} into {settings.data_dir}: {counted.files:,} files, {human_size(counted.size)}")
    if record.damaged:
        echo(f"warning: the backup lacks {', '.join(record.damaged)}, damaged when it was taken", err=True)
    if database_url:
        echo("name the new database in settings.toml (database_url) of every host before a server starts")


class _Counted:
    files = 0
    size = 0

    def add(self, entry: BackupEntry) -> None:
        self.files += 1
        self.size += entry.size


@contextmanager
def _repository(settings: Settings, url: str, *, new: bool = False) -> Iterator[BackupRepository]:
    try:
        with (
            ThreadPoolExecutor(_THREADS) as pool,
            open_repository(url, s3_config(settings).client, pool, new=new) as repository,
        ):
            yield repository
    except (BackupError, SharedStoreError) as error:
        raise CommandFailed(str(error), _RESTORE_HINT) from error


def _shared(settings: Settings, url: str) -> SharedStore | None:
    try:
        return open_shared_store(url, s3_config(settings).client) if url else None
    except SharedStoreError as error:
        raise CommandFailed(str(error)) from error


def _require_apart(settings: Settings, target: str) -> None:
    """Raise CommandFailed for a target that a backup would copy into itself."""
    if not target.startswith("s3://") and Path(target).resolve().is_relative_to(settings.data_dir.resolve()):
        raise CommandFailed(f"{target} is inside the data directory", "name a folder of another disk")


@contextmanager
def _reporting(progress: BackupProgress, *, hidden: bool) -> Iterator[None]:
    """One line that is drawn again on a terminal; nothing elsewhere."""
    console = make_console()
    if hidden or not console.is_terminal:
        yield
        return
    with console.status("copying the databases") as status:
        progress.report = lambda done: status.update(
            f"{done.files:,} files, {human_size(done.size)}; copied {human_size(done.copied_size)}"
        )
        yield


def _show(known: list[BackupRecord], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(record) for record in known])
        return
    table = Table("id", "taken", "version", "database", "files", "size", box=None, pad_edge=False)
    for record in known:
        table.add_row(
            record.id, record.created, record.version, record.database, f"{record.files:,}", human_size(record.size)
        )
    make_console().print(table)


def _check(repository: BackupRepository, record: BackupRecord, *, as_json: bool) -> None:
    faults = check_backup(repository, record)
    if as_json:
        print_json({"id": record.id, "files": record.files, "faults": faults})
    else:
        for fault in faults:
            echo(fault)
    if faults:
        raise CommandFailed(f"the backup {record.id} is not whole: {len(faults)} of its files cannot be restored")
    if not as_json:
        echo(f"the backup {record.id} is whole: {record.files:,} files, {human_size(record.size)}")
