"""One working controller to a store: two on the same books would make everything twice.

Only who works on the testers holds it; reading the books, or sealing a secret, goes on beside. It falls with its holder, however
that one ends: on SQLite it is a lock on a file beside the database, on PostgreSQL a session's advisory lock, so that two state
folders on one database are noticed as well.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError

from controller.store.address import is_in_memory, is_postgres, normal, place_of
from controller.store.errors import StoreError, readable
from controller.store.file import check_writable, unwritable
from reconcilers.clock import Clock

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

LOCK: Final = 0x7E57_C0DF
"""The number under which PostgreSQL keeps working controllers apart."""

RETRY: Final = timedelta(seconds=2)

SIGN_OF_LIFE: Final = timedelta(minutes=1)

LOCK_TRIES, LOCK_TRIED_EVERY = 3, 0.05  # seconds

LONGEST_NAME: Final = 63
"""Of an application, as PostgreSQL keeps it."""

# The server notices in half a minute that a holder's machine is gone; by itself it would take hours.
_NOTICE: Final = text(
    "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), "
    "set_config('tcp_keepalives_count', '3', false)"
)
_TRY: Final = text("SELECT pg_try_advisory_lock(:lock)")
WHO: Final = text(
    "SELECT pid, application_name, client_addr, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = 0 AND objid = :lock "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@asynccontextmanager
async def alone(url: str, clock: Clock) -> AsyncIterator[None]:
    """Hold a store against every other controller.

    Raises StoreError, saying who has it and what to do, when somebody else holds it, also when somebody else got it while
    our connection to it was broken: then what runs within is cancelled.
    """
    address = normal(url)
    if is_in_memory(address):
        yield
    elif is_postgres(address):
        async with _session_lock(address, clock):
            yield
    else:
        async with _file_lock(address, clock):
            yield


@asynccontextmanager
async def _file_lock(address: URL, clock: Clock) -> AsyncIterator[None]:
    path = Path(str(address.database))
    check_writable(path)
    try:
        file = _lock_file(path)
    except OSError as error:
        raise _not_locked(address, error) from error
    with file:
        try:
            await _flocked(file)
        except BlockingIOError:
            file.seek(0)
            raise _held(address, file.read().strip(), "a folder of its own (--state)") from None
        try:
            file.truncate(0)
            os.write(file.fileno(), f"{_us()}\n".encode())  # past the buffer, which would be written again at the close
        except OSError as error:
            raise _not_locked(address, error) from error
        sign = asyncio.ensure_future(_signs_of_life(lock_path(address), clock))
        try:
            yield
        finally:
            sign.cancel()


async def _flocked(file: TextIO) -> None:
    """Who only looks whether it is held has it for an instant. Raises BlockingIOError when somebody else keeps it."""
    for left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
        await asyncio.sleep(LOCK_TRIED_EVERY)


async def _signs_of_life(path: Path, clock: Clock) -> None:
    """The file's time tells later how long nobody has worked on the store."""
    while True:
        with suppress(OSError):
            os.utime(path)
        await clock.sleep(SIGN_OF_LIFE)


def lock_path(address: URL) -> Path:
    """Of a store on SQLite."""
    return _beside(Path(str(address.database)))


def _beside(database: Path) -> Path:
    return database.resolve().with_suffix(".lock")


def _lock_file(database: Path) -> TextIO:
    """Beside the database itself: who comes to it by a link meets the same lock. Raises OSError."""
    path = _beside(database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


@asynccontextmanager
async def _session_lock(address: URL, clock: Clock) -> AsyncIterator[None]:
    # Only who has a server pays for its driver: it is slow to import.
    from controller.store.postgres import holding_engine

    engine = holding_engine(address, f"tester-controller, {_us()}"[:LONGEST_NAME])
    task = asyncio.current_task()
    try:
        held = [await _locked(engine, address)]
        watch = asyncio.ensure_future(_keep(held, engine, address, clock))
        watch.add_done_callback(lambda done: None if done.cancelled() or task is None else task.cancel())
        try:
            yield
        except asyncio.CancelledError:
            if task is None or not watch.done() or task.uncancel() > 0:
                raise
            watch.result()  # raises why it is not ours any more
        finally:
            watch.cancel()
            await asyncio.wait([watch])
            await _end(held[0])
    except SQLAlchemyError as error:
        raise readable(place_of(address), error) from error
    finally:
        await engine.dispose()


async def _keep(held: list[AsyncConnection], engine: AsyncEngine, address: URL, clock: Clock) -> None:
    """Take the lock again whenever its connection breaks: while the server is away nobody can write anyway. Raises StoreError
    when somebody else was quicker."""
    while True:
        await _broken(held[0])
        await _end(held[0])
        held[0] = await _again(engine, address, clock)


async def _again(engine: AsyncEngine, address: URL, clock: Clock) -> AsyncConnection:
    while True:
        try:
            return await _locked(engine, address)
        except SQLAlchemyError:
            await clock.sleep(RETRY)


async def _broken(connection: AsyncConnection) -> None:
    """Until the connection ends. Nobody notifies us of anything: to wait for that is to wait for the end."""
    session: Any = (await connection.get_raw_connection()).driver_connection
    with suppress(_driver_error()):
        async for _ in session.notifies():
            pass


def _driver_error() -> type[Exception]:
    import psycopg  # imported long ago by then, but only where there is a server

    return psycopg.Error


async def _end(connection: AsyncConnection) -> None:
    """Its session ends, and the lock with it."""
    if connection.invalidated or connection.closed:
        return
    session: Any = (await connection.get_raw_connection()).driver_connection
    with suppress(_driver_error()):
        await session.close()
    await connection.invalidate()
    await connection.close()


async def _locked(engine: AsyncEngine, address: URL) -> AsyncConnection:
    """A connection that holds the lock. Raises StoreError when another one does, SQLAlchemyError."""
    connection = await engine.connect()
    try:
        await connection.execute(_NOTICE)
        if await connection.scalar(_TRY, {"lock": LOCK}):
            return connection
        holder = (await connection.execute(WHO, {"lock": LOCK})).first()
    except BaseException:
        await connection.close()
        raise
    await connection.close()
    raise _held(address, _in_words(holder), "a database of its own (DATABASE_URL)")


def _in_words(holder: Any) -> str:
    if holder is None:
        return ""
    where = f"from {holder.client_addr}" if holder.client_addr else "on the server's own machine"
    since = f"since {holder.backend_start:%Y-%m-%d %H:%M %Z}" if holder.backend_start else ""
    return (
        f"{holder.application_name or 'unknown'}, connected {where} {since} (if that one is gone for good, run "
        f"`SELECT pg_terminate_backend({holder.pid})` on the server)"
    )


def _held(address: URL, holder: str, other: str) -> StoreError:
    return StoreError(
        f"Another controller works with the store {place_of(address)}: {holder or 'it does not say which'}. "
        f"Stop that one first, or give this one {other}."
    )


def _not_locked(address: URL, error: OSError) -> StoreError:
    path, place = lock_path(address), place_of(address)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"The store {place} cannot be locked, because the disk is full ({path}); make room.")
    if isinstance(error, PermissionError) and path.exists():
        return StoreError(f"The store {place} cannot be locked: {unwritable(path)}")
    return StoreError(f"The store {place} cannot be locked: {path}: {error.strerror or error}.")


def _us() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
