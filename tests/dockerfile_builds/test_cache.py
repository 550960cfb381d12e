"""The cache of instructions: what it covers and what not, how fresh it is, and that it never lies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.cache_use import CacheHit, CacheUse
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.layers.layer_cache import LayerCache
from testing.dockerfile_support import PARENT, DockerfileBench

pytestmark = pytest.mark.tool

HOUR = 3600.0
DRAW = "cat /proc/sys/kernel/random/uuid"
"""Prints something else each time: equal output was made once."""


@dataclass
class CacheBench:
    """Builds that share a cache, on a clock that tests set."""

    bench: DockerfileBench
    now: float = 1_000_000.0
    number: int = 0
    hits: list[CacheHit] = field(default_factory=list)
    """Of the last build."""

    def __post_init__(self) -> None:
        self.cache = self.opened()

    def opened(self, *, mb: int = 100) -> LayerCache:
        return self.bench.storage.layer_cache(
            bytes_limit=mb * 1024**2, seconds_limit=30 * 24 * HOUR, now=lambda: self.now
        )

    def use(self, **members: Any) -> CacheUse:
        self.number += 1
        self.hits = []
        settings = {"cache": self.cache, "owner": "a", "lineage": "web", "build": f"web/1.0.0/{self.number}"}
        return CacheUse(**{**settings, "max_age": 24 * HOUR, "on_hit": self.hits.append, **members})

    def build(self, lines: str, *, use: CacheUse | None = None, **options: Any) -> str:
        """Build lines on the parent, or a text that has a FROM; returns the image's id."""
        text = lines if lines.startswith("FROM") else f"FROM {PARENT}\n{lines}\n"
        return self.bench.make(text, cache=use or self.use(), **options).whole()

    def told(self, word: str) -> list[str]:
        """Lines of the last build's output that begin with a word."""
        return [line.removeprefix(word) for line in self.bench.output.splitlines() if line.startswith(word)]


@pytest.fixture
def cached(bench: DockerfileBench) -> Iterator[CacheBench]:
    made = CacheBench(bench)
    yield made
    for place in made.cache.folder.glob("*.json"):
        place.unlink()


EVERYTHING = f"""\
FROM {PARENT} AS tools
RUN {DRAW} >/tool
FROM {PARENT}
ARG VERSION=1
ENV A=b
WORKDIR /srv/deep
RUN echo $VERSION >version; {DRAW} >drawn
COPY <<EOF /srv/text
$A
EOF
COPY --from=tools /tool /tool
RUN --mount=type=bind,from=tools,target=/tools cat /tools/tool >/mounted
RUN true
USER nobody
CMD ["/bin/true"]
"""


def test_an_unchanged_build_is_taken_from_the_cache(cached: CacheBench) -> None:
    """Layers, configuration and the times of the history are those of the first build, and the log says so."""
    first = cached.build(EVERYTHING)
    made = cached.bench.storage.image_config(first)
    assert cached.hits == [] and "CACHED" not in cached.bench.output
    second = cached.build(EVERYTHING)
    again = cached.bench.storage.image_config(second)
    assert again["rootfs"] == made["rootfs"] and again["config"] == made["config"]
    assert [item["created_by"] for item in again["history"]] == [item["created_by"] for item in made["history"]]
    assert cached.told("CACHED: ") == ["the result of web/1.0.0/1, 0 min old"] * 7
    steps = [hit.step for hit in cached.hits]
    assert steps == [f"{name} in line {line}" for name, line in zip(
        ("RUN", "WORKDIR", "RUN", "COPY", "COPY", "RUN", "RUN"), (2, 6, 7, 8, 11, 12, 13), strict=True
    )]  # fmt: skip
    assert {diff for hit in cached.hits for diff in hit.diff_ids} >= set(made["rootfs"]["diff_ids"][1:])
    assert cached.bench.left() == []


