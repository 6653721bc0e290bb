"""The store's file in worlds: copied instead of made, not waited for, and let go when its process is said to be dead."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from sqlalchemy import event

from controller.running import Places
from controller.store import Store, migrations
from controller.store.address import normal
from controller.store.sqlite import SqliteDatabase


def prepared(places: Places) -> None:
    """Lays an empty store, with today's tables, where this controller will look for its own: bringing up the tables takes
    longer than a tester's life."""
    places.state.mkdir(parents=True, exist_ok=True, mode=0o700)
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


class Writer:
    """The connections over which a store writes."""

    def __init__(self) -> None:
        self._connections: list[sqlite3.Connection] = []

    def opened(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        self._connections.append(connection)

    def let_go(self) -> None:
        """What the system does when a process dies: what was not committed is undone, and its lock is free."""
        for connection in self._connections:
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed long ago
                connection.rollback()


def hurried(store: Store) -> Writer:
    """Spares a fresh store the wait for the disk: nobody pulls the plug of this machine."""
    writer, database = Writer(), store._database
    assert isinstance(database, SqliteDatabase)
    event.listen(database._writer, "connect", writer.opened)
    return writer
