"""Verdicts in the store: the last one about the same holds, and accounts do not see each other's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from imagesmith.store.database import Database
from imagesmith.store.vex import VexStatement, VexStatus, put_statements, remove_statement, statements
from testing.fleet import ACCOUNT, NOW, REGION, SCOPE

OTHER = "111111111111"


def stated(hour: int, author: str, *, id: str = "same") -> VexStatement:
    return VexStatement(
        id=id, vulnerability="CVE-2026-1234", product="*", status=VexStatus.FIXED, author=author,
        stated=NOW + timedelta(hours=hour),
    )  # fmt: skip


def put(database: Database, items: Sequence[VexStatement], *, account: str = ACCOUNT) -> int:
    with database.write(f"{account}/{REGION}") as tx:
        return put_statements(tx, account, REGION, items)


def authors(database: Database, account: str = ACCOUNT) -> dict[str, str]:
    with database.read() as tx:
        return {item.id: item.author for item in statements(tx, account, REGION)}


ORDERS: tuple[tuple[str, list[list[VexStatement]], list[int], str], ...] = (
    ("a later import", [[stated(1, "old")], [stated(2, "new")]], [0, 0], "new"),
    ("an older import", [[stated(2, "new")], [stated(1, "old")]], [0, 1], "new"),
    ("one of the same time", [[stated(1, "old")], [stated(1, "new")]], [0, 0], "new"),
    ("both in order", [[stated(1, "old"), stated(2, "new")]], [1], "new"),
    ("both, the older one last", [[stated(2, "new"), stated(1, "old")]], [1], "new"),
    ("both of one time", [[stated(1, "old"), stated(1, "new")]], [1], "new"),
    ("both older than what is stored", [[stated(3, "new")], [stated(1, "a"), stated(2, "b")]], [0, 2], "new"),
)


@pytest.mark.parametrize(
    ("imports", "left_out", "author"), [row[1:] for row in ORDERS], ids=[row[0] for row in ORDERS]
)
def test_the_statement_that_was_stated_last_holds(
    imports: list[list[VexStatement]], left_out: list[int], author: str, database: Database
) -> None:
    """Whatever the order of arrival is; how many were left out is known, and others are stored with them."""
    others = [stated(0, "other", id=f"other-{number}") for number in range(600)]
    assert [put(database, [*items, *others]) for items in imports] == left_out
    found = authors(database)
    assert (found["same"], len(found)) == (author, 601)


def test_accounts_may_state_the_same(database: Database) -> None:
    """One id in two accounts is two statements: neither replaces, sees or removes the other."""
    put(database, [stated(1, "ann")])
    put(database, [stated(2, "bob")], account=OTHER)
    assert (authors(database), authors(database, OTHER)) == ({"same": "ann"}, {"same": "bob"})
    with database.write(SCOPE) as tx:
        assert remove_statement(tx, ACCOUNT, REGION, "same")
    assert (authors(database), authors(database, OTHER)) == ({}, {"same": "bob"})
