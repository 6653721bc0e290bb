"""PostgreSQL: for when one machine, or one process, is not enough.

Readers see one moment throughout a transaction (REPEATABLE READ); writers run at once, and the store tries again when two of
them were in each other's way.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import URL, Engine, NullPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from controller.store.database import Pause, Work, to_the_end

CONNECTIONS: Final = 10

_ARGUMENTS: Final = {
    # A connection that was cut off is noticed in about half a minute, also in the middle of a statement.
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "tester-controller",
    # Who is stopped in the middle of a write keeps nobody waiting for longer.
    "options": "-c idle_in_transaction_session_timeout=5000",
}

T = TypeVar("T")


class PostgresDatabase:
    """A `Database` on a server."""

    def __init__(self, url: URL) -> None:
        self._engine = create_async_engine(
            url,
            hide_parameters=True,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=None,
            pool_pre_ping=True,
            connect_args=_arguments(url),
        )
        self._lines: set[Any] = set()
        event.listen(self._engine.sync_engine, "connect", lambda line, _: self._lines.add(line.driver_connection))
        event.listen(self._engine.sync_engine, "close", lambda line, _: self._lines.discard(line.driver_connection))
        self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def read(self, ask: Work[T]) -> T:
        async with self._reader.connect() as connection:
            return await connection.run_sync(ask)

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        connection = self._engine.connect()
        try:
            await to_the_end(connection.start())
            result = await to_the_end(connection.run_sync(work))
            if pause is not None:
                await pause()
            await to_the_end(connection.commit())
            return result
        finally:
            if connection.sync_connection is not None:
                await to_the_end(connection.close())  # what is not committed is undone

    async def tidy(self) -> None:
        """The server's autovacuum does it."""

    async def aclose(self) -> None:
        await self._engine.dispose()

    def abandon(self) -> None:
        for line in list(self._lines):
            cut(line)


def cut(connection: Any) -> None:
    """Cut a driver's connection: whoever waits for it is told so at once, however the server, or the way there, is."""
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.Error):
        pass  # it is cut already


def migrating_engine(url: URL) -> Engine:
    """An engine without an event loop, for a single connection at a time."""
    return create_engine(url, hide_parameters=True, poolclass=NullPool, connect_args=_arguments(url))


def holding_engine(url: URL, name: str) -> AsyncEngine:
    """An engine for a single connection that stays, under the name of who has it; every statement is one transaction."""
    return create_async_engine(
        url,
        hide_parameters=True,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={**_arguments(url), "application_name": name},
    )


def raw_arguments(url: URL) -> dict[str, Any]:
    """What the driver itself is given for a connection without SQLAlchemy."""
    _, told = create_engine(url, poolclass=NullPool).dialect.create_connect_args(url)
    return {**_ARGUMENTS, **told}


def _arguments(url: URL) -> dict[str, Any]:
    return {key: value for key, value in _ARGUMENTS.items() if key not in url.query}
