"""`imagesmith verify`: checks everything that a data directory keeps; repairs what can be made again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import click

from imagesmith.artifacts.removals import keeping_all
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.builds.store_check import StoreCheck, StoreReport
from imagesmith.builds.stores import open_disks, open_exchange, open_layout
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.screen import echo
from imagesmith.cli.store import opened_database
from imagesmith.inspection.signing import PublicKey, SigningError, public_key_path
from imagesmith.settings import Settings
from imagesmith.values.names import human_size

_THREADS = 2


@click.command()
@click.option("--all", "whole", is_flag=True, help="Read every byte and check every signature.")
@click.option("--repair", is_flag=True, help="Fetch or export again what is missing or damaged.")
@data_dir_option
@json_option
def verify(whole: bool, repair: bool, data_dir: Path, as_json: bool) -> None:
    """Check the database, images, disks and signatures of a data directory.

    \b
    Works while a server runs. Without --all it only looks whether everything is there.
    --repair takes blobs from the container storage or the shared store; what nothing has
    must come from a backup, or be built again. The exit status is 1 while a fault is left.
    Example:  imagesmith verify --all --repair --data-dir ./data
    """
    settings = settings_of(data_dir)
    report = StoreReport()
    try:
        with (
            opened_database(settings, "checked") as database,
            ThreadPoolExecutor(_THREADS) as pool,
            # what a lifecycle policy removes meanwhile would be missing
            keeping_all(settings.data_dir),
        ):
            exchange = open_exchange(settings)
            StoreCheck(
                layout=open_layout(settings, exchange), disks=open_disks(settings, exchange), database=database,
                keys=_keys(settings), pool=pool, whole=whole, exchange=exchange,
                journal=None if settings.database_url else settings.data_dir / "engine.sqlite",
                storage=ContainerStorage.for_data_dir(settings.data_dir) if repair else None,
            ).run(report)  # fmt: skip
    except (SharedStoreError, SigningError) as error:
        raise CommandFailed(str(error)) from error
    _show(report, as_json=as_json)
    left = sum(not fault.repaired for fault in report.faults)
    if left:
        hint = (
            "restore it from a backup, or build the image again"
            if repair
            else "try: imagesmith verify --all --repair"
        )
        raise CommandFailed(f"{left} faults in {settings.data_dir}", hint)


def _keys(settings: Settings) -> tuple[PublicKey, ...]:
    path = public_key_path(settings.data_dir)
    return (PublicKey.read(path),) if path.exists() else ()


def _show(report: StoreReport, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
        return
    for fault in report.faults:
        needed = f"; needed by {', '.join(fault.needed_by[:3])}" if fault.needed_by else ""
        echo(f"{'repaired' if fault.repaired else 'fault'}: {fault.subject}: {fault.problem}{needed}")
    echo(
        f"{report.blobs:,} blobs, {report.disks:,} disks, {human_size(report.size)}; {report.images:,} images; "
        f"nothing needs {report.orphans:,} of them, {human_size(report.orphan_size)}"
    )
