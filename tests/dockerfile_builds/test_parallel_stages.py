"""Independent stages at the same time: what runs beside what, the log, failures, and that nothing is left."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.stage_images import StageImages
from imagesmith.dockerfile_builds.stage_schedule import LinkedCancellation, carry_out_stages, in_order
from imagesmith.processes import Cancellation, Cancelled
from testing.containers import opened_storage
from testing.dockerfile_support import PARENT, DockerfileBench
from testing.leaks import wait_until_gone

pytestmark = pytest.mark.tool

GRAPH: Final = {
    0: frozenset[int](),
    1: frozenset[int](),
    2: frozenset({0, 1}),
    3: frozenset({2}),
    4: frozenset[int](),
}
MEET: Final = "RUN --mount=type=bind,from=a,target=/m true\n"


def test_a_stage_runs_behind_those_that_it_needs_and_beside_others() -> None:
    """As many at once as are allowed; both meet, or the test would not end."""
    both, ended, lock = threading.Barrier(2, timeout=60), list[int](), threading.Lock()

    def work(index: int) -> None:
        if index in (0, 1):
            both.wait()
        with lock:
            assert GRAPH[index] <= set(ended)
            ended.append(index)

    order = in_order(3, GRAPH)
    assert order == [0, 1, 2, 3]
    carry_out_stages(order, GRAPH, work, at_once=2, stop=Cancellation())
    assert sorted(ended) == [0, 1, 2, 3]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_than_the_number_run_at_once(at_once: int) -> None:
    """Of five that need nothing."""
    running, most, lock = set[int](), list[int](), threading.Lock()

    def work(index: int) -> None:
        with lock:
            running.add(index)
            most.append(len(running))
        time.sleep(0.01)
        with lock:
            running.remove(index)

    needs = {index: frozenset[int]() for index in range(5)}
    carry_out_stages(range(5), needs, work, at_once=at_once, stop=Cancellation())
    assert len(most) == 5 and max(most) <= at_once


def test_the_first_failure_ends_the_others_and_is_told() -> None:
    """Those that wait for a failed stage never begin."""
    begun: list[int] = []
    stop = LinkedCancellation(None)

    def work(index: int) -> None:
        begun.append(index)
        if index == 0:
            raise DockerfileFailed("first")
        while not stop.wait(5):
            pass
        raise Cancelled

    with pytest.raises(DockerfileFailed, match="first"):
        carry_out_stages([0, 1, 2, 3], GRAPH, work, at_once=2, stop=stop)
    assert sorted(begun) == [0, 1]


def test_a_linked_cancellation_ends_with_either() -> None:
    """Of the build, or of the stages alone."""
    build = Cancellation()
    first, second = LinkedCancellation(build), LinkedCancellation(build)
    first.cancel()
    assert (first.requested, second.requested, build.requested) == (True, False, False)
    build.cancel()
    assert second.wait(60)
    with pytest.raises(Cancelled):
        second.check()


def test_stages_side_by_side_make_the_same_image_as_in_turn(bench: DockerfileBench) -> None:
    """Copies, mounts and caches between them included; each line of the log names its stage."""
    text = (
        f"FROM {PARENT} AS a\nRUN --mount=type=cache,target=/c echo a >/c/a; echo one two >/a; cat /a\n"
        f"FROM {PARENT} AS b\nRUN --mount=type=cache,target=/c echo b >/c/b; echo three >/b; printf half\n"
        f"FROM a AS c\nCOPY --from=b /b /b\n"
        f"FROM {PARENT}\nCOPY --from=c /a /b /all/\nRUN --mount=from=b,target=/m cat /m/b /all/a >/sum\n"
    )
    images = [bench.make(text, at_once=count).whole() for count in (1, 3)]
    assert [bench.read(image, "/sum") for image in images] == ["three\none two\n"] * 2
    assert bench.config(images[0]) == bench.config(images[1])
    one, two = (bench.storage.image_config(image)["history"] for image in images)
    assert [entry.get("created_by") for entry in one] == [entry.get("created_by") for entry in two]
    lines = bench.output.splitlines()
    assert all(line.startswith(("[1/4] ", "[2/4] ", "[3/4] ", "[4/4] ")) for line in lines)
    assert {"[2/4] one two", "[1/4] half", "[3/4] STEP 2/2: COPY --from=b /b /b"} <= set(lines)
    assert bench.left() == []


def test_a_failing_stage_ends_what_runs_beside_it(bench: DockerfileBench) -> None:
    """Its error is the build's, and nothing of the others goes on."""
    text = (
        f"FROM {PARENT} AS a\nRUN sleep 6161\nFROM {PARENT} AS b\nRUN exit 5\n"
        f"FROM {PARENT}\nCOPY --from=a / /a\nCOPY --from=b / /b\n"
    )
    with pytest.raises(DockerfileFailed, match="line 4 failed with exit status 5"):
        bench.make(text, at_once=2).whole()
    assert wait_until_gone("sleep 6161") == []
    assert bench.left() == []


def test_a_cancelled_build_ends_all_its_stages(bench: DockerfileBench) -> None:
    """And leaves nothing."""
    cancellation = Cancellation()
    text = (
        f"FROM {PARENT} AS a\nRUN echo begun; sleep 6262\nFROM {PARENT} AS b\nRUN echo begun; sleep 6262\n"
        f"FROM {PARENT}\nCOPY --from=a / /a\nCOPY --from=b / /b\n"
    )
    begun: list[bytes] = []

    def watch(_stream: str, chunk: bytes) -> None:
        begun.append(chunk)
        if b"".join(begun).count(b" begun\n") == 2:
            cancellation.cancel()

    build = bench.make(text, at_once=2, cancellation=cancellation)
    with pytest.raises(Cancelled):
        replace(build, on_output=watch).whole()
    assert wait_until_gone("sleep 6262") == []
    assert bench.left() == []


def test_different_parents_are_pulled_side_by_side_and_each_once(tmp_path: Path) -> None:
    """Both pulls meet, or the test would not end; stages on one parent wait for its pull."""
    both, pulled = threading.Barrier(2, timeout=60), list[str]()
    with opened_storage(tmp_path) as storage:
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"diff_ids": []}})
        image = storage.adopt(config.encode(), [])

        def find(name: str) -> str:
            pulled.append(name)
            both.wait()
            return image

        images = StageImages(storage, parent="", find=find, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(images.named, ["one", "two", "one", "two"]))
    assert sorted(pulled) == ["one", "two"] and all(item == found[0] for item in found)
