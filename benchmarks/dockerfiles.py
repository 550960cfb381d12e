"""Dockerfiles against buildah: each built by us and by `buildah bud` in turn, medians and ratios.

    .venv/bin/python benchmarks/dockerfiles.py [--rounds 5] [--without-network]

Both start from the managed Debian base, each in a storage of its own; buildah has its default isolation. First
without the cache of instructions on either side, then with it (`--layers`): a first build, and the same again. The
builds of whole pipelines are in builds.py.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from imagesmith.artifacts.bases import Bases
from imagesmith.artifacts.cache_use import CacheUse
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.dockerfile_builds.build import DockerfileBuild
from imagesmith.managed.bases import managed_base
from testing.buildah import Buildah, opened_buildah

PARENT = "{{{ imagebuilder:parentImage }}}"
FILES = "mkdir /many && for i in $(seq 2000); do echo $i > /many/$i; done"
INSTALL = "apt-get update && apt-get install -y --no-install-recommends sl"
DOCKERFILES = {
    "10 RUN lines of `true`": (f"FROM {PARENT}\n" + "RUN true\n" * 10, 0.2),
    "COPY --from of 2,000 files": (
        f"FROM {PARENT} AS a\nRUN {FILES}\nFROM {PARENT}\nCOPY --from=a /many /many\n",
        0.5,
    ),
    "apt-get update and install": (f"FROM {PARENT}\nRUN {INSTALL}\n", 0.9),
}
"""Name -> Dockerfile, at most this many times the time of `buildah bud`."""


CACHED = {
    "3 RUN lines that write, first": (1.0, False),
    "3 RUN lines that write, unchanged": (0.5, True),
}
"""Name -> at most this many times the time of `buildah bud --layers`, whether it was built before."""
WRITES = "".join(f"RUN head -c 5000000 /dev/urandom >/srv/file-{number}\n" for number in range(3))


def build_ours(storage: ContainerStorage, text: str, base: str, cache: CacheUse | None = None) -> float:
    started = time.monotonic()
    image = DockerfileBuild(
        storage=storage, text=text, name="bench", find=str, parent=base, timeout=3600, cache=cache
    ).whole()
    seconds = time.monotonic() - started
    storage.remove_image(image)
    return seconds


def build_theirs(buildah: Buildah, text: str, base: str, *, layers: bool = False) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Dockerfile"
        file.write_text(text.replace(PARENT, base))
        started = time.monotonic()
        made = buildah.run(
            "buildah", "bud", "--runtime=runc", "--network=host", f"--layers={str(layers).lower()}",
            "-f", str(file), folder,
        )  # fmt: skip
        seconds = time.monotonic() - started
        if not layers:
            buildah.run("skopeo", "delete", f"containers-storage:@{made.splitlines()[-1]}")
        return seconds


def cached_pair(
    storage: ContainerStorage, buildah: Buildah, bases: tuple[str, str], number: int, *, again: bool
) -> tuple[float, float]:
    """Seconds of one round; each builds another text, so that only `again` finds something."""
    cache = storage.layer_cache(bytes_limit=1 << 30, seconds_limit=1e9, now=time.time)
    use = CacheUse(cache=cache, owner="", lineage="bench", build="bench", max_age=1e9)
    text = f"FROM {PARENT}\nENV ROUND={number}{again}\n{WRITES}"
    if again:
        build_ours(storage, text, bases[0], use)
        build_theirs(buildah, text, bases[1], layers=True)
    return build_ours(storage, text, bases[0], use), build_theirs(buildah, text, bases[1], layers=True)


def show(name: str, pairs: Sequence[tuple[float, float]], goal: float, peer: str) -> None:
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{name}: {ours:.2f} s, {peer} {theirs:.2f} s, ratio {ours / theirs:.2f} (at most {goal})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-network", action="store_true", help="leave out what installs packages")
    options = parser.parse_args()
    with ExitStack() as stack:
        data = Path(tempfile.mkdtemp(prefix="imagesmith-bench-"))
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        storage = ContainerStorage.for_data_dir(data)
        stack.callback(storage.close)
        managed = managed_base("debian-x86-12")
        assert managed is not None
        bases = Bases(storage, OciLayout(data / "oci"), folder=data / "bases")
        base = bases.managed(managed, on_line=lambda _: None).image_id
        buildah = stack.enter_context(opened_buildah(data / "buildah"))
        theirs_base = buildah.take(storage, base)
        for name, (text, goal) in DOCKERFILES.items():
            if options.without_network and "apt" in text:
                continue
            pairs = [
                (build_ours(storage, text, base), build_theirs(buildah, text, theirs_base))
                for _ in range(options.rounds)
            ]
            show(name, pairs, goal, "buildah bud")
        for name, (goal, again) in CACHED.items():
            rounds = range(options.rounds)
            pairs = [cached_pair(storage, buildah, (base, theirs_base), number, again=again) for number in rounds]
            show(name, pairs, goal, "buildah bud --layers")


if __name__ == "__main__":
    main()
