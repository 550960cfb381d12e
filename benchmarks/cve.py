"""The question about a vulnerability over 10,000 images of 300 packages, and 200 new records against all of them.

    .venv/bin/python benchmarks/cve.py [--images N] [--packages N] [--advisories N] [--sample N] [--trivy FILE]

The images are builds of a hundred recipes over a hundred weeks on shared versions, as a factory has them. Goals:
the command answers in less than a second, with all of Python's start; new records are matched at least 20 times
faster than by scanning every image again, which is measured for a sample of the images in the same run.

With `--trivy`, Trivy's program scans the packages of one image, as an SBOM, with a database of the same advisories;
a scan of ours has to be at least 3 times faster, with the start of Python added to it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.scanning.advisories import Advisory, AdvisoryRecord, Affected
from imagesmith.inspection.scanning.database import AdvisoryDatabase
from imagesmith.inspection.scanning.embedded import EmbeddedScanner
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.processes import Cancellation
from imagesmith.store import ancestry, inventories, queries
from imagesmith.store.ancestry import Lineage
from imagesmith.store.database import Database
from imagesmith.store.migrate import upgrade
from imagesmith.store.records import Record
from imagesmith.values.version import Version
from imagesmith.vulnerabilities.news import News, match_new_advisories
from trivy_database import write_trivy_database

SYSTEM = OsRelease(id="debian", version_id="12", name="Debian GNU/Linux")
NAMES = 3_000
RECIPES = 100
START = datetime(2025, 1, 1, tzinfo=UTC)
ACCOUNT = "000000000000"
REGION = "us-east-1"


def arn(recipe: int, week: int) -> str:
    return f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image/recipe-{recipe}/1.0.0/{week + 1}"


def packages_of(recipe: int, week: int, count: int) -> tuple[Package, ...]:
    """Versions depend on the week alone, so that recipes share them; one in ten changes each week."""
    names = [0, *random.Random(recipe).sample(range(1, NAMES), count - 1)]
    return tuple(
        Package(f"package-{name}", f"1.{(week + name % 10) // 10}-1", "amd64", f"package-{name}")
        for name in sorted(names)
    )


def fill(database: Database, images: int, packages: int) -> None:
    weeks = images // RECIPES
    for week in range(weeks):
        with database.write(f"{ACCOUNT}/{REGION}") as tx:
            for recipe in range(RECIPES):
                queries.insert(tx, image(recipe, week))
                rows = [item.to_json() for item in packages_of(recipe, week, packages)]
                inventories.put_inventory(tx, arn(recipe, week), rows, SYSTEM.to_json())
                parent = arn(recipe % 10, week) if recipe >= 10 else "debian:12"
                digest = f"sha256:{recipe:032x}{week:032x}"
                ancestry.put_lineages(tx, [Lineage(image_arn=arn(recipe, week), digest=digest, parent=parent)])


def image(recipe: int, week: int) -> Record:
    name, place = f"recipe-{recipe}", arn(recipe, week)
    uris = [f"registry.example:5000/{name}:1.0.0-{week + 1}"]
    document = {
        "arn": place, "name": name, "type": "DOCKER", "version": f"1.0.0/{week + 1}", "platform": "Linux",
        "state": {"status": "AVAILABLE"}, "dateCreated": "2026-01-01T00:00:00.000Z", "osVersion": "Debian 12",
        "outputResources": {"containers": [{"region": REGION, "imageUris": uris}]},
        "containerRecipe": {"name": name, "description": "x" * 500, "dockerfileTemplateData": "x" * 1000},
    }  # fmt: skip
    return Record(
        arn=place, account=ACCOUNT, region=REGION, kind="image", slug=name, name=name,
        created=START + timedelta(weeks=week, seconds=recipe), document=document, version=Version(1, 0, 0),
        build=week + 1, status="AVAILABLE",
        source=f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image-pipeline/{name}",
    )  # fmt: skip


def feed(first: int, count: int) -> Iterator[AdvisoryRecord]:
    generator = random.Random(first)
    for number in range(first, first + count):
        events = (("introduced", "0"), ("fixed", f"1.{generator.randint(0, 12)}-2"))
        affected = Affected("Debian:12", f"package-{generator.randrange(1, NAMES)}", (events,))
        name = f"CVE-2026-{number:06}"
        yield AdvisoryRecord(name, number, Advisory(name, "HIGH", "benchmark", description="x" * 200), (affected,))


def everywhere() -> AdvisoryRecord:
    """A vulnerability of every image."""
    affected = Affected("Debian:12", "package-0", ((("introduced", "0"), ("fixed", "9-1")),))
    return AdvisoryRecord("CVE-2026-999999", 1, Advisory("CVE-2026-999999", "CRITICAL", "benchmark"), (affected,))


def timed_command(data: Path, *words: str, runs: int = 5) -> tuple[float, float, dict[str, list[object]]]:
    """Seconds and processor seconds of a whole command (medians), and its JSON."""
    times, used, answer = [], [], {}
    for _ in range(runs):
        started, before = time.perf_counter(), os.times()
        done = subprocess.run(
            [str(Path(sys.executable).parent / "imagesmith"), *words, "--json", "--data-dir", str(data)],
            check=True, capture_output=True, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
        times.append(time.perf_counter() - started)
        after = os.times()
        used.append(after.children_user + after.children_system - before.children_user - before.children_system)
        answer = json.loads(done.stdout)
    return statistics.median(times), statistics.median(used), answer


def scan_again(advisories: AdvisoryDatabase, images: int, sample: int, packages: int) -> float:
    """Processor seconds of scanning every image, from a sample."""
    started = time.process_time()
    for number in range(sample):
        target = ScanTarget(Inventory(SYSTEM, packages_of(number % RECIPES, number % 100, packages)), Path())
        EmbeddedScanner(advisories).scan(target, Cancellation())
    return (time.process_time() - started) * images / sample


def match(advisories: AdvisoryDatabase, database: Database) -> tuple[float, News]:
    started = time.process_time()
    news = match_new_advisories(advisories, database, lambda: datetime.now(UTC))
    return time.process_time() - started, news


def compare_with_trivy(program: str, folder: Path, chosen: argparse.Namespace) -> None:
    """The same packages and advisories: findings must be equal; processor seconds are compared."""
    records, packages = list(feed(0, chosen.advisories)), packages_of(1, 5, chosen.packages)
    rows = [(item.key, item.affected[0].name, item.affected[0].ranges[0][1][1]) for item in records]
    write_trivy_database(folder / "cache", "debian 12", rows)
    (folder / "sbom.json").write_text(json.dumps(sbom(packages)))
    advisories = AdvisoryDatabase(folder / "advisories")
    advisories.replace("all", records, datetime.now(UTC))
    before = os.times()
    subprocess.run([sys.executable, "-c", "import imagesmith.inspection.scanning.embedded"], check=True)
    started = os.times()
    target = ScanTarget(Inventory(SYSTEM, packages), Path())
    found = {item.vulnerability_id for item in EmbeddedScanner(advisories).scan(target, Cancellation()).findings}
    scanned = os.times()
    offline = ("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--quiet", "--format", "json")
    done = subprocess.run(
        [program, "sbom", "--cache-dir", str(folder / "cache"), *offline, str(folder / "sbom.json")],
        check=True, capture_output=True,
    )  # fmt: skip
    ended = os.times()
    results = json.loads(done.stdout)["Results"]
    theirs = {item["VulnerabilityID"] for result in results for item in result.get("Vulnerabilities", ())}
    assert found == theirs, f"{len(found)} findings, and {len(theirs)} of Trivy"
    ours = scanned.user + scanned.system - started.user - started.system
    start = started.children_user + started.children_system - before.children_user - before.children_system
    peer = ended.children_user + ended.children_system - scanned.children_user - scanned.children_system
    print(f"one scan, {len(found):,} findings: {ours:.2f} s and {start:.2f} s of start; Trivy {peer:.2f} s,")
    print(f"  {peer / (ours + start):.1f} times as long (goal: 3)")


def sbom(packages: tuple[Package, ...]) -> dict[str, object]:
    """The packages in CycloneDX 1.4, which old builds of Trivy read too."""
    parts = [{"type": "operating-system", "bom-ref": "os", "name": "debian", "version": "12"}]
    for item in packages:
        purl = f"pkg:deb/debian/{item.name}@{item.version}?arch=amd64&distro=debian-12"
        parts.append(
            {"type": "library", "bom-ref": purl, "name": item.name, "version": item.version, "purl": purl}
        )  # fmt: skip
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.4", "version": 1, "components": parts,
        "metadata": {"component": {"type": "container", "bom-ref": "image", "name": "web"}},
        "dependencies": [
            {"ref": "image", "dependsOn": ["os"]},
            {"ref": "os", "dependsOn": [part["bom-ref"] for part in parts[1:]]},
        ],
    }  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--packages", type=int, default=300)
    options.add_argument("--advisories", type=int, default=20_000)
    options.add_argument("--sample", type=int, default=100)
    options.add_argument("--trivy", default="", help="Trivy's program, to compare one scan with")
    chosen = options.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.trivy:
            compare_with_trivy(chosen.trivy, Path(folder), chosen)
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        path = data / "imagesmith.sqlite"
        path.touch(0o600)
        database = Database(f"sqlite:///{path}")
        upgrade(database)
        started = time.perf_counter()
        fill(database, chosen.images, chosen.packages)
        stored, size = time.perf_counter() - started, path.stat().st_size / 2**20
        print(f"{chosen.images:,} images of {chosen.packages} packages: stored in {stored:.0f} s, {size:.0f} MiB")
        advisories = AdvisoryDatabase(data / "advisories")
        now = datetime.now(UTC)
        advisories.replace("old", feed(0, chosen.advisories), now)
        with advisories.reader() as reader:
            old = reader.unmatched(chosen.advisories)
        advisories.mark_matched(old)
        advisories.replace("new", feed(500_000, 200), now)
        seconds, news = match(advisories, database)
        again = scan_again(advisories, chosen.images, chosen.sample, chosen.packages)
        print(f"200 new records against all: {seconds:.2f} s, {len(news.images):,} images newly affected")
        print(f"scanning all again: {again:.1f} s (of {chosen.sample}), {again / seconds:.0f} times (goal: 20)")
        advisories.replace("everywhere", [everywhere()], now)
        for words in (
            ("cve", min(news.images[0].vulnerabilities)),
            ("cve", "CVE-2026-999999"),
            ("cve", "--package", "package-7@1.3-1"),
        ):
            median, used, answer = timed_command(data, *words)
            count = f"{len(answer['images']):,} images"
            print(f"imagesmith {' '.join(words)}: {median:.2f} s, of a processor {used:.2f} s; {count} (goal: 1 s)")
        database.close()


if __name__ == "__main__":
    main()
