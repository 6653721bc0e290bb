"""SQLite: one file, nothing to start.

Write-ahead log, so readers never wait for the writer; one writer at a time; a commit is on the disk when it returns (law 2
leans on that). A whole transaction runs in one go on a thread of the store's own: going to a thread and back costs more than
most statements do. In memory it runs in the caller's thread instead, so that tests in virtual time repeat exactly (law 9).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, StaticPool, create_engine, event

from controller.store import file
from controller.store.address import is_in_memory, place_of
from controller.store.database import Pause, Work, to_the_end
from controller.store.errors import NotNow, StoreError, said_by, said_by_system
from controller.store.together import Writers, run_in

BUSY_MS: Final = 15_000
"""How long a write waits for another process's."""

TURN_MS: Final = 50
"""How often it looks meanwhile whether a store is being prepared still."""

READERS: Final = 4

LEAST_FREE: Final = 256
"""Empty pages (of 4 KiB) for which it is not worth writing the file anew."""

READS: Final = "BEGIN"
WRITES: Final = "BEGIN IMMEDIATE"
"""A writer that only took the lock at its first statement could find that what it had read was old by then."""
FOR_WRITING: Final = {"writes": True}
"""Execution option, where one engine reads and writes, of connections that write."""

T = TypeVar("T")


class SqliteDatabase:
    """A `Database` in a file. `Database.write` serialises writers of this process; other processes wait in SQLite itself."""

    def __init__(self, url: URL) -> None:
        self._writer = _engine(url, WRITES, poolclass=QueuePool, pool_size=1, max_overflow=0)
        self._reader = _engine(url, READS, poolclass=QueuePool, pool_size=READERS, max_overflow=0)
        event.listen(self._reader, "connect", _read_only)
        self._writers = Writers(self._writer)
        self._reading = ThreadPoolExecutor(READERS, "store-reader")

    async def read(self, ask: Work[T]) -> T:
        return await to_the_end(run_in(self._reading, lambda: _ask(self._reader, ask)))

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        return await self._writers.write(work, pause)

    def abandon(self) -> None:
        """Nothing: a file is always there."""

    async def aclose(self) -> None:
        await self._writers.aclose()
        await to_the_end(run_in(self._reading, self._reader.dispose))
        self._reading.shutdown(wait=False)

    async def tidy(self) -> None:
        """Between two writes; a file of a hundred megabytes takes about a second."""
        await self._writers.run(lambda: _tidy(self._writer))


class MemoryDatabase:
    """A `Database` that is gone when it is closed. It uses no thread, and a read never sees half a write."""

    def __init__(self, url: URL) -> None:
        self._engine = _engine(url, poolclass=StaticPool)
        self._turn = asyncio.Lock()

    async def read(self, ask: Work[T]) -> T:
        async with self._turn:
            return _ask(self._engine, ask)

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        async with self._turn:
            if pause is None:
                return _work(self._engine, work)
            with self._engine.begin() as connection:
                result = work(connection)
                await pause()
                return result

    def abandon(self) -> None:
        """Nothing: neither is there any way to it."""

    async def aclose(self) -> None:
        async with self._turn:
            self._engine.dispose()

    async def tidy(self) -> None:
        """It is gone soon enough."""


def prepare(url: URL) -> None:
    """Make the folder and the file, for their owner only, with the write-ahead log on. Raises StoreError when that fails, and
    for what is there and cannot be used: it is left as it is.

    The switch to the log cannot wait for another process that does the same: processes take turns by a lock on the folder.
    """
    path, place = Path(str(url.database)), place_of(url)
    try:
        file.check_writable(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _turn_in(path.parent, place):
            _prepare(path)
    except OSError as error:
        raise StoreError(f"The store {place} cannot be made: {said_by_system(error)}.") from error
    except sqlite3.Error as error:
        raise said_by(place, error) from error


def migrating_engine(url: URL) -> Engine:
    """An engine for a single connection at a time, each a new one."""
    return _engine(url, poolclass=NullPool)


@contextmanager
def _turn_in(folder: Path, place: str) -> Iterator[None]:
    """Alone among processes that prepare a store there. Raises NotNow when another one takes too long."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for left in reversed(range(max(1, BUSY_MS // TURN_MS))):
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise NotNow(
                        f"The store {place} is being opened by another process for too long; see who has {folder} open "
                        f"(`fuser -v {folder}`), then try again."
                    ) from None
                time.sleep(TURN_MS / 1000)
        yield
    finally:
        os.close(opened)


def _prepare(path: Path) -> None:
    file.check_not_emptied(path)
    if not path.exists():
        _make(path)
    file.make_private(path)  # SQLite gives the log beside it the same mode
    _turn_log_on(path)


def _make(path: Path) -> None:
    """Whole or not at all: a file without content is one that something else has emptied."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _turn_log_on(draft)
        draft.rename(path)
    finally:
        for end in file.BESIDE:
            Path(f"{draft}{end}").unlink(missing_ok=True)


def _turn_log_on(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=BUSY_MS / 1000)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _engine(url: URL, begins: str = "", **options: Any) -> Engine:
    """`begins`: every transaction; "": each as its connection's options say, which takes longer than many a statement."""
    file = {} if is_in_memory(url) else {"connect_args": {"check_same_thread": False}}
    engine = create_engine(url, hide_parameters=True, **file, **options)
    event.listen(engine, "connect", _tune)
    if begins:
        engine.dialect.do_begin = lambda connection: connection.cursor().execute(begins)  # type: ignore[assignment]
    else:
        event.listen(engine, "begin", _begin)
    return engine


def _tune(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; we say how a transaction begins
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "foreign_keys = ON",
        "synchronous = FULL",
        "secure_delete = ON",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _read_only(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only = ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql(WRITES if writes else READS)


def _ask(engine: Engine, ask: Work[T]) -> T:
    with engine.connect() as connection:
        return ask(connection)


def _work(engine: Engine, work: Work[T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _tidy(engine: Engine) -> None:
    """Anew what is to more than a quarter empty; what the log holds goes into the file."""
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        (free,), (pages,) = (cursor.execute(f"PRAGMA {what}").fetchone() for what in ("freelist_count", "page_count"))
        if free > LEAST_FREE and free * 4 > pages:
            cursor.execute("VACUUM")
        cursor.execute("PRAGMA optimize")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.close()
