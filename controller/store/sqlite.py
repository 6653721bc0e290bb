"""SQLite: one file, nothing to start.

Write-ahead log, so readers never wait for the writer; one writer at a time; a commit is on the disk when it returns (law 2
leans on that). A whole transaction runs in one go on a thread of the store's own: going to a thread and back costs more than
most statements do. In memory it runs in the caller's thread instead, so that tests in virtual time repeat exactly (law 9).

Waiting for the disk is most of a commit. So what was asked for while another write was under way is written in one
transaction, and each who asked is told when all of it is on the disk. Should anything in it fail, each is tried alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, StaticPool, create_engine, event

from controller.store.address import is_in_memory, place_of
from controller.store.database import Pause, Work, to_the_end
from controller.store.errors import StoreError
from controller.store.writing import Making, make_all

BUSY_MS: Final = 15_000
"""How long a write waits for another process's."""

READERS: Final = 4

LEAST_FREE: Final = 256
"""Empty pages (of 4 KiB) for which it is not worth writing the file anew."""

MOST_TOGETHER: Final = 64
"""Writes in one transaction."""
FOR_WRITING: Final = {"writes": True}
"""Execution option of connections whose transactions take the write lock when they begin."""

T = TypeVar("T")


@dataclass(eq=False)
class _Asked(Generic[T]):
    """A write that waits for its turn. `outcome`: what came of it, in a tuple, or what it raised."""

    work: Work[T]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: tuple[T] | BaseException | None = None

    def result(self) -> T:
        if self.outcome is None:
            raise StoreError("the write was not begun")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome[0]


class SqliteDatabase:
    """A `Database` in a file. `Database.write` serialises writers of this process; other processes wait in SQLite itself."""

    def __init__(self, url: URL) -> None:
        self._writer = _engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, execution_options=FOR_WRITING)
        self._reader = _engine(url, poolclass=QueuePool, pool_size=READERS, max_overflow=0)
        event.listen(self._reader, "connect", _read_only)
        self._writing = ThreadPoolExecutor(1, "store-writer")
        self._reading = ThreadPoolExecutor(READERS, "store-reader")
        self._turn = asyncio.Lock()
        self._asked: deque[_Asked[Any]] = deque()
        self._answering: asyncio.Task[None] | None = None

    async def read(self, ask: Work[T]) -> T:
        return await to_the_end(_in(self._reading, lambda: _ask(self._reader, ask)))

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        if pause is not None:
            async with self._turn:
                return await self._write_with_pause(work, pause)
        mine = _Asked(work)
        self._asked.append(mine)
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer())
        try:
            await mine.ended.wait()
        except asyncio.CancelledError:
            if mine in self._asked:
                self._asked.remove(mine)
            else:  # it is begun
                await to_the_end(mine.ended.wait())
            raise
        return mine.result()

    async def _answer(self) -> None:
        """Until nothing is asked for. It begins a turn of the loop later: who asks in the same one goes along."""
        try:
            while self._asked:
                async with self._turn:
                    await self._write_together()
                await asyncio.sleep(0)
        finally:
            _tell(self._asked)

    async def _write_together(self) -> None:
        """All that was asked for, as far as it may be, in the order in which it was."""
        some = [self._asked.popleft() for _ in range(min(len(self._asked), MOST_TOGETHER))]
        try:
            await to_the_end(_in(self._writing, lambda: _all(self._writer, some)))
        finally:
            _tell(some)

    def abandon(self) -> None:
        """Nothing: a file is always there."""

    async def aclose(self) -> None:
        if self._answering is not None:
            await asyncio.wait({self._answering})
        async with self._turn:
            await to_the_end(_in(self._reading, self._reader.dispose))
            await to_the_end(_in(self._writing, self._writer.dispose))
            self._reading.shutdown(wait=False)
            self._writing.shutdown(wait=False)

    async def tidy(self) -> None:
        """Between two writes; a file of a hundred megabytes takes about a second."""
        async with self._turn:
            await to_the_end(_in(self._writing, lambda: _tidy(self._writer)))

    async def _write_with_pause(self, work: Work[T], pause: Pause) -> T:
        opened: list[Connection] = []  # so that a connection is closed even if we are cancelled while it is handed over
        try:
            await to_the_end(_in(self._writing, lambda: opened.append(self._writer.connect())))
            connection = opened[0]
            result = await to_the_end(_in(self._writing, lambda: work(connection)))
            await pause()
            await to_the_end(_in(self._writing, connection.commit))
            return result
        finally:
            for connection in opened:
                await to_the_end(_in(self._writing, connection.close))  # what is not committed is undone


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
    """Make the folder and the file, for their owner only, and turn the write-ahead log on. Raises StoreError when that fails.

    The switch to the log cannot wait for another process that does the same: processes take turns by a lock on the folder.
    """
    try:
        _prepare(Path(str(url.database)))
    except OSError as error:
        raise StoreError(f"The store {place_of(url)} cannot be made: {error.strerror or error}.") from error
    except sqlite3.Error as error:
        raise StoreError(f"The store {place_of(url)} cannot be opened: {error}.") from error


def migrating_engine(url: URL) -> Engine:
    """An engine for a single connection at a time, each a new one."""
    return _engine(url, poolclass=NullPool)


def _prepare(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)  # SQLite gives the log beside it the same mode
        with closing(sqlite3.connect(path, timeout=BUSY_MS / 1000)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    finally:
        os.close(folder)


def _engine(url: URL, **options: Any) -> Engine:
    file = {} if is_in_memory(url) else {"connect_args": {"check_same_thread": False}}
    engine = create_engine(url, hide_parameters=True, **file, **options)
    event.listen(engine, "connect", _tune)
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
    # A writer that only took the lock at its first statement could find that what it had read was old by then.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _ask(engine: Engine, ask: Work[T]) -> T:
    with engine.connect() as connection:
        return ask(connection)


def _work(engine: Engine, work: Work[T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _tell(asked: Iterable[_Asked[Any]]) -> None:
    for each in asked:
        each.ended.set()


def _all(engine: Engine, asked: Sequence[_Asked[Any]]) -> None:
    """In one transaction, or else each in its own: who fails must not take the others with him."""
    if len(asked) > 1 and _together(engine, asked):
        return
    for each in asked:
        try:
            each.outcome = (_work(engine, each.work),)
        except Exception as error:
            each.outcome = error


def _together(engine: Engine, asked: Sequence[_Asked[Any]]) -> bool:
    """False: one of them fails, and nothing is written. A commit that fails is everybody's failure: nobody tries it again."""
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            try:
                results = _results(connection, asked)
            except Exception:
                transaction.rollback()
                return False
    except Exception as error:
        for each in asked:
            each.outcome = error
        return True
    for each, result in zip(asked, results, strict=True):
        each.outcome = (result,)
    return True


def _results(connection: Connection, asked: Sequence[_Asked[Any]]) -> list[Any]:
    """Writes of changes that follow each other are made in one go: a statement for many rows costs little more than for one."""
    results: list[Any] = []
    for _, some in groupby((each.work for each in asked), lambda work: isinstance(work, Making)):
        works = list(some)
        makings = [work for work in works if isinstance(work, Making)]
        if makings:
            make_all(connection, makings)
        results += [None] * len(makings) if makings else [work(connection) for work in works]
    return results


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


def _in(executor: Executor, call: Callable[[], T]) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(executor, call)
