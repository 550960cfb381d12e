"""What counts as a dependency update: every row of the specification's table, and the words for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.schedule.dependencies import Dependency, Inputs, changed_dependencies, resolves_to

ROOT = "arn:aws:imagebuilder:us-east-1"
RECIPE = f"{ROOT}:111122223333:image-recipe/web/1.0.0"
BASE = f"{ROOT}:aws:image/debian-12"
HELLO = f"{ROOT}:111122223333:component/hello"
DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER_DIGEST = "sha256:" + "fedcba9876543210" * 4


def inputs(*dependencies: Dependency, recipe: str = RECIPE) -> Inputs:
    return Inputs(recipe, dependencies)


def texts(before: Dependency, after: Dependency, *, tags: bool = False) -> list[str]:
    changes = changed_dependencies(inputs(before), inputs(after), container_tag_updates=tags)
    return [str(change) for change in changes]


@pytest.mark.parametrize(
    ("reference", "before", "after", "told"),
    [
        (f"{BASE}/x.x.x", f"{BASE}/1.0.3/2", f"{BASE}/1.0.4/1", ["base debian-12 1.0.3/2 -> 1.0.4/1"]),
        (f"{BASE}/x.x.x", f"{BASE}/1.0.3/2", f"{BASE}/1.0.3/3", ["base debian-12 1.0.3/2 -> 1.0.3/3"]),
        (f"{BASE}/1.x.x", f"{BASE}/1.9.0/1", f"{BASE}/1.10.0/1", ["base debian-12 1.9.0/1 -> 1.10.0/1"]),
        (f"{BASE}/1.0.3", f"{BASE}/1.0.3/9", f"{BASE}/1.0.3/10", ["base debian-12 1.0.3/9 -> 1.0.3/10"]),
        (f"{BASE}/2024.x.x", f"{BASE}/2024.01.09/1", f"{BASE}/2024.1.10/1",
         ["base debian-12 2024.01.09/1 -> 2024.1.10/1"]),
        (f"{BASE}/x.x.x", f"{BASE}/1.0.4/1", f"{BASE}/1.0.3/2", []),
        (f"{BASE}/x.x.x", f"{BASE}/1.0.4/2", f"{BASE}/1.0.4/1", []),
        (f"{BASE}/1.0.3/2", f"{BASE}/1.0.3/2", f"{BASE}/1.0.3/2", []),
        ("ssm:/golden/base", "ami-1", "ami-2", ["base ssm:/golden/base ami-1 -> ami-2"]),
        ("ssm:/golden/base", "ami-2", "ami-2", []),
        ("ami-0123456789abcdef0", "ami-0123456789abcdef0", "ami-0123456789abcdef0", []),
        ("amazonlinux:latest", DIGEST, OTHER_DIGEST, []),
        (f"amazonlinux@{DIGEST}", DIGEST, DIGEST, []),
    ],
)  # fmt: skip
def test_a_base_counts_as_the_table_says(reference: str, before: str, after: str, told: list[str]) -> None:
    """A wildcard or build-less ARN counts upwards only, a parameter by its value, anything pinned never."""
    assert texts(Dependency("base", reference, before), Dependency("base", reference, after)) == told


def test_a_component_counts_like_a_base() -> None:
    """A component by wildcard or without build that resolves higher is told with its name."""
    before, after = (Dependency("component", f"{HELLO}/1.0.0", f"{HELLO}/1.0.0/{build}") for build in (1, 2))
    assert texts(before, after) == ["component hello 1.0.0/1 -> 1.0.0/2"]


def test_a_moved_tag_counts_only_with_the_switch() -> None:
    """`schedule.container_tag_updates` makes another digest behind a tag an update; a pinned digest never is."""
    before, after = (Dependency("base", "amazonlinux:latest", digest) for digest in (DIGEST, OTHER_DIGEST))
    assert texts(before, after) == []
    told = ["base amazonlinux:latest sha256:0123456789ab -> sha256:fedcba987654"]
    assert texts(before, after, tags=True) == told
    pinned = (Dependency("base", f"amazonlinux@{DIGEST}", digest) for digest in (DIGEST, OTHER_DIGEST))
    assert texts(*pinned, tags=True) == []


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("web/1.0.1", ["recipe web 1.0.0 -> 1.0.1"]),
        ("web/0.9.0", ["recipe web 1.0.0 -> 0.9.0"]),
        ("app/2.0.0", ["recipe web 1.0.0 -> app 2.0.0"]),
        ("web/1.0.0", []),
    ],
)
def test_another_recipe_counts_in_any_direction(after: str, told: list[str]) -> None:
    """A recipe wildcard that resolves elsewhere, or a recipe set by an update, is one change."""
    base = Dependency("base", f"{BASE}/x.x.x", f"{BASE}/1.0.0/1")
    current = inputs(base, recipe=f"{ROOT}:111122223333:image-recipe/{after}")
    assert [str(change) for change in changed_dependencies(inputs(base), current)] == told


def test_components_are_matched_by_reference() -> None:
    """Another order, a new and a dropped component do not hide or invent an update."""
    one = Dependency("component", f"{HELLO}/x.x.x", f"{HELLO}/1.0.0/1")
    newer = Dependency("component", f"{HELLO}/x.x.x", f"{HELLO}/1.1.0/1")
    dropped = Dependency("component", f"{HELLO}-old/x.x.x", f"{HELLO}-old/1.0.0/1")
    added = Dependency("component", f"{HELLO}-new/x.x.x", f"{HELLO}-new/1.0.0/1")
    changes = changed_dependencies(inputs(one, dropped), inputs(added, newer, newer))
    assert [str(change) for change in changes] == ["component hello 1.0.0/1 -> 1.1.0/1"]


numbers = st.integers(0, 3)


@given(
    st.tuples(numbers, numbers, numbers, st.integers(1, 3)), st.tuples(numbers, numbers, numbers, st.integers(1, 3))
)
def test_a_wildcard_is_an_update_exactly_when_it_is_higher(
    before: tuple[int, int, int, int], after: tuple[int, int, int, int]
) -> None:
    """The order is that of (major, minor, patch, build)."""
    old, new = (f"{BASE}/{major}.{minor}.{patch}/{build}" for major, minor, patch, build in (before, after))
    told = texts(Dependency("base", f"{BASE}/x.x.x", old), Dependency("base", f"{BASE}/x.x.x", new))
    assert bool(told) == (after > before)


@given(st.tuples(numbers, numbers, numbers, st.integers(1, 3)))
def test_nothing_changes_against_itself(version: tuple[int, int, int, int]) -> None:
    """The inputs of a build are never an update of themselves, whatever the switches."""
    major, minor, patch, build = version
    same = inputs(
        Dependency("base", "amazonlinux:latest", DIGEST),
        Dependency("base", "ssm:/golden/base", "ami-1"),
        Dependency("component", f"{HELLO}/x.x.x", f"{HELLO}/{major}.{minor}.{patch}/{build}"),
    )
    assert changed_dependencies(same, same, container_tag_updates=True) == ()


@pytest.mark.parametrize(
    ("reference", "fits"),
    [
        (f"{BASE}/x.x.x", True),
        (f"{BASE}/1.x.x", True),
        (f"{BASE}/1.0.4", True),
        (f"{BASE}/1.0.4/x", True),
        (f"{BASE}/1.0.4/1", True),
        (f"{BASE}/1.0.4/2", False),
        (f"{BASE}/2.x.x", False),
        (f"{BASE}-x86/x.x.x", False),
        (f"{ROOT}:111122223333:image/debian-12/x.x.x", False),
        ("ssm:/golden/base", False),
        ("ami-1", False),
    ],
)
def test_a_cascade_starts_from_an_image_that_the_reference_takes(reference: str, fits: bool) -> None:
    """Only an ARN of the same image whose version and build fit leads to a cascade."""
    assert resolves_to(reference, f"{BASE}/1.0.4/1") is fits
