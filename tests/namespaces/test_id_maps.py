"""Which ids of the machine namespaces have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagesmith.namespaces.id_maps import IdRange, NoIds, lease_range, user_ids


def test_a_range_is_held_by_one(tmp_path: Path) -> None:
    """Two builds at once have different ids; a range is free again when its lock is closed."""
    first, one = lease_range(tmp_path / "ids", most=2)
    second, two = lease_range(tmp_path / "ids", most=2)
    assert first.users[0].outside + 65536 == second.users[0].outside
    with pytest.raises(NoIds, match="all 2 ranges"):
        lease_range(tmp_path / "ids", most=2)
    os.close(two)
    third, three = lease_range(tmp_path / "ids", most=2)
    assert third == second
    os.close(one)
    os.close(three)


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("author:100000:65536", 100000),
        ("31337:200000:65535", 200000),
        ("other:1:65536\nauthor:300000:1000000\n", 300000),
        ("author:100:10\nauthor:400000:65536\n", 400000),
    ],
)
def test_the_subordinate_range_of_a_user(line: str, first: int, tmp_path: Path) -> None:
    """By name or number, and only a range that is long enough."""
    (tmp_path / "subids").write_text(line)
    found = user_ids(31337, 31337, name="author", subuid=tmp_path / "subids", subgid=tmp_path / "subids")
    assert found.users == found.groups == (IdRange(0, 31337, 1), IdRange(1, first, 65535))


@pytest.mark.parametrize("line", ["", "author:x:65536", "author:100000:1000", "author", "other:100000:65536"])
def test_no_subordinate_range(line: str, tmp_path: Path) -> None:
    """A file without a range for the user is named."""
    (tmp_path / "subids").write_text(line)
    with pytest.raises(NoIds, match=r"subids has no range of 65536 ids for author"):
        user_ids(31337, 31337, name="author", subuid=tmp_path / "subids", subgid=tmp_path / "subids")
