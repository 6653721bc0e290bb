"""`STORE=postgresql make test`: every store of a state folder is a database of its own on a real PostgreSQL, instead of a file.

A store in a world of virtual time is asked in line, as its SQLite file is: nobody there may wait for a socket. What is about the
file itself (a full disk, a lock on it, its bytes) is skipped: `on_a_file`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
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
from tests.postgres import serving_postgres

T = TypeVar("T")

WANTED = os.environ.get("STORE") == "postgresql"
TEMPLATE = "template_of_stores"


class Server:
    """Begun when the first store is asked for. `made`: the databases of the test that runs."""

    def __init__(self) -> None:
        self.held = ExitStack()
        self.uri = ""
        self.made: set[str] = set()

    def database_of(self, state: Path) -> str:
        """The URL of the store of a state folder, made empty if it is not there."""
        if not self.uri:
            self.uri = self.held.enter_context(serving_postgres()).uri
            self._admin(SQL("CREATE DATABASE {}").format(Identifier(TEMPLATE)))
            migrations.upgrade(normal(self._url(TEMPLATE)))
        name = self.name_of(state)
        if name not in self.made:
            self.made.add(name)
            self._admin(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(TEMPLATE)))
        return self._url(name)

    def has(self, state: Path) -> bool:
        return self.name_of(state) in self.made

    def forget(self, but: frozenset[str]) -> None:
        for name in self.made - but:
            self._admin(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
        self.made &= but

    def name_of(self, state: Path) -> str:
        return f"store_{hashlib.md5(str(state.resolve()).encode(), usedforsecurity=False).hexdigest()}"

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
    usual = store._database

    def database(url: URL) -> Database:
        from tests.worlds.loop import VirtualLoop

        in_virtual_time = isinstance(asyncio.get_running_loop(), VirtualLoop)
        return InlinePostgres(url) if is_postgres(url) and in_virtual_time else usual(url)

    patch.setattr(Places, "url", property(lambda self: self.database_url or SERVER.database_of(self.state)))
    patch.setattr(api.books, "has_books", lambda where: bool(where.database_url) or SERVER.has(where.state))
    patch.setattr(store, "_database", database)
    yield
    patch.undo()
    SERVER.held.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("on_a_file"):
            item.add_marker(pytest.mark.skip("it is about a store on a file"))


@pytest.fixture(autouse=True)
def no_store_outlives_its_test() -> Iterator[None]:
    """But those that were made before it, for a whole module."""
    before = frozenset(SERVER.made)
    yield
    SERVER.forget(before)
