"""How alembic reaches the database: by the connection that `migrations.upgrade` gives it, or from its own command line by
`-x url=…`."""

from alembic import context
from sqlalchemy import Connection

from controller.store.address import normal
from controller.store.migrations import migrating_engine
from controller.store.sqlite import FOR_WRITING
from controller.store.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite changes a column by copying its table
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_from_command_line() -> None:
    engine = migrating_engine(normal(context.get_x_argument(as_dictionary=True)["url"]))
    with engine.execution_options(**FOR_WRITING).begin() as connection:
        run(connection)
    engine.dispose()


given = context.config.attributes.get("connection")
if given is None:
    run_from_command_line()
else:
    run(given)
