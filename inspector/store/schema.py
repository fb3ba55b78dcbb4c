"""Brings a database to the newest schema with the migrations shipped inside this package."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from inspector.errors import SchemaVersionError, StoreError

MIGRATIONS_DIR = Path(__file__).parent / "migrations"


def upgrade_schema(connection: Connection) -> None:
    """Run the missing migrations inside the caller's transaction: all of them or none.

    Raises `SchemaVersionError` for a revision this program does not know, `StoreError` for a database
    that somebody else made.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS_DIR).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is None and inspect(connection).get_table_names():
        raise StoreError(f"{connection.engine.url.database} was not made by this program; move it away")
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise SchemaVersionError(
            f"{connection.engine.url.database} has schema {current}, which a newer program made; "
            "install that version or newer"
        )
    command.upgrade(config, "head")
