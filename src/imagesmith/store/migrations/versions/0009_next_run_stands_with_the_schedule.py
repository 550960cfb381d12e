"""dateNextRun leaves the documents of pipelines: it is read from the armed row, where it stood as well."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SECONDS = "(SELECT next_fire / 1000000 FROM schedules WHERE pipeline_arn = resources.arn)"
_ARMED = "arn IN (SELECT pipeline_arn FROM schedules)"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        shorter = "CAST(CAST(document AS jsonb) - 'dateNextRun' AS json)"
    else:
        shorter = "json_remove(document, '$.dateNextRun')"
    op.execute(f"UPDATE resources SET document = {shorter} WHERE kind = 'image-pipeline'")  # noqa: S608


def downgrade() -> None:
    # fire times are whole seconds: minutes of cron, and rates from an anchor in whole minutes
    if op.get_bind().dialect.name == "postgresql":
        shown = f"to_char(to_timestamp({_SECONDS}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\".000Z\"')"
        longer = f"CAST(CAST(document AS jsonb) || jsonb_build_object('dateNextRun', {shown}) AS json)"
    else:
        shown = f"strftime('%Y-%m-%dT%H:%M:%S', {_SECONDS}, 'unixepoch') || '.000Z'"
        longer = f"json_set(document, '$.dateNextRun', {shown})"
    op.execute(f"UPDATE resources SET document = {longer} WHERE {_ARMED}")  # noqa: S608
