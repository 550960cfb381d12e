"""Backups beside `cp` and `sync` of the same files, and a check beside `sha256sum` with two processes, in turn.

    .venv/bin/python benchmarks/backup.py [--rounds 5] [--blobs 400] [--megabytes 2]

backup   `imagesmith backup` of new blobs to a folder. Goal: at least 0.8 times the speed of `cp -r`
         (`cp` ends in the page cache, a backup on the disk: the second ratio is to `cp -r` and `sync`)
again    the same again, nothing new
check    `imagesmith restore --check` beside `sha256sum` of the backup's content by two processes
verify   `imagesmith verify --all` beside `sha256sum` of the blobs by two processes. Goal: at least 0.8 times
Prints ratios of the medians of the rounds; more than 1 is faster.
"""

from __future__ import annotations

import argparse
import hashlib
import json
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

from imagesmith.artifacts.layout import MANIFEST_TYPE
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade

PROGRAM = str(Path(sys.executable).with_name("imagesmith"))


def make_data(folder: Path, blobs: int, megabytes: int) -> None:
    """A data directory with real databases, and an image of blobs of random bytes."""
    import pysqlite3

    folder.mkdir(mode=0o700)
    with pysqlite3.connect(str(folder / "engine.sqlite")) as journal:
        journal.execute("CREATE TABLE dbos_migrations (version INTEGER)")
    journal.close()
    records = Database(f"sqlite:///{folder / 'imagesmith.sqlite'}")
    upgrade(records)
    records.close()
    kept = folder / "oci" / "blobs" / "sha256"
    kept.mkdir(parents=True)
    source = random.Random(1)
    for _ in range(blobs):
        put(kept, source.randbytes(megabytes * 1024 * 1024))
    # one image that needs all of them
    diff_ids = [f"sha256:{path.name}" for path in kept.iterdir()]
    config = put(kept, json.dumps({"rootfs": {"diff_ids": diff_ids}}).encode())
    layers = [{"digest": digest, "size": 0, "mediaType": "x"} for digest in diff_ids]
    manifest = put(kept, json.dumps({"config": {"digest": config, "size": 0}, "layers": layers}).encode())
    index = {"schemaVersion": 2, "manifests": [{"digest": manifest, "size": 0, "mediaType": MANIFEST_TYPE}]}
    (folder / "oci" / "index.json").write_text(json.dumps(index))


def put(folder: Path, data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes(data)
    return f"sha256:{name}"


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
                "verify --all": lambda: run(PROGRAM, "verify", "--all", "--data-dir", str(data)),
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
    print(f"speed of verify --all to sha256sum {median['sha256sum'] / median['verify --all']:.2f}  (goal 0.8)")
    print(f"again, nothing new, to the first   {median['again'] / median['backup']:.2f}")


if __name__ == "__main__":
    main()
