"""The history of the tables, and the way a database is brought up to this program's tables.

A new revision: change `controller/store/tables.py`, then, with a database at the last revision,

    alembic -c controller/store/migrations/alembic.ini -x url=sqlite:///scratch.db revision --autogenerate -m "what changed"

and read what it wrote. A revision that was released is never edited.

Old and new programs work side by side while replicas are upgraded one by one, on the newer tables. So a revision *expands*: new
tables, new columns that may be null or have a default of the server's, new indexes. What nobody uses any more is dropped, renamed
or made stricter by a revision of a later release: it *contracts*, and tells so with `contract`, upon which programs that do
not know it refuse the database. A test refuses what contracts while the release before still uses it (`RELEASED`).

The same holds within a column: a field of JSON that is new has a default, and a member of an enumeration is written one release
after the one that can read it.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from controller.store import sqlite
from controller.store.address import is_postgres, place_of
from controller.store.errors import StoreError, readable

if TYPE_CHECKING:
    from alembic.config import Config

_ADVISORY_LOCK: Final = 0x7E57_C0DE
"""The number under which PostgreSQL keeps migrating processes apart."""


_REVISION_TABLE: Final = "alembic_version"
"""Where alembic writes down how far a database is."""

RELEASED: Final = "0005"
"""The newest revision of the last release: whatever it had must be left as it was by the revisions after it."""

_FLOOR_KNOWN_SINCE: Final = "0006"
"""Programs from then on work on the tables of later ones, unless a revision that contracts has said that they cannot."""

_one_at_a_time = threading.Lock()
"""Alembic keeps the migration under way in module globals."""


def config() -> Config:
    """Alembic's configuration, found by package: the same from a checkout and from a wheel."""
    # Alembic is slow to import, and nearly every start finds the tables as they should be.
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", "controller.store:migrations")
    settings.set_main_option("path_separator", "os")
    return settings


def upgrade(url: URL) -> None:
    """Make or bring up the tables of a database; all of it or nothing. The URL is as `address.normal` gives it.

    Blocks: it is called before anything else runs, and whoever waits for the store has nothing else to do. Safe for
    several processes at once: on SQLite the transaction holds the write lock from its start, on PostgreSQL it takes an
    advisory lock. Whoever comes second finds nothing to do. Raises StoreError, also when the database is newer than we.
    """
    place = place_of(url)
    if not is_postgres(url):
        sqlite.prepare(url)
    engine = migrating_engine(url)
    try:
        with _one_at_a_time:
            # Most of the time there is nothing to do, and then nobody's write is waited for.
            with engine.connect() as connection:
                if _at_head(connection, place):
                    return
            with engine.execution_options(**sqlite.FOR_WRITING).begin() as connection:
                _migrate(connection, place)
    except SQLAlchemyError as error:
        raise readable(place, error) from error
    finally:
        engine.dispose()


def migrating_engine(url: URL) -> Engine:
    if is_postgres(url):
        # Only who has a server pays for its driver.
        from controller.store import postgres

        return postgres.migrating_engine(url)
    return sqlite.migrating_engine(url)


def revision_of(connection: Connection) -> str | None:
    """The revision of a database, None for an empty one."""
    if not inspect(connection).has_table(_REVISION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {_REVISION_TABLE}"))  # noqa: S608 a name of ours
    return revision


@cache
def revisions() -> tuple[str, ...]:
    """The revisions that this program knows, newest first: their files are named by them."""
    scripts = (Path(__file__).parent / "versions").glob("[0-9]*_*.py")
    return tuple(sorted((script.name.partition("_")[0] for script in scripts), reverse=True))


def contract(op: Any, revision: str) -> None:
    """To be called by a revision after which older programs must not work on the database any more."""
    op.execute(text("INSERT INTO schema_floor (revision) VALUES (:revision)").bindparams(revision=revision))


def _migrate(connection: Connection, place: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = {sqlite.BUSY_MS}"))  # of this lock, and of those on tables
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    if _at_head(connection, place):
        return
    from alembic import command  # slow: see `config`

    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _at_head(connection: Connection, place: str) -> bool:
    revision = revision_of(connection)
    if revision is None or revision in revisions():
        return revision == revisions()[0]
    if _expanded_only(connection):
        return True
    raise StoreError(
        f"The store {place} was changed by a newer version of this program (its revision is {revision}; "
        f"this program knows up to {revisions()[0]}). Install the newer version, or restore a backup from before."
    )


def _expanded_only(connection: Connection) -> bool:
    """Whether what newer programs have done to the tables is no concern of ours."""
    if not inspect(connection).has_table("schema_floor"):
        return False
    floors = set(connection.scalars(text("SELECT revision FROM schema_floor")))
    return floors | {_FLOOR_KNOWN_SINCE} <= set(revisions())
