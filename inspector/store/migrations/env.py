"""Alembic's entry point: runs inside the connection and transaction that `upgrade_schema` hands over."""

from alembic import context

from inspector.store import cloud_tables as cloud_tables
from inspector.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
context.run_migrations()
