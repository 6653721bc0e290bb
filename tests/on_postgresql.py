"""`STORE=postgresql make test`: every store of a state folder is a database of its own on a real PostgreSQL, instead of a file.

A store in a world of virtual time is asked in line, as its SQLite file is: nobody there may wait for a socket. What is about the
file itself (a lock on it, its time, what is imported for it) is not tried here: `on_a_file`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import URL, Connection, Engine, make_url

import api.books
from controller.places import Places
from controller.store import migrations, store
from controller.store.address import is_postgres, normal
from controller.store.database import Database, Pause, Work
from controller.store.tables import metadata
from tests.postgres import serving_postgres

T = TypeVar("T")

WANTED = os.environ.get("STORE") == "postgresql"
TEMPLATE = "template_of_stores"


EMPTY = SQL(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();"
    "{}; SELECT setval(seqrelid::regclass, 1, false) FROM pg_sequence"
).format(SQL("; ").join(SQL("DELETE FROM {}").format(Identifier(one.name)) for one in reversed(metadata.sorted_tables)))
SHAPE = (
    "SELECT attrelid::regclass::text, attname, atttypid FROM pg_attribute WHERE attrelid >= 16384 ORDER BY 1, attnum"
)


class Server:
    """Begun when the first store is asked for. `used`: by state folder, the database of its store. One that is emptied serves
    again: to make one takes the server longer than most tests do."""

    def __init__(self) -> None:
        self.held = ExitStack()
        self.uri = ""
        self.used: dict[Path, str] = {}
        self.free: list[str] = []
        self.shape: list[Any] = []
        self.number = count(1)

    def database_of(self, state: Path) -> str:
        """The URL of the store of a state folder, made empty if it is not there."""
        if not self.uri:
            self._begin()
        state = state.resolve()
        if state not in self.used:
            self.used[state] = self.free.pop() if self.free else self._new()
        return self._url(self.used[state])

    def has(self, state: Path) -> bool:
        return state.resolve() in self.used

    def forget(self, but: frozenset[Path]) -> None:
        for state in self.used.keys() - but:
            name = self.used.pop(state)
            if self._emptied(name):
                self.free.append(name)
            else:
                self._admin(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def _begin(self) -> None:
        self.uri = self.held.enter_context(serving_postgres()).uri
        self._admin(SQL("CREATE DATABASE {}").format(Identifier(TEMPLATE)))
        migrations.upgrade(normal(self._url(TEMPLATE)))
        with psycopg.connect(self._url(TEMPLATE)) as one:
            self.shape = one.execute(SHAPE).fetchall()

    def _new(self) -> str:
        name = f"store_{next(self.number)}"
        self._admin(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(TEMPLATE)))
        return name

    def _emptied(self, name: str) -> bool:
        """Whether it is as new; not when somebody has changed its tables."""
        try:
            with psycopg.connect(self._url(name), autocommit=True) as one:
                one.execute(EMPTY)
                return one.execute(SHAPE).fetchall() == self.shape
        except psycopg.Error:
            return False

    def _url(self, name: str) -> str:
        return make_url(self.uri).set(database=name).render_as_string(hide_password=False)

    def _admin(self, statement: Any) -> None:
        with psycopg.connect(self.uri, autocommit=True) as admin:
            admin.execute(statement)


SERVER = Server()


class InlinePostgres:
    """A `Database` on a server that nothing else runs beside: for virtual time. It goes on whatever befalls its loop."""

    def __init__(self, url: URL) -> None:
        self.engine: Engine = migrations.migrating_engine(url)
        self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._turn = asyncio.Lock()
        self._open: Connection | None = None

    async def read(self, ask: Work[T]) -> T:
        with self._reader.connect() as connection:
            return ask(connection)

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        async with self._turn:
            with self.engine.begin() as connection:
                self._open = connection
                result = work(connection)
                if pause is not None:
                    await pause()
            self._open = None
            return result

    async def tidy(self) -> None:
        pass

    def let_go(self) -> None:
        """The process is said to be dead: what it had not committed is undone."""
        if self._open is not None:
            self._open.close()

    def abandon(self) -> None:
        pass

    async def aclose(self) -> None:
        self.engine.dispose()


@pytest.fixture(scope="session", autouse=True)
def stores_on_postgresql() -> Iterator[None]:
    """All of it, for the whole run."""
    patch = pytest.MonkeyPatch()
    usual = store.database_of

    def database(url: URL) -> Database:
        from tests.worlds.loop import VirtualLoop

        in_virtual_time = isinstance(asyncio.get_running_loop(), VirtualLoop)
        return InlinePostgres(url) if is_postgres(url) and in_virtual_time else usual(url)

    patch.setattr(Places, "url", property(lambda self: self.database_url or SERVER.database_of(self.state)))
    patch.setattr(api.books, "has_books", lambda where: bool(where.database_url) or SERVER.has(where.state))
    patch.setattr(store, "database_of", database)
    yield
    patch.undo()
    SERVER.held.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Nothing is skipped: what is about a file is tried where stores are files, and is counted as deselected here."""
    about_files = [item for item in items if item.get_closest_marker("on_a_file")]
    if about_files:
        config.hook.pytest_deselected(items=about_files)
        items[:] = [item for item in items if item not in about_files]


@pytest.fixture(autouse=True)
def no_store_outlives_its_test() -> Iterator[None]:
    """But those that were made before it, for a whole module."""
    before = frozenset(SERVER.used)
    yield
    SERVER.forget(before)
