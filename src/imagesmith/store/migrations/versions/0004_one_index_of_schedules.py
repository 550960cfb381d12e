"""One index of armed schedules, on the fire time alone: each further one doubles the work of arming a million."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("schedules_by_scope", table_name="schedules")
    op.drop_index("schedules_by_next_fire", table_name="schedules")
    op.create_index("schedules_by_next_fire", "schedules", ["next_fire"])


def downgrade() -> None:
    op.drop_index("schedules_by_next_fire", table_name="schedules")
    op.create_index("schedules_by_next_fire", "schedules", ["next_fire", "pipeline_arn"])
    op.create_index("schedules_by_scope", "schedules", ["account", "region", "next_fire"])
