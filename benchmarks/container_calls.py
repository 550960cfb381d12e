"""Commands in a container instance against `buildah run`, in turn on the same container image; medians.

    .venv/bin/python benchmarks/container_calls.py [--rounds 30]

call     one `/bin/true` through ContainerInstance.run, against `buildah run` of the same on a working container
launch   the parts of a launch: container, mount, sandbox, first command with network
file     write and read of 1 MiB
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from testing.buildah import Buildah, opened_buildah
from testing.containers import import_tiny_image, opened_storage

MIB = b"x" * 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp(prefix="imagesmith-benchmark-"))
    try:
        with opened_storage(folder) as storage:
            image = import_tiny_image(storage)
            with opened_buildah(folder / "buildah") as buildah:
                print_calls(storage, image, rounds, buildah)
            print_launches(storage, image, max(rounds // 3, 3))
            storage.remove_leftovers()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def print_calls(storage: ContainerStorage, image: str, rounds: int, buildah: Buildah) -> None:
    instance = ContainerInstance.launch(storage, image, name="bench-own")
    peer = buildah.run("buildah", "from", "--pull-never", buildah.take(storage, image))
    own_times, peer_times, write_times, read_times = [], [], [], []
    for _ in range(rounds):
        own_times.append(timed(lambda: instance.run(Command(["/bin/true"]))))
        peer_times.append(timed(lambda: buildah.run("buildah", "run", peer, "--", "/bin/true")))
        write_times.append(timed(lambda: instance.write("/tmp/file", MIB)))
        read_times.append(timed(lambda: instance.read("/tmp/file")))
    instance.close()
    own, other = statistics.median(own_times), statistics.median(peer_times)
    print(f"call     {own * 1000:7.1f} ms   buildah run {other * 1000:7.1f} ms   ratio {other / own:5.1f}")
    write, read = (statistics.median(times) * 1000 for times in (write_times, read_times))
    print(f"file     write 1 MiB {write:.1f} ms, read {read:.1f} ms")


def print_launches(storage: ContainerStorage, image: str, rounds: int) -> None:
    parts: dict[str, list[float]] = {}
    for number in range(rounds):
        for name, seconds in one_launch(storage, image, f"bench-parts-{number}"):
            parts.setdefault(name, []).append(seconds)
    words = ", ".join(f"{name} {statistics.median(times) * 1000:.0f} ms" for name, times in parts.items())
    print(f"launch   {words}")


def one_launch(storage: ContainerStorage, image: str, name: str) -> Iterator[tuple[str, float]]:
    yield "container", timed(lambda: storage.create(name, image))
    yield "mount", timed(lambda: storage.mount(name))
    storage.remove(name)
    started = time.perf_counter()
    instance = ContainerInstance.launch(storage, image, name=name)
    yield "all of launch", time.perf_counter() - started
    yield "first command", timed(lambda: instance.run(Command(["/bin/true"])))
    yield "close", timed(instance.close)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
