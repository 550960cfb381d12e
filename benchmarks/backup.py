"""Backups beside `cp` and `sync` of the same files, and a check beside `sha256sum` with two processes, in turn.

    .venv/bin/python benchmarks/backup.py [--rounds 5] [--blobs 400] [--megabytes 2]

backup   `imagesmith backup` of new blobs to a folder. Goal: at least 0.8 times the speed of `cp -r`
         (`cp` ends in the page cache, a backup on the disk: the second ratio is to `cp -r` and `sync`)
again    the same again, nothing new
check    `imagesmith restore --check` beside `sha256sum` of the backup's content by two processes
Prints ratios of the medians of the rounds; more than 1 is faster.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("imagesmith"))


def make_data(folder: Path, blobs: int, megabytes: int) -> None:
    """A data directory with real databases, made by a first start, and blobs of random bytes."""
    import pysqlite3

    folder.mkdir(mode=0o700)
    for name, table in (("engine.sqlite", "dbos_migrations"), ("imagesmith.sqlite", "alembic_version")):
        with pysqlite3.connect(str(folder / name)) as database:
            database.execute(f"CREATE TABLE {table} (version_num TEXT)")
        database.close()
    kept = folder / "oci" / "blobs" / "sha256"
    kept.mkdir(parents=True)
    source = random.Random(1)
    for _ in range(blobs):
        data = source.randbytes(megabytes * 1024 * 1024)
        (kept / hashlib.sha256(data).hexdigest()).write_bytes(data)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def hash_files(folder: Path) -> None:
    listed = "\0".join(str(path) for path in folder.iterdir()).encode()
    subprocess.run(
        ["xargs", "-0", "-P", "2", "-n", "50", "sha256sum"], input=listed, check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blobs", type=int, default=400)
    parser.add_argument("--megabytes", type=int, default=2)
    options = parser.parse_args()
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, blobs = folder / "data", folder / "data" / "oci" / "blobs" / "sha256"
        make_data(data, options.blobs, options.megabytes)
        backup = (PROGRAM, "backup", str(folder / "backup"), "--data-dir", str(data))
        for _ in range(options.rounds):
            shutil.rmtree(folder / "backup", ignore_errors=True)
            shutil.rmtree(folder / "copy", ignore_errors=True)
            os.sync()
            rows = {
                "cp": lambda: run("cp", "-r", str(data), str(folder / "copy")),
                "sync after cp": os.sync,
                "backup": lambda: run(*backup),
                "again": lambda: run(*backup),
                "check": lambda: run(PROGRAM, "restore", str(folder / "backup"), "--check"),
                "sha256sum": lambda: hash_files(blobs),
            }  # fmt: skip
            for row, work in rows.items():
                times.setdefault(row, []).append(timed(work))
    median = {row: statistics.median(found) for row, found in times.items()}
    total = options.blobs * options.megabytes
    print(f"{options.blobs} blobs of {options.megabytes} MiB, {total} MiB; medians of {options.rounds}")
    for row, seconds in median.items():
        print(f"  {row:<14} {seconds:7.2f} s")
    print(f"speed of a backup to cp            {median['cp'] / median['backup']:.2f}  (goal 0.8)")
    durable = median["cp"] + median["sync after cp"]
    print(f"speed of a backup to cp and sync   {durable / median['backup']:.2f}")
    print(f"speed of a check to sha256sum      {median['sha256sum'] / median['check']:.2f}")
    print(f"again, nothing new, to the first   {median['again'] / median['backup']:.2f}")


if __name__ == "__main__":
    main()