def test_a_build_that_takes_everything_starts_no_program(cached: CacheBench) -> None:
    """It makes no namespace either: the program that makes them is not started."""
    text = f"FROM {PARENT}\nRUN {DRAW} >/drawn\nCOPY <<EOF /text\nb\nEOF\nWORKDIR /made"
    first = cached.build(text)
    storage = ContainerStorage.open(cached.bench.storage.root)
    made = replace(cached.bench.make(text, cache=cached.use()), storage=storage).whole()
    assert len(cached.hits) == 3 and storage.maker.pid == 0
    assert storage.image_config(made)["rootfs"] == storage.image_config(first)["rootfs"]


def test_every_instruction_that_writes_files_has_a_layer_and_an_entry_as_in_docker(cached: CacheBench) -> None:
    """An entry without a layer is marked so: configuration, and commands that change nothing."""
    image = cached.build("RUN echo >/a\nENV A=b\nRUN true\nRUN echo >/b\nLABEL a=b")
    document = cached.bench.storage.image_config(image)
    empty = [item.get("empty_layer", False) for item in document["history"]][-5:]
    assert empty == [False, True, True, False, True]
    assert len(document["rootfs"]["diff_ids"]) == sum(not item.get("empty_layer") for item in document["history"])


@dataclass(frozen=True)
class Row:
    """Two texts of which the second is built behind the first; its last instruction writes files."""

    first: str
    second: str
    told: str = ""
    """Why the last instruction is not taken from the cache; empty: it is."""


