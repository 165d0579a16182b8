"""What alembic runs for `upgrade`: the connection and the transaction are the caller's."""

from __future__ import annotations

from alembic import context

BY_ALEMBIC = "env_py"


def migrate() -> None:
    """Run the migrations on the connection that the configuration carries."""
    attributes = context.config.attributes
    context.configure(connection=attributes["connection"], version_table=attributes["version_table"])
    with context.begin_transaction():
        context.run_migrations()


if __name__ == BY_ALEMBIC:
    migrate()
