"""Commit and export of a container's changes, ours and buildah's in turn: 20,000 small files, one file of 500 MB.

    .venv/bin/python benchmarks/layers.py [--rounds 5] [--files 20000] [--megabytes 500]

ours     commit of a container of the storage and export of the image to a layout, as a reproducible build does
buildah  `buildah commit` and `skopeo copy` of the image to a layout. Goal: ours takes at most 0.2 of its time.
         Both write the same files over the same empty base, in storages of their own, before the clock starts.
Prints the median of the rounds; processor time is that of this process and of everything it started, and says more
on a busy machine.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import SCRATCH, ContainerStorage
from imagesmith.layers.layer_rules import LayerRules

GOAL = 0.2
MOMENT = 1_700_000_000


@dataclass(frozen=True)
class Cost:
    wall: float
    processor: float


def measured(work: Callable[[], object]) -> Cost:
    started, before = time.perf_counter(), _processor()
    work()
    return Cost(time.perf_counter() - started, _processor() - before)


def _processor() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


class Buildah:
    """A storage of its own, thrown away at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        configuration = folder / "storage.conf"
        configuration.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/runroot"\n'
        )
        self.environment = {
            **processes.host_environment(), "HOME": str(folder), "CONTAINERS_STORAGE_CONF": str(configuration),
        }  # fmt: skip

    def run(self, *argv: str) -> str:
        done = subprocess.run(argv, env=self.environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def small_files(root: Path, count: int) -> None:
    """Half of each file is random, half text."""
    source = random.Random(1)
    for number in range(count):
        folder = root / f"folder-{number // 200}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}").write_bytes(source.randbytes(2000) + b"a line of a text file\n" * 95)


def large_file(root: Path, megabytes: int) -> None:
    source = random.Random(1)
    with (root / "large").open("wb") as file:
        for _ in range(megabytes * 2):
            file.write(source.randbytes(256 * 1024) + b"0123456789abcdef" * (16 * 1024))


def ours(work: Path, fill: Callable[[Path], None]) -> Cost:
    storage = ContainerStorage.open(work / "store")
    storage.create("bench", SCRATCH)
    fill(storage.mount("bench"))
    layout = OciLayout(work / "layout")

    def commit() -> None:
        image = storage.commit("bench", rules=LayerRules(MOMENT, drops=True))
        layout.export_image(storage, image, "bench")

    try:
        return measured(commit)
    finally:
        storage.remove("bench")


def theirs(work: Path, fill: Callable[[Path], None]) -> Cost:
    tool = Buildah(work)
    tool.run("buildah", "from", "--name", "bench", "scratch")
    fill(Path(tool.run("buildah", "mount", "bench")))

    def commit() -> None:
        image = tool.run("buildah", "commit", "--quiet", f"--timestamp={MOMENT}", "bench")
        tool.run("skopeo", "copy", "--quiet", f"containers-storage:@{image}", f"oci:{work / 'layout'}")

    try:
        return measured(commit)
    finally:
        tool.run("buildah", "rm", "bench")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--megabytes", type=int, default=500)
    options = parser.parse_args()
    failed = False
    cases: dict[str, Callable[[Path], None]] = {
        f"{options.files:,} small files": lambda root: small_files(root, options.files),
        f"one file of {options.megabytes} MB": lambda root: large_file(root, options.megabytes),
    }
    for name, fill in cases.items():
        costs: dict[str, list[Cost]] = {"ours": [], "buildah": []}
        for _ in range(options.rounds):
            for who, run in (("ours", ours), ("buildah", theirs)):
                folder = Path(tempfile.mkdtemp(prefix="imagesmith-layers-"))
                try:
                    costs[who].append(run(folder, fill))
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        wall = {who: statistics.median(cost.wall for cost in found) for who, found in costs.items()}
        processor = {who: statistics.median(cost.processor for cost in found) for who, found in costs.items()}
        ratio = wall["ours"] / wall["buildah"]
        print(
            f"{name}: {wall['ours']:.2f} s, buildah and copy {wall['buildah']:.2f} s: {ratio:.3f} times "
            f"(goal {GOAL}); processor {processor['ours']:.2f} and {processor['buildah']:.2f} s: "
            f"{processor['ours'] / processor['buildah']:.3f} times",
            flush=True,
        )
        failed |= ratio > GOAL
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
