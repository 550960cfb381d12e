"""Alembic's entry: migrations run on the connection that migrate.upgrade() opened."""

from alembic import context

from imagesmith.store.tables import metadata

connection = context.config.attributes["connection"]
# our unit of work already holds the transaction, so Alembic must not open one of its own
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
