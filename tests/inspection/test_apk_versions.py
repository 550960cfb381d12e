"""Alpine's order of versions against what the real apk answered, and as an order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.inspection.scanning.apk_versions import apk_key
from imagesmith.inspection.scanning.versions import VersionOrder

_SIGNS = {-1: "<", 0: "=", 1: ">", None: "!"}
RECORDED = [
    line.split()
    for line in Path(__file__).with_name("apk_versions.txt").read_text().splitlines()
    if not line.startswith("#")
]


def test_the_table_is_large_enough_to_mean_something() -> None:
    """Every sign is in it, and hundreds of pairs."""
    assert len(RECORDED) >= 300
    assert {sign for _, sign, _ in RECORDED} == set("<=>!")


def test_every_recorded_pair_compares_as_apk_said() -> None:
    """All of them at once, so that a failure shows every pair that differs; both ways round."""
    order = VersionOrder("apk")
    turned = {"<": ">", ">": "<", "=": "=", "!": "!"}
    found = [
        (one, _SIGNS[order.compare(one, other)], other, _SIGNS[order.compare(other, one)])
        for one, _, other in RECORDED
    ]
    assert found == [(one, sign, other, turned[sign]) for one, sign, other in RECORDED]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("13.2.1_git20240309-r0", "13.2.1_git20240309-r1"),
        ("1.0", "1.0_git1"),
        ("1.0_git1", "1.0_p1"),
        ("1.02", "1.1"),
        ("1.1", "1.1-r0"),
        ("1.0_p", "1.0_p0"),
    ],
)
def test_what_gentoo_orders_otherwise(older: str, newer: str) -> None:
    """The pairs that an order of Gentoo's versions decides wrongly, or not at all."""
    order = VersionOrder("apk")
    assert (order.compare(older, newer), order.compare(newer, older)) == (-1, 1)


def test_a_number_that_no_release_has_is_no_version() -> None:
    """apk itself counts from 0 again above 64 bits; that decides nothing here."""
    assert apk_key("1.18446744073709551615") is not None
    assert apk_key("18446744073709551616") is apk_key("1.0-r18446744073709551616") is None


_NUMBERS = st.sampled_from(["0", "1", "2", "10", "00", "01", "02", "010", "20240309"])
_SUFFIXES = st.tuples(
    st.sampled_from(["alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"]), st.just("") | _NUMBERS
).map(lambda parts: f"_{parts[0]}{parts[1]}")
_VERSIONS = st.tuples(
    st.lists(_NUMBERS, min_size=1, max_size=3).map(".".join),
    st.sampled_from(["", "", "a", "z"]),
    st.lists(_SUFFIXES, max_size=2).map("".join),
    st.sampled_from(["", "", "~0", "~ab"]),
    st.just("") | _NUMBERS.map(lambda number: f"-r{number}"),
).map("".join)


@given(_VERSIONS, _VERSIONS, _VERSIONS)
def test_any_versions_are_in_one_order(one: str, two: str, three: str) -> None:
    """Total, antisymmetric and transitive."""
    order = VersionOrder("apk")
    every = [(left, right) for left in (one, two, three) for right in (one, two, three)]
    signs = {pair: sign for pair in every if (sign := order.compare(*pair)) is not None}
    assert len(signs) == len({*every})
    assert all(sign == -signs[right, left] for (left, right), sign in signs.items())
    low, middle, high = sorted((one, two, three), key=lambda version: apk_key(version) or ())
    assert signs[low, middle] in (-1, 0) and signs[middle, high] in (-1, 0) and signs[low, high] in (-1, 0)


@given(_VERSIONS)
def test_a_candidate_is_before_and_a_patch_after_its_release(version: str) -> None:
    """What stands behind a version decides on which side of it the longer one is."""
    if "~" in version or "-r" in version:
        return
    order = VersionOrder("apk")
    assert order.compare(f"{version}_rc1", version) == order.compare(version, f"{version}-r0") == -1
    assert order.compare(version, f"{version}_p1") == order.compare(f"{version}_git1", f"{version}_p1") == -1
