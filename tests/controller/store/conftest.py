"""A store on each database that it runs on: SQLite, and a real PostgreSQL started for the test run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from controller.places import Places
from controller.store import Keyring, Store
from tests.controller.fakes import ManualClock
from tests.postgres import empty_postgres_url, postgres_server, postgres_url, postgres_with_tables
from tests.worlds.files import prepared

__all__ = ["empty_postgres_url", "postgres_server", "postgres_url", "postgres_with_tables"]

OpenStore = Callable[..., Awaitable[Store]]


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
