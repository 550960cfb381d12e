"""The cache of overlays: what is found, why something is not, what is removed, and what a killed writer leaves."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesmith.artifacts.overlays import CachedState, OverlayCache, next_key, overlay_file

HOUR = 3600.0


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A cache, and builds that put states into it."""

    def __init__(self, folder: Path, *, bytes_limit: int = 2**40, seconds_limit: float = 100 * HOUR) -> None:
        self.clock = Clock()
        self.machines = folder / "machines"
        self.machines.mkdir(exist_ok=True)
        self.on: dict[str, str] = {}
        self.cache = OverlayCache(
            folder / "overlays", bytes_limit=bytes_limit, seconds_limit=seconds_limit, now=self.clock
        )

    def entry(self, name: str, before: str = "", *, build: str = "web/1.0.0/1", **inputs: object) -> CachedState:
        key = next_key(before, {"document": name, **inputs})
        return CachedState(
            key, before, f"place-{len(before)}", name, {"document": name, **inputs}, self.clock.now, self.clock.now,
            build, overlay_file(key), self.on.get(before, ""),
        )  # fmt: skip

    def put(self, entry: CachedState, size: int = 4096) -> bool:
        disk = self.machines / entry.file
        disk.write_bytes(b"d" * size)
        kept = self.cache.keep(entry, disk)
        if kept:
            self.on[entry.key] = entry.file
        return kept

    def files(self) -> set[str]:
        return {place.name for place in self.cache.folder.iterdir()} - {"lock"}


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_a_state_is_found_with_all_that_it_lies_on(kept: Kept) -> None:
    """The files come oldest first, and outlive those of the machine that made them."""
    first = kept.entry("a")
    assert kept.put(first)
    second = kept.entry("b", first.key)
    assert kept.put(second)
    for place in kept.machines.iterdir():
        place.unlink()
    found = kept.cache.find(second.key, max_age=HOUR)
    assert found is not None and found.entry == second
    assert [place.name for place in found.files] == [first.file, second.file]
    assert all(place.read_bytes() == b"d" * 4096 for place in found.files)
    assert (kept.cache.folder / f"{first.key}.json").stat().st_mode & 0o777 == 0o600


def test_age_is_that_of_the_oldest_part(kept: Kept) -> None:
    """A component that was run an hour ago on something of yesterday is of yesterday."""
    first = kept.entry("a")
    kept.put(first)
    kept.clock.now += 24 * HOUR
    second = replace(kept.entry("b", first.key), since=first.since)
    kept.put(second)
    assert kept.cache.find(second.key, max_age=25 * HOUR) is not None
    assert kept.cache.find(second.key, max_age=23 * HOUR) is None
    why = kept.cache.explain(second.key, second.lineage, second.inputs, max_age=23 * HOUR)
    assert why == "the result of web/1.0.0/1 is 24.0 h old, and at most 23.0 h is allowed"


def test_a_miss_names_what_changed(kept: Kept) -> None:
    """Inputs that differ are named, those of maps by their keys; a first build has nothing to name."""
    assert kept.cache.explain("0" * 40, "place-0", {}, max_age=HOUR) == "there is no result of this recipe yet"
    old = kept.entry("a", parameter={"Packages": "1", "Other": "2"})
    kept.put(old)
    new = kept.entry("b", parameter={"Packages": "3", "Other": "2"})
    why = kept.cache.explain(new.key, old.lineage, new.inputs, max_age=HOUR)
    assert why == "document, parameter Packages changed since web/1.0.0/1"


def test_without_what_it_lies_on_a_state_is_gone(kept: Kept) -> None:
    """It is not found, the reason says so, and the next look removes what is left."""
    first = kept.entry("a")
    kept.put(first)
    second = kept.entry("b", first.key)
    kept.put(second)
    (kept.cache.folder / f"{first.key}.json").unlink()
    assert kept.cache.find(second.key, max_age=HOUR) is None
    assert "was removed" in kept.cache.explain(second.key, second.lineage, second.inputs, max_age=HOUR)
    assert not kept.put(kept.entry("c", second.key))
    kept.cache.trim()
    assert kept.files() == set()


