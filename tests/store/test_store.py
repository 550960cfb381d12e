"""The store on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from imagesmith.store import client_tokens, counters, inventories, queries
from imagesmith.store.database import Database, StoreUnavailable
from imagesmith.store.migrate import upgrade
from imagesmith.store.queries import Selection
from imagesmith.store.records import Cursor, Record, from_microseconds, microseconds
from imagesmith.store.tables import metadata
from imagesmith.values.version import Version

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OWN = Selection(account="123456789012", region="eu-west-1", kind="component")


def record(slug: str, *, version: tuple[int, int, int] = (1, 0, 0), build: int = 1, age: int = 0) -> Record:
    text = ".".join(map(str, version))
    return Record(
        arn=f"arn:aws:imagebuilder:eu-west-1:123456789012:component/{slug}/{text}/{build}",
        account="123456789012", region="eu-west-1", kind="component", slug=slug, name=slug,
        created=NOW - timedelta(seconds=age), document={"name": slug, "deep": {"list": [1, None, "ü"]}},
        tags={"team": "a"}, version=Version(*version), build=build, status="ACTIVE",
    )  # fmt: skip


def test_migrations_end_at_the_declared_tables(database: Database) -> None:
    """The migrations and the table definitions describe the same schema."""
    upgrade(database)
    with database.read() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) == []


def test_a_stored_record_reads_back_equal(database: Database) -> None:
    """What is inserted is what get gives, to the microsecond."""
    wanted = replace(record("web"), created=NOW + timedelta(microseconds=123457))
    with database.write("s") as tx:
        queries.insert(tx, wanted, ["arn:needed"])
    with database.read() as tx:
        assert queries.get(tx, wanted.arn) == wanted
        assert queries.is_needed(tx, "arn:needed")


def test_two_spellings_of_a_version_cannot_both_be_stored(database: Database) -> None:
    """The numbers of a version are unique, not its text."""
    with database.write("s") as tx:
        queries.insert(tx, record("web"))
    other = replace(record("web"), arn=record("web").arn.replace("1.0.0", "01.0.0"))
    with pytest.raises(queries.DuplicateRecord), database.write("s") as tx:
        queries.insert(tx, other)


def test_an_exception_undoes_the_whole_unit_of_work(database: Database) -> None:
    """Nothing of a failed unit of work is stored."""
    with pytest.raises(KeyError), database.write("s") as tx:
        queries.insert(tx, record("web"))
        counters.next_number(tx, "k")
        raise KeyError
    with database.write("s") as tx:
        assert queries.get(tx, record("web").arn) is None
        assert counters.next_number(tx, "k") == 1


def test_pages_go_from_new_to_old_and_stay_stable_while_items_are_added(database: Database) -> None:
    """A cursor continues where the page ended, whatever was added since."""
    with database.write("s") as tx:
        for number in range(7):
            queries.insert(tx, record(f"c{number}", age=number // 2))
    with database.write("s") as tx:
        first = queries.page(tx, OWN, None, 3)
        queries.insert(tx, record("newer", age=-5))
        last = first[-1]
        rest = queries.page(tx, OWN, Cursor(microseconds(last.created), last.arn), 10)
    assert [item.slug for item in [*first, *rest]] == ["c1", "c0", "c3", "c2", "c5", "c4", "c6"]


def test_the_newest_build_and_the_newest_version_are_selected_by_number(database: Database) -> None:
    """1.10.0 comes after 1.9.0, and build 10 after build 9."""
    with database.write("s") as tx:
        for version, build in (((1, 9, 0), 1), ((1, 10, 0), 9), ((1, 10, 0), 10)):
            queries.insert(tx, record("web", version=version, build=build))
        builds = queries.page(tx, replace(OWN, newest_build_only=True), None, 10)
        versions = queries.page(tx, replace(OWN, newest_version_only=True), None, 10)
        ordered = queries.versions(tx, OWN.account, OWN.region, OWN.kind, "web")
    assert sorted(item.order for item in builds) == [(1, 9, 0, 1), (1, 10, 0, 10)]
    assert [item.order for item in versions] == [(1, 10, 0, 10)]
    assert [item.build for item in ordered] == [10, 9, 1]


def test_counters_never_hand_out_a_number_twice_under_parallel_writers(database: Database) -> None:
    """Twenty writers of one scope get twenty different numbers."""
    taken: list[int] = []
    lock = threading.Lock()

    def take() -> None:
        with database.write("scope") as tx:
            number = counters.next_number(tx, "builds")
        with lock:
            taken.append(number)

    threads = [threading.Thread(target=take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 21))


def test_tokens_are_forgotten_when_they_are_old(database: Database) -> None:
    """A token before the limit is as if it had never been: it is not found, may be used again, and goes."""
    day = timedelta(days=1)
    with database.write("s") as tx:
        client_tokens.remember_token(tx, "a", "r", "op", "t", fingerprint="f", response={"x": 1}, now=NOW)
        assert client_tokens.find_token(tx, "a", "r", "op", "t", not_before=NOW - day) == ("f", {"x": 1})
        assert client_tokens.find_token(tx, "a", "r", "op", "t", not_before=NOW + day) is None
        assert client_tokens.find_token(tx, "b", "r", "op", "t", not_before=NOW - day) is None
        client_tokens.remember_token(tx, "a", "r", "op", "t", fingerprint="g", response={}, now=NOW + 2 * day)
        assert client_tokens.find_token(tx, "a", "r", "op", "t", not_before=NOW + day) == ("g", {})
        client_tokens.forget_tokens(tx, NOW + 3 * day)
        assert client_tokens.find_token(tx, "a", "r", "op", "t", not_before=NOW) is None


def test_deleting_a_resource_frees_what_it_needed(database: Database) -> None:
    """Links, plan and inventory go with their resource."""
    with database.write("s") as tx:
        queries.insert(tx, record("web"), ["arn:needed"])
        inventories.put_inventory(tx, record("web").arn, [{"name": "bash", "version": "5"}])
        queries.delete(tx, record("web").arn)
        assert not queries.is_needed(tx, "arn:needed")
        assert inventories.get_inventory(tx, record("web").arn) is None


def test_an_unreachable_database_says_so() -> None:
    """A refused connection is StoreUnavailable, not a driver's own error."""
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable), database.read():
        pass
    database.close()


def test_instants_survive_the_trip_through_numbers() -> None:
    """Microseconds lose nothing, also before 1970."""
    for moment in (NOW, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)):
        assert from_microseconds(microseconds(moment)) == moment
