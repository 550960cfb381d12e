"""PostgreSQL: the planner is told that the images of one pipeline are few.

Every resource but an image has an empty source, so statistics see one value and take any other for as common:
the newest image of a pipeline was then looked for among all images that are AVAILABLE. On a store of a million
pipelines and ten thousand images that took half a second for a hundred of them; by the index of sources it takes a
millisecond.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE resources ALTER COLUMN source SET (n_distinct = -0.1)")
        # what was set counts from the next ANALYZE on
        op.execute("ANALYZE resources (source)")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE resources ALTER COLUMN source RESET (n_distinct)")
