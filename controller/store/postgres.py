"""PostgreSQL: for when one machine, or one process, is not enough.

Readers see one moment throughout a transaction (REPEATABLE READ); writers run at once, and the store tries again when two of
them were in each other's way.
"""

from __future__ import annotations

import os
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import URL, Engine, NullPool, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from controller.store.database import Pause, Work, to_the_end
from controller.store.together import Writers, run_in

WRITERS: Final = 3
READERS: Final = 4

HUNG_UP: Final = getattr(select, "POLLRDHUP", 0)  # that, and what is told unasked: errors and the end of both ways

WRITER: Final = "tester-controller"
"""The name of sessions that write."""

_ARGUMENTS: Final = {
    # A connection that was cut off is noticed in about half a minute, also in the middle of a statement.
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": WRITER,
    # Who is stopped in the middle of a write keeps nobody waiting for longer.
    "options": "-c idle_in_transaction_session_timeout=5000",
}

T = TypeVar("T")


class PostgresDatabase:
    """A `Database` on a server. A whole transaction runs in one go on a thread, as on SQLite; `abandon` reaches into it."""

    def __init__(self, url: URL) -> None:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=WRITERS + READERS,
            max_overflow=0,
            connect_args=_arguments(url),
        )
        self._lines: set[Any] = set()
        event.listen(engine, "connect", lambda line, _: self._lines.add(line))
        event.listen(engine, "close", lambda line, _: self._lines.discard(line))
        event.listen(engine, "checkout", _still_there)
        self._reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writers = Writers(engine, WRITERS)
        self._reading = ThreadPoolExecutor(READERS, "store-reader")

    async def read(self, ask: Work[T]) -> T:
        return await to_the_end(run_in(self._reading, lambda: self._ask(ask)))

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        return await self._writers.write(work, pause)

    async def tidy(self) -> None:
        """The server's autovacuum does it."""

    async def aclose(self) -> None:
        await self._writers.aclose()
        self._reading.shutdown(wait=False)

    def abandon(self) -> None:
        for line in list(self._lines):
            cut(line)

    def _ask(self, ask: Work[T]) -> T:
        with self._reader.connect() as connection:
            return ask(connection)


def _still_there(line: Any, _record: object, _proxy: object) -> None:
    """Before it is used again: the server may have ended the session meanwhile. Takes microseconds, a question a round trip."""
    poll = select.poll()
    poll.register(line.fileno(), HUNG_UP)
    if poll.poll(0):
        raise InvalidatePoolError


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