ROWS = {
    "an argument": Row("ARG V=1\nRUN echo >/f", "ARG V=2\nRUN echo >/f", "ARG V"),
    "an argument more": Row("RUN echo >/f", "ARG V=2\nRUN echo >/f", "ARG V, the order of the variables"),
    "an argument behind it": Row("ARG V=1\nRUN echo >/f", "ARG V=1\nRUN echo >/f\nARG W=2"),
    "an argument that ENV hides": Row("ENV V=1\nARG V=2\nRUN echo >/f", "ENV V=1\nARG V=3\nRUN echo >/f"),
    "a variable": Row("ENV V=1\nRUN echo >/f", "ENV V=2\nRUN echo >/f", "ENV V"),
    "a variable and a COPY": Row("ENV V=1\nCOPY <<E /f\nx\nE", "ENV V=2\nCOPY <<E /f\nx\nE"),
    "the order of variables": Row("ENV V=1 W=2\nRUN env", "ENV W=2 V=1\nRUN env", "the order of the variables"),
    "a label": Row("LABEL a=b\nRUN echo >/f", "LABEL a=c\nRUN echo >/f"),
    "an entry point": Row('RUN echo >/f\nCMD ["a"]', 'CMD ["b"]\nRUN echo >/f'),
    "the command": Row("RUN echo >/f", "RUN  echo  >/f", "the instruction"),
    "a comment, a case, a line": Row("RUN echo >/f", "# text\n\nrun echo >/f"),
    "a document of a RUN": Row("RUN <<E\necho >/f\nE", "RUN <<E\necho  >/f\nE", "the instruction"),
    "a program in a document": Row("RUN <<E\n#!/bin/sh\n\nE", "RUN <<E\n#!/bin/sh\n:\nE", "the instruction"),
    "the shell": Row('SHELL ["/bin/sh", "-c"]\nRUN :', 'SHELL ["/bin/sh", "-ec"]\nRUN :', "the instruction"),
    "the user": Row("RUN id", "USER nobody\nRUN id", "USER"),
    "the folder": Row("RUN pwd", "WORKDIR /etc\nRUN pwd", "WORKDIR"),
    "the network": Row("RUN echo >/f", "RUN --network=none echo >/f"),
    "a mount": Row("RUN :", "RUN --mount=type=tmpfs,target=/m :", "--mount type=tmpfs,target=/m"),
    "a size of a mount": Row(
        "RUN --mount=type=tmpfs,target=/m,size=1m :", "RUN --mount=type=tmpfs,target=/m,size=2m :",
        "--mount type=tmpfs,target=/m,size=1m, --mount type=tmpfs,target=/m,size=2m",
    ),
    "what comes before": Row("RUN echo 1 >/a\nRUN :", "RUN echo 2 >/a\nRUN :", "an earlier step or the parent"),
    "an instruction before that changes nothing": Row("RUN echo >/f", "RUN true\nRUN echo >/f"),
    "a text that is copied": Row("COPY <<E /f\nx\nE", "COPY <<E /f\ny\nE", "the instruction"),
    "a variable in a text": Row("ENV V=1\nCOPY <<E /f\n$V\nE", "ENV V=2\nCOPY <<E /f\n$V\nE", "the instruction"),
    "an owner": Row("COPY <<E /f\nx\nE", "COPY --chown=1 <<E /f\nx\nE", "the instruction"),
    "a mode": Row("COPY <<E /f\nx\nE", "COPY --chmod=700 <<E /f\nx\nE", "the instruction"),
    "a relative target": Row("COPY <<E f\nx\nE", "WORKDIR /etc\nCOPY <<E f\nx\nE", "the instruction"),
    "a folder that is made": Row("WORKDIR /a", "WORKDIR /b", "the instruction"),
    "the owner of a folder": Row("WORKDIR /a", "USER nobody\nWORKDIR /a", "USER"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_result_is_used_where_nothing_that_it_can_read_has_changed(cached: CacheBench, name: str) -> None:
    """And nowhere else; what has changed is named."""
    row = ROWS[name]
    cached.build(row.first)
    cached.build(row.second)
    lines = [line for line in cached.bench.output.splitlines() if line.startswith(("CACHED", "not cached"))]
    expected = (
        f"not cached: {row.told} changed since web/1.0.0/1" if row.told else "CACHED: the result of web/1.0.0/1"
    )
    assert lines[-1].startswith(expected)


def test_files_of_another_stage_are_part_of_the_key(cached: CacheBench) -> None:
    """Of COPY and of mounts; a stage that is built again with another result is another source."""
    text = f"FROM {PARENT} AS a\nRUN echo 1 >/f\nFROM {PARENT}\nCOPY --from=a /f /g\n"
    text += "RUN --mount=from=a,target=/m cat /m/f >/h"
    cached.build(text)
    image = cached.build(text.replace("echo 1", "echo 2"))
    assert [cached.bench.read(image, path) for path in ("/g", "/h")] == ["2\n", "2\n"]
    assert "not cached: the copied files changed since web/1.0.0/1" in cached.bench.output
    assert "--mount from=a,target=/m, an earlier step or the parent changed" in cached.bench.output


@pytest.mark.parametrize(
    ("line", "network", "ages"),
    [
        ("RUN {}", "outbound", True),
        ("RUN --network=none {}", "outbound", False),
        ("RUN {}", "none", False),
        ("COPY <<E /f\nx\nE", "outbound", False),
        ("WORKDIR /a", "outbound", False),
    ],
)  # fmt: skip
def test_what_may_come_from_the_network_has_an_age_limit(
    cached: CacheBench, line: str, network: str, *, ages: bool
) -> None:
    """A golden image must be fresh; the rest is used as long as it is kept, and its age does not grow younger."""
    text = line.format("echo >/f")
    for _ in range(2):
        cached.build(text, network=network)
        cached.now += 20 * HOUR
    assert cached.told("CACHED: ") == ["the result of web/1.0.0/1, 20.0 h old"]
    cached.build(text, network=network)
    expected = ["the result of web/1.0.0/1 is 40.0 h old, and at most 24.0 h is allowed"] if ages else []
    assert cached.told("not cached: ") == expected
    cached.now += 1
    cached.build(text, network=network, use=cached.use(max_age=0.0))
    assert bool(cached.hits) is not ages


def test_a_build_without_the_cache_keeps_its_results_for_later_ones(cached: CacheBench) -> None:
    """`reads=False` uses nothing of other builds, and replaces what they kept."""
    text = f"RUN {DRAW} >/f"
    images = [cached.build(text), cached.build(text, use=cached.use(reads=False)), cached.build(text)]
    drawn = [cached.bench.read(image, "/f") for image in images]
    assert drawn[0] != drawn[1] == drawn[2]
    assert cached.told("CACHED: ") == ["the result of web/1.0.0/2, 0 min old"]


def test_what_is_built_before_the_components_is_the_same_behind_them(cached: CacheBench) -> None:
    """Both parts of a build use its own results, also one that uses nothing of other builds."""
    text = (
        f"FROM {PARENT} AS a\nRUN {DRAW} >/f\nFROM {PARENT}\nCOPY --from=a /f /before\n"
        "{{{ imagebuilder:environments }}}\n{{{ imagebuilder:components }}}\nCOPY --from=a /f /behind\n"
    )
    use = replace(cached.use(reads=False), max_age=0.0)
    build = cached.bench.make(text, cache=use, network="outbound")
    image = build.after_components(build.before_components())
    assert cached.bench.read(image, "/before") == cached.bench.read(image, "/behind")
    assert cached.hits == []


def test_results_of_another_owner_are_not_used(cached: CacheBench) -> None:
    """An account does not see what the commands of another have made."""
    cached.build(f"RUN {DRAW} >/f")
    cached.build(f"RUN {DRAW} >/f", use=cached.use(owner="b"))
    assert cached.hits == [] and cached.told("not cached: ") == ["there is no earlier result"]


def test_a_failed_instruction_is_not_kept(cached: CacheBench) -> None:
    """It runs again."""
    for _ in range(2):
        with pytest.raises(DockerfileFailed, match="exit status 7"):
            cached.build("RUN echo >/f; exit 7")
    assert cached.bench.left() == []


def _damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a blob has other bytes": _damaged,
    "a blob is missing": Path.unlink,
    "a blob is empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_result_whose_layer_is_damaged_is_made_again(cached: CacheBench, name: str) -> None:
    """The image is whole, and the log says why."""
    first = cached.build(f"RUN {DRAW} >/f\nRUN echo >/g")
    blobs = cached.bench.storage.layer_blobs(first)
    cached.bench.storage.remove_image(first)
    DAMAGES[name](cached.bench.storage.root / "blobs" / blobs[-2].digest.removeprefix("sha256:"))
    image = cached.build(f"RUN {DRAW} >/f\nRUN echo >/g")
    assert cached.told("not cached: ")[0] == "the layers of the result of web/1.0.0/1 are damaged"
    for layer in cached.bench.storage.layer_blobs(image):
        assert cached.bench.storage.layer_blob(image, layer).exists()


@pytest.mark.parametrize("name", ["cut", "not JSON", "empty", "another form"])
def test_a_damaged_entry_is_none(cached: CacheBench, name: str) -> None:
    """As after a power cut."""
    cached.build("RUN echo >/f")
    (place,) = cached.cache.folder.glob("*.json")
    text = place.read_text()
    place.write_text({"cut": text[:50], "not JSON": "{", "empty": "", "another form": '{"layers": [1]}'}[name])
    cached.build("RUN echo >/f")
    assert cached.hits == []
    cached.build("RUN echo >/f")
    assert len(cached.hits) == 1


def test_builds_that_need_the_same_at_once_make_it_once(
    cached: CacheBench, container_storage: ContainerStorage
) -> None:
    """The others wait for the first and take its result."""
    drawn: list[str] = []

    def work(number: int) -> None:
        bench = DockerfileBench(container_storage, cached.bench.parent, f"at-once-{number}")
        use = replace(use_of_all, build=f"web/1.0.0/{number}")
        image = bench.make(f"FROM {PARENT}\nRUN sleep 0.5; {DRAW} >/f\n", cache=use).whole()
        drawn.append(container_storage.layer_blobs(image)[-1].diff_id)

    use_of_all = cached.use()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 3 and len(set(drawn)) == 1


def test_who_waits_for_a_build_that_fails_carries_it_out(
    cached: CacheBench, container_storage: ContainerStorage
) -> None:
    """Its own failure is its own; a time that is over ends the waiting."""
    with cached.cache.running("0" * 40, wait=lambda _: None):
        pass
    results: list[str] = []

    def work(number: int) -> None:
        bench = DockerfileBench(container_storage, cached.bench.parent, f"failing-{number}")
        try:
            bench.make(f"FROM {PARENT}\nRUN sleep 0.3; exit 9\n", cache=use_of_all).whole()
        except DockerfileFailed as error:
            results.append(str(error).splitlines()[0])

    use_of_all = cached.use()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["failed with exit status 9" in line for line in results] == [True, True]
    assert list(cached.cache.folder.glob("*.running")) == []


def test_the_space_is_bounded_and_the_least_used_goes_first(cached: CacheBench) -> None:
    """Layers that no entry, image or container has are gone from the disk."""
    fill = "RUN head -c 700000 /dev/urandom >/{}"
    for name in "abc":
        cached.now += 60
        cached.bench.storage.remove_image(cached.build(fill.format(name)))
    cached.now += 60
    cached.bench.storage.remove_image(cached.build(fill.format("a")))
    assert len(cached.hits) == 1 and cached.cache.size() > 4_000_000
    before = len(list((cached.bench.storage.root / "blobs").iterdir()))
    cached.cache = cached.opened(mb=3)
    cached.bench.storage.remove_image(cached.build("RUN true"))
    assert cached.cache.size() <= 3 * 1024**2
    assert len(list((cached.bench.storage.root / "blobs").iterdir())) == before - 1
    for name, kept in (("a", True), ("c", True), ("b", False)):
        cached.bench.storage.remove_image(cached.build(fill.format(name), use=cached.use(cache=cached.opened())))
        assert bool(cached.hits) is kept, name


def test_entries_that_nobody_uses_are_removed(cached: CacheBench) -> None:
    """After a time; those that builds use stay."""
    cached.build("RUN echo >/a")
    cached.now += 29 * 24 * HOUR
    cached.build("RUN echo >/b")
    cached.now += 2 * 24 * HOUR
    cached.cache.trim()
    assert len(cached.cache.entries()) == 1


def test_what_killed_builds_left_is_removed(cached: CacheBench) -> None:
    """Drafts of entries, and rights to carry something out: nobody waits for them."""
    cached.build("RUN echo >/f")
    left = [cached.cache.folder / name for name in (f".{'0' * 40}.json.{'1' * 16}", f"{'2' * 40}.running")]
    for place in left:
        place.write_text("9999")
    with cached.cache.running("2" * 40, wait=lambda _: pytest.fail("it waits")) as waited:
        assert not waited
    left[1].write_text("9999")
    cached.cache.trim()
    assert not any(place.exists() for place in left) and len(cached.cache.entries()) == 1


def test_a_cache_without_space_is_off(cached: CacheBench) -> None:
    """Nothing is kept, and all instructions share one layer."""
    cached.cache = cached.opened(mb=0)
    image = cached.build("RUN echo >/a\nRUN echo >/b")
    layers = cached.bench.storage.layer_blobs(image)
    assert len(layers) == len(cached.bench.storage.layer_blobs(cached.bench.parent)) + 1
    assert not list(cached.cache.folder.glob("*.json")) and "cached" not in cached.bench.output


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ("RUN --mount=type=cache,target=/c echo >/f", True),
        ("RUN --mount=type=cache,target=/c echo a >/c/a\nRUN --mount=type=cache,target=/c/ cat /c/a", False),
        ("RUN --mount=type=cache,target=/c,id=x echo >/f\nRUN --mount=type=cache,target=/c,id=y echo >/f", True),
        ("ARG N=x\nRUN --mount=type=cache,target=/c,id=x :\nRUN --mount=type=cache,target=/c,id=$N :", False),
        ("RUN --mount=type=cache,target=/c :\nRUN --mount=type=cache,target=c :", False),
    ],
)
def test_commands_that_share_a_cache_mount_are_not_kept(cached: CacheBench, lines: str, *, kept: bool) -> None:
    """The next would miss what an earlier one wrote there, for that is in no layer."""
    cached.build(lines)
    cached.build(lines)
    assert bool(cached.hits) is kept
    assert bool(cached.told("not cached: another RUN may use")) is not kept


def test_a_change_of_the_root_is_seen_by_the_next_command(cached: CacheBench) -> None:
    """Although a layer ends between them."""
    cached.build("RUN chmod 750 / && echo >/f\nRUN stat -c 'mode %a' /")
    assert "mode 750" in cached.bench.output