def test_of_two_builds_of_the_same_state_one_is_kept(kept: Kept) -> None:
    """The second hears that it may build nothing on its own; an overlay means something on its own file only."""
    mine = kept.entry("a")
    theirs = replace(mine, build="web/1.0.0/2", file=overlay_file(mine.key))
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda entry=entry: results.append(kept.put(entry))) for entry in (mine, theirs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]
    found = kept.cache.find(mine.key, max_age=HOUR)
    assert found is not None and kept.files() == {f"{mine.key}.json", found.entry.file}


def test_a_newer_build_replaces_what_was_too_old_for_it(kept: Kept) -> None:
    """And everything that lay on the older one goes with it."""
    first = kept.entry("a")
    kept.put(first)
    second = kept.entry("b", first.key)
    kept.put(second)
    kept.clock.now += HOUR
    again = kept.entry("a", build="web/1.0.0/2")
    assert kept.put(again)
    assert kept.cache.find(second.key, max_age=9 * HOUR) is None
    found = kept.cache.find(again.key, max_age=HOUR)
    assert found is not None and found.entry.build == "web/1.0.0/2"


def test_what_a_killed_writer_left_goes_with_the_next(kept: Kept) -> None:
    """A file without an entry, a half-written draft, and an entry that is no JSON."""
    kept.put(kept.entry("a"))
    before = kept.files()
    for name in (f"{'0' * 40}-12345678.qcow2", "draft-1-abcd", f"{'1' * 40}.json"):
        (kept.cache.folder / name).write_bytes(b"{")
    kept.cache.trim()
    assert kept.files() == before


def test_the_settings_limit_every_run(tmp_path: Path) -> None:
    """What is older than the settings allow is neither found nor kept, however old a run would take it."""
    kept = Kept(tmp_path, seconds_limit=HOUR)
    entry = kept.entry("a")
    kept.put(entry)
    kept.clock.now += 2 * HOUR
    assert kept.cache.find(entry.key, max_age=99 * HOUR) is None
    kept.cache.trim()
    assert kept.files() == set()


def test_clearing_removes_everything(kept: Kept) -> None:
    """And says how many states that were; a cache that was never used has none."""
    assert kept.cache.clear() == 0
    first = kept.entry("a")
    kept.put(first)
    kept.put(kept.entry("b", first.key))
    assert kept.cache.clear() == 2 and kept.files() == set()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "use", "wait", "lose"]), st.integers(0, 5), st.integers(1, 4)),
        max_size=25,
    )
)
def test_whatever_happens_what_is_found_is_whole_and_fits(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int, int]]
) -> None:
    """After any order of builds, uses, waits and losses: bounded bytes, no stray file, every chain complete."""
    limit = 10 * 4096
    kept = Kept(tmp_path_factory.mktemp("cache"), bytes_limit=limit)
    keys = [""]
    for act, number, blocks in acts:
        if act == "put":
            entry = kept.entry(f"{number}", keys[number % len(keys)])
            if kept.put(entry, blocks * 4096):
                keys.append(entry.key)
        elif act == "use":
            kept.cache.find(keys[number % len(keys)], max_age=50 * HOUR)
        elif act == "wait":
            kept.clock.now += blocks * 20 * HOUR
        elif kept.cache.folder.is_dir() and kept.files():
            (kept.cache.folder / sorted(kept.files())[number % len(kept.files())]).unlink()
    kept.cache.trim()
    kept.cache.trim()
    entries = kept.cache.entries()
    assert sum(kept.cache.size(entry) for entry in entries) <= limit
    for entry in entries:
        found = kept.cache.find(entry.key, max_age=1000 * HOUR)
        assert found is not None and all(place.exists() for place in found.files)
    if kept.cache.folder.is_dir():
        assert kept.files() == {name for entry in entries for name in (f"{entry.key}.json", entry.file)}


def test_an_entry_is_readable_json(kept: Kept) -> None:
    """Somebody who looks finds what it was made from."""
    entry = kept.entry("a")
    kept.put(entry)
    assert json.loads((kept.cache.folder / f"{entry.key}.json").read_text())["inputs"] == {"document": "a"}
