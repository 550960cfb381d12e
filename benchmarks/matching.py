"""Matching 1,000 packages against 200,000 advisories; the goal is under 2 seconds.

    .venv/bin/python benchmarks/matching.py [--packages N] [--advisories N] [--runs N]

The names follow a Zipf-like distribution, as in Debian: some packages have thousands of advisories, most have few,
and most of what is installed is past the fix. The peer measured in the same run does less: it compares the same
versions as objects of univers, without remembering what was parsed, and makes no findings of them.
Every figure is processor time of this thread: other load on the machine is no property of ours.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from univers.versions import DebianVersion

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.advisories import Advisory, AdvisoryRecord, Affected
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.processes import Cancellation

SYSTEM = OsRelease(id="debian", version_id="12", name="Debian GNU/Linux")
NAMES = 5_000


def version(generator: random.Random, newest: int = 30) -> str:
    """A version like Debian's; most are older than one whose first number is `newest` or more."""
    upstream = ".".join(str(generator.randint(0, newest)) for _ in range(generator.randint(2, 4)))
    return f"{upstream}-{generator.randint(1, 9)}+deb12u{generator.randint(1, 9)}"


def feed(generator: random.Random, count: int) -> Iterator[AdvisoryRecord]:
    for number in range(count):
        name = f"package-{int(generator.paretovariate(0.3)) % NAMES}"
        events = (("introduced", "0"), ("fixed", version(generator)))
        affected = Affected("Debian:12", name, (events if generator.random() < 0.95 else events[:1],))
        name = f"CVE-2026-{number:06}"
        advisory = Advisory(name, "MEDIUM", "benchmark", description="x" * 200)
        yield AdvisoryRecord(name, number, advisory, (affected,))


def plain_way(database: AdvisoryDatabase, packages: tuple[Package, ...]) -> float:
    """Seconds of comparing without remembering anything."""
    started = time.thread_time()
    with database.reader() as reader:
        for package in packages:
            for _, affected in reader.affecting("Debian:12", package.source):
                for events in affected.ranges:
                    fixed = [value for kind, value in events if kind == "fixed"]
                    _ = not fixed or DebianVersion(package.version) < DebianVersion(fixed[0])
    return time.thread_time() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--packages", type=int, default=1000)
    options.add_argument("--advisories", type=int, default=200_000)
    options.add_argument("--runs", type=int, default=5)
    chosen = options.parse_args()
    generator = random.Random(7)
    # The name with the most advisories is among them.
    numbers = sorted([*generator.sample(range(2, NAMES), chosen.packages - 1), 1])
    packages = tuple(
        Package(f"package-{number}", f"27.{version(generator)}", "amd64", f"package-{number}") for number in numbers
    )
    with tempfile.TemporaryDirectory() as folder:
        database = AdvisoryDatabase(Path(folder))
        started = time.thread_time()
        database.replace("benchmark", feed(generator, chosen.advisories), datetime.now(UTC))
        imported = time.thread_time() - started
        scanner = EmbeddedScanner(database)
        target = ScanTarget(Inventory(SYSTEM, packages), Path(folder))
        times, found = [], 0
        for _ in range(chosen.runs):
            started = time.thread_time()
            found = len(scanner.scan(target, Cancellation()).findings)
            times.append(time.thread_time() - started)
        with database.reader() as reader:
            looked_at = sum(1 for item in packages for _ in reader.affecting("Debian:12", item.source))
        peer = plain_way(database, packages)
    median = statistics.median(times)
    print(f"machine: {platform.machine()}, Python {platform.python_version()}")
    print(f"import of {chosen.advisories:,} advisories: {imported:.2f} s")
    print(f"{len(packages):,} packages: {looked_at:,} advisories compared, {found:,} findings")
    print(f"matching: median {median:.3f} s, slowest {max(times):.3f} s of {chosen.runs} (goal: under 2 s)")
    print(
        f"comparing alone, by objects of univers, in the same run: {peer:.3f} s, {peer / median:.2f} times as long"
    )


if __name__ == "__main__":
    main()
