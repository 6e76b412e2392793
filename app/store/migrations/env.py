"""What alembic runs: the steps, on the connection it is handed. There is no offline mode: nobody wants the SQL."""

from __future__ import annotations

from alembic import context

from app.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,  # the one who calls holds the lock and commits
    transactional_ddl=False,
)
context.run_migrations()
