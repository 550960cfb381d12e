"""Migrations of a database that an older version filled."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from imagesmith.store import inventories, migrate, queries, schedules
from imagesmith.store.database import Database
from imagesmith.store.records import Record
from imagesmith.store.tables import metadata
from testing.postgresql import new_postgresql_database

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def pipeline(name: str, **members: object) -> Record:
    arn = f"arn:aws:imagebuilder:eu-west-1:123456789012:image-pipeline/{name}"
    document = {"arn": arn, "status": "ENABLED", "dateUpdated": "2026-11-23T12:00:00.123Z", **members}
    return Record(
        arn=arn, account="123456789012", region="eu-west-1", kind="image-pipeline", slug=name, name=name,
        created=NOW, document=document,
    )  # fmt: skip


def test_pipelines_of_the_first_schema_are_armed_by_the_upgrade(database_url: str) -> None:
    """A pipeline with a next run gets its row, also beyond one batch; the others get none."""
    database = Database(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with database.write("schema") as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
    armed = {
        "schedule": {"scheduleExpression": "rate(5 hours)", "timezone": "UTC"},
        "_scheduleAnchor": "2026-11-23T12:00:00.000Z",
        "dateNextRun": "2026-11-23T17:00:00.000Z",
    }
    with database.write("s") as tx:
        for number in range(501):
            queries.insert(tx, pipeline(f"armed-{number}", **armed))
        queries.insert(tx, pipeline("manual"))
    migrate.upgrade(database)
    with database.read() as tx:
        rows = schedules.fire_times(tx, "", 1000)
        first = schedules.of_pipeline(tx, pipeline("armed-0").arn)
        document = queries.documents(tx, [pipeline("armed-0").arn])[pipeline("armed-0").arn]
    old = pipeline("armed-0", **armed).document
    with database.write("schema") as tx:
        config.attributes["connection"] = tx
        command.downgrade(config, "0008")
        downgraded = queries.documents(tx, [pipeline("armed-0").arn, pipeline("manual").arn])
    database.close()
    assert len(rows) == 501
    # since 0009 the row alone says when it fires; going back writes that into the document again
    assert document == {name: value for name, value in old.items() if name != "dateNextRun"}
    assert downgraded == {pipeline("armed-0").arn: old, pipeline("manual").arn: pipeline("manual").document}
    assert first == schedules.ArmedSchedule(
        pipeline("armed-0").arn, "123456789012", "eu-west-1", "rate(5 hours)", "UTC",
        anchor=NOW, version=0, since=NOW.replace(microsecond=123000), next_fire=NOW.replace(hour=17),
    )  # fmt: skip


def test_the_migrations_make_the_tables_that_the_queries_are_written_for(database: Database) -> None:
    """Tables, columns, types and indexes are those of store.tables; nothing is missing and nothing is left over."""
    with database.read() as tx:
        context = MigrationContext.configure(tx)
        assert compare_metadata(context, metadata) == []


def test_a_changed_document_touches_no_index_on_postgresql(postgresql: str) -> None:
    """The new version of a row stays on its page (a "HOT" update), also when every row of the page changes."""
    database = Database(new_postgresql_database(postgresql, "documents_stay"))
    migrate.upgrade(database)
    with database.write("s") as tx:
        records = [pipeline(f"p{number:04d}", description="x" * 1000) for number in range(200)]
        queries.insert_many(tx, records)
    statistics = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'resources'"
    with database.write("s") as tx:
        queries.replace_documents(
            tx, [replace(item, document={**item.document, "status": "DISABLED"}) for item in records]
        )
        changed, on_their_page = tx.execute(sa.text(statistics)).one()
    database.close()
    assert changed == 200 and on_their_page == 200


def test_the_newest_image_of_a_pipeline_is_found_by_its_source_on_postgresql(postgresql: str) -> None:
    """However few images there are: statistics of the column alone would mislead the planner."""
    database = Database(new_postgresql_database(postgresql, "few_images"))
    migrate.upgrade(database)
    pipelines = [pipeline(f"p{number:05d}") for number in range(5000)]
    arns = [record.arn for record in pipelines[:100]]
    query = schedules.NEWEST_BUILT.params(wanted=arns)
    with database.write("s") as tx:
        queries.insert_many(tx, pipelines)
        tx.execute(sa.text("ANALYZE"))
        compiled = query.compile(dialect=tx.dialect, compile_kwargs={"literal_binds": True})
        plan = "\n".join(tx.exec_driver_sql(f"EXPLAIN {compiled}").scalars())
    database.close()
    assert "using resources_by_source" in plan and "resources_by_status" not in plan


def test_inventories_of_an_earlier_schema_become_rows(database_url: str) -> None:
    """Beyond one batch, in their order, with the operating system that the image states; and back again."""
    database = Database(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with database.write("schema") as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0032")
    old = sa.table("inventories", sa.column("image_arn", sa.Text), sa.column("packages", sa.JSON))
    rows = {
        f"image-{number:03}": [{"name": "Jinja2", "kind": "pypi"}, {"name": f"p{number % 3}", "version": "1"}]
        for number in range(120)
    }
    with database.write("s") as tx:
        tx.execute(sa.insert(old), [{"image_arn": arn, "packages": items} for arn, items in rows.items()])
        queries.insert(tx, replace(pipeline("x", osVersion="Debian 12"), arn="image-000", slug="x"))
        queries.insert(tx, replace(pipeline("y", osVersion="Plan 9"), arn="image-001", slug="y"))
    migrate.upgrade(database)
    with database.write("s") as tx:
        assert {arn: inventories.get_inventory(tx, arn) for arn in rows} == rows
        found = [inventories.system_of(tx, arn) for arn in ("image-000", "image-001", "image-002")]
        assert found[0] is not None and (found[0]["id"], found[0]["version_id"]) == ("debian", "12")
        assert found[1:] == [None, None]
        assert len(list(inventories.packages_named(tx, ["jinja2"], ["pypi"]))) == 1
        inventories.put_inventory(tx, "image-new", [{"name": "new"}])
        assert inventories.get_inventory(tx, "image-new") == [{"name": "new"}]
    with database.write("schema") as tx:
        config.attributes["connection"] = tx
        command.downgrade(config, "0032")
        kept = {row.image_arn: row.packages for row in tx.execute(sa.select(old))}
    database.close()
    assert kept == {**rows, "image-new": [{"name": "new"}]}
