"""Inventories are read once for the same layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.kept_inventories import KeptInventories
from imagesmith.inspection.packages import OsRelease, Package

FOUND = Inventory(
    OsRelease("Debian GNU/Linux", "12", "Debian 12", "debian", ""),
    (
        Package("adduser", "3.134", "all", "adduser"),
        Package("flask\udcff", "3", "", "", "pypi", location="srv/x", owner="py", module="a:b"),
    ),
)
LAYERS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)


class Reader:
    """Counts how often it is asked."""

    def __init__(self, found: Inventory) -> None:
        self.found = found
        self.times = 0

    def __call__(self) -> Inventory:
        self.times += 1
        return self.found


@pytest.fixture
def kept(tmp_path: Path) -> KeptInventories:
    return KeptInventories(tmp_path / "kept")


def test_the_same_layers_are_read_once(kept: KeptInventories) -> None:
    """What comes back equals what was read, whatever is in it; other layers, or another order, are others."""
    reader = Reader(FOUND)
    assert [kept.of(LAYERS, reader) for _ in range(3)] == [FOUND] * 3 and reader.times == 1
    for other in (LAYERS[:1], LAYERS[::-1], (*LAYERS, LAYERS[0]), ()):
        kept.of(other, reader)
    assert reader.times == 5


def test_what_could_not_be_read_is_tried_again(kept: KeptInventories) -> None:
    """A later reading may succeed, and that one is kept."""
    broken = Reader(replace(FOUND, problems=("the database is damaged",)))
    for _ in range(2):
        assert kept.of(LAYERS, broken).problems
    assert broken.times == 2 and kept.of(LAYERS, Reader(FOUND)) == FOUND == kept.of(LAYERS, broken)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"system": {}}',
        '{"system": {"shoe": 1}, "packages": []}',
        '{"system": {}, "packages": 1}',
    ],
)
def test_a_damaged_file_is_read_anew(kept: KeptInventories, tmp_path: Path, content: str) -> None:
    """It never becomes an empty inventory."""
    kept.of(LAYERS, Reader(FOUND))
    (file,) = (tmp_path / "kept").iterdir()
    file.write_text(content)
    reader = Reader(FOUND)
    assert kept.of(LAYERS, reader) == FOUND and reader.times == 1


def test_few_are_kept_and_large_ones_are_not(kept: KeptInventories, tmp_path: Path) -> None:
    """The folder is bounded whatever the images contain."""
    for number in range(70):
        kept.of((str(number),), Reader(FOUND))
    assert len(list((tmp_path / "kept").iterdir())) == 64
    many = Reader(Inventory(FOUND.system, tuple(Package(f"{n}", "1" * 1000, "", "") for n in range(5000))))
    assert kept.of(LAYERS, many) == kept.of(LAYERS, many) and many.times == 2
