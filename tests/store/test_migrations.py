"""Migrations of a database that an older version filled."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from imagesmith.store import migrate, queries, schedules
from imagesmith.store.database import Database
from imagesmith.store.records import Record
from imagesmith.store.tables import metadata

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
    database.close()
    assert len(rows) == 501
    assert first == schedules.ArmedSchedule(
        pipeline("armed-0").arn, "123456789012", "eu-west-1", "rate(5 hours)", "UTC",
        anchor=NOW, version=0, since=NOW.replace(microsecond=123000), next_fire=NOW.replace(hour=17),
    )  # fmt: skip


def test_the_migrations_make_the_tables_that_the_queries_are_written_for(database: Database) -> None:
    """Tables, columns, types and indexes are those of store.tables; nothing is missing and nothing is left over."""
    with database.read() as tx:
        context = MigrationContext.configure(tx)
        assert compare_metadata(context, metadata) == []
