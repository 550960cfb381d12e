"""Lists of commands: a table for people, JSON for programs."""

from __future__ import annotations

import json

import pytest

from imagesmith.cli.listing import Listing

ITEMS = [{"name": "web", "size": 3}, {"name": "base", "size": 1}]


def listing(items: list[dict[str, object]], *, empty: str = "") -> Listing:
    return Listing(("name", "size"), [(str(item["name"]), str(item["size"])) for item in items], items, empty)


def test_people_see_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns on top, a row for each item."""
    listing(ITEMS).show(as_json=False)

    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "size"],
        ["web", "3"],
        ["base", "1"],
    ]


@pytest.mark.parametrize("items", [ITEMS, []])
def test_programs_see_the_documents(items: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> None:
    """The documents as they are, also when there are none."""
    listing(items, empty="nothing yet").show(as_json=True)

    assert json.loads(capsys.readouterr().out) == items


def test_an_empty_list_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence of the command; without one, the head of the table."""
    listing([], empty="nothing yet").show(as_json=False)
    listing([]).show(as_json=False)

    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["nothing", "yet"], ["name", "size"]]
