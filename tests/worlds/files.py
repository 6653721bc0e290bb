"""The store's file in worlds: copied instead of made, not waited for, and let go when its process is said to be dead."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, event

from controller.places import Places
from controller.store import Store, migrations
from controller.store.address import is_postgres, normal
from controller.store.sqlite import BUSY_MS, SqliteDatabase

MOST_PAGES = 4_294_967_294
A_MOMENT = 0.01  # virtual seconds


def prepared(places: Places) -> None:
    """Lays an empty store, with today's tables, where this controller will look for its own: bringing up the tables takes
    longer than a tester's life."""
    places.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if is_postgres(normal(places.url)):
        return  # STORE=postgresql: it is there
    file = places.state / "controller.db"
    file.touch(mode=0o600)
    file.write_bytes(_empty())


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "controller.db"
        migrations.upgrade(normal(f"sqlite:///{file}"))
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes()


class Disk:
    """What a store's file lies on, and who else has it open. The errors are SQLite's own.

    Nobody waits for a lock by the real clock: what is locked fails at once, as it would after its 15 seconds.
    """

    def __init__(self, places: Places) -> None:
        self._file = places.state / "controller.db"
        self._holder: sqlite3.Connection | None = None
        self._full = False
        self._connections: list[sqlite3.Connection] = []

    def opened(self, connection: sqlite3.Connection) -> None:
        """A store's process has a connection for writing from now on."""
        self._connections = [one for one in self._connections if _is_open(one)]
        self._connections.append(connection)
        if self._full:
            _no_larger(connection)
        connection.execute(f"PRAGMA busy_timeout = {0 if self._holder else BUSY_MS}")

    async def lock(self) -> None:
        """Another process begins to write, and does not end."""
        while self._holder is None:
            holder = sqlite3.connect(self._file, timeout=0, isolation_level=None)
            try:
                holder.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # the store writes at this very moment
                holder.close()
                await asyncio.sleep(A_MOMENT)
            else:
                self._holder = holder
        self._tell("PRAGMA busy_timeout = 0")

    def unlock(self) -> None:
        if self._holder is not None:
            self._holder.rollback()
            self._holder.close()
            self._holder = None
            self._tell(f"PRAGMA busy_timeout = {BUSY_MS}")

    def fill(self) -> None:
        """No file grows any more: a write that needs another page fails."""
        self._full = True
        for connection in self._connections:
            if _is_open(connection):
                _no_larger(connection)

    def free(self) -> None:
        self._full = False
        self._tell(f"PRAGMA max_page_count = {MOST_PAGES}")

    def _tell(self, pragma: str) -> None:
        for connection in self._connections:
            if _is_open(connection):
                connection.execute(pragma)


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes  # noqa: B018 - asked for what it raises
    except sqlite3.ProgrammingError:
        return False
    return True


def _no_larger(connection: sqlite3.Connection) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


class Writer:
    """The connections over which a store writes."""

    def __init__(self, disk: Disk | None = None, let_go: Callable[[], None] = lambda: None) -> None:
        self._disk = disk
        self._let_go = let_go
        self._connections: list[sqlite3.Connection] = []

    def opened(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        self._connections.append(connection)
        if self._disk is not None:
            self._disk.opened(connection)

    def let_go(self) -> None:
        """What the system does when a process dies: what was not committed is undone, and its lock is free."""
        self._let_go()
        for connection in self._connections:
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed long ago
                connection.rollback()


_FIRST: dict[str, Engine] = {}
"""The engines of the process's first store."""


def hurried(store: Store, disk: Disk | None = None) -> Writer:
    """Spares a fresh store the wait for the disk, since nobody pulls the plug of this machine, and the compiling of
    statements that an earlier one has compiled."""
    writer, database = Writer(disk), store._database
    if not isinstance(database, SqliteDatabase):
        return Writer(disk, getattr(database, "let_go", lambda: None))
    event.listen(database._writer, "connect", writer.opened)
    for role, engine in (("writer", database._writer), ("reader", database._reader)):
        first = _FIRST.setdefault(role, engine)
        engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
    return writer
