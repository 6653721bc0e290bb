"""Writes on a server: under leases, behind somebody else's locks, and when the server ends the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from controller.store.address import normal
from controller.store.fencing import Fenced, Lease, NotOurs
from controller.store.postgres import PostgresDatabase

FIRST, SECOND = Lease(1, 7, 1), Lease(2, 3, 1)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[PostgresDatabase]:
    opened = PostgresDatabase(normal(postgres_url))
    for each in (FIRST, SECOND):
        row = {"key": each.key, "epoch": each.epoch}
        await opened.write(lambda connection, row=row: connection.execute(TAKE, row), None)  # type: ignore[misc]
    yield opened
    await opened.aclose()


TAKE = text("INSERT INTO leases (key, epoch, holder, since) VALUES (:key, :epoch, 'me', now())")
NOTE = text("INSERT INTO leases (key, epoch, holder, since) VALUES (:key, 1, 'noted', now())")


class Note:
    """Leaves a row behind, in how many tries."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tries = 0

    def __call__(self, connection: Connection) -> int:
        self.tries += 1
        connection.execute(NOTE, {"key": self.number})
        return self.number


async def noted(database: PostgresDatabase) -> set[int]:
    asked = text("SELECT key FROM leases WHERE holder = 'noted'")
    return set(await database.read(lambda connection: connection.scalars(asked).all()))


async def all_of(*writes: asyncio.Future[int]) -> list[object]:
    return list(await asyncio.gather(*writes, return_exceptions=True))


def begun(database: PostgresDatabase, work: Note | Fenced[int]) -> asyncio.Task[int]:
    return asyncio.create_task(database.write(work, None))


async def test_writes_under_several_leases_are_one_and_whose_lease_is_lost_fails_alone(
    database: PostgresDatabase,
) -> None:
    lost = Lease(SECOND.key, SECOND.epoch - 1, 1)
    notes = [Note(number) for number in (11, 12, 13, 14)]
    under = (FIRST, SECOND, lost, FIRST)
    found = await all_of(*(begun(database, Fenced(note, lease)) for note, lease in zip(notes, under, strict=True)))
    assert [type(each) for each in found] == [int, int, NotOurs, int]
    assert await noted(database) == {11, 12, 14}
    assert notes[2].tries == 0


async def test_nobody_takes_a_lease_under_which_somebody_writes(database: PostgresDatabase, postgres_url: str) -> None:
    """Of each lease of a group, from its check to its commit."""

    def taken(connection: Connection) -> int:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SET lock_timeout = '20ms'")
            for lease in (FIRST, SECOND):
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    other.execute("UPDATE leases SET epoch = epoch + 1 WHERE key = %s", [lease.key])
        return 1

    first = asyncio.create_task(database.write(Fenced(taken, FIRST), None))
    assert await all_of(first, begun(database, Fenced(Note(12), SECOND))) == [1, 12]


async def test_a_write_behind_somebody_elses_lock_holds_up_no_other(
    database: PostgresDatabase, postgres_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url) as other:
        await other.execute("UPDATE leases SET since = now() WHERE key = %s", [FIRST.key])
        waits = begun(database, Fenced(Note(11), FIRST))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it has begun: what is asked for now does not go along
        assert await database.write(Fenced(Note(12), SECOND), None) == 12
        assert database._writers._held_up
        assert await database.write(Fenced(Note(13), SECOND), None) == 13
        assert not waits.done()
        await other.rollback()
    assert await waits == 11
    assert not database._writers._held_up


async def test_a_session_that_ends_in_the_middle_fails_all_and_nobody_is_tried_alone(
    database: PostgresDatabase,
) -> None:
    def ended(connection: Connection) -> int:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return 0

    notes = Note(11), Note(12)
    first, end = begun(database, notes[0]), asyncio.create_task(database.write(ended, None))
    found = await all_of(first, end, begun(database, notes[1]))
    assert all(isinstance(each, DBAPIError) for each in found)
    assert [each.tries for each in notes] == [1, 0]
    assert await noted(database) == set()
    assert await database.write(Note(13), None) == 13


async def test_a_session_that_the_server_has_ended_meanwhile_is_not_used_again(
    database: PostgresDatabase, postgres_url: str
) -> None:
    await noted(database)  # one for reading, one for writing
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await database.write(Note(11), None) == 11
    assert await noted(database) == {11}


async def test_what_is_under_way_is_abandoned_at_once(database: PostgresDatabase, postgres_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url) as other:
        await other.execute("UPDATE leases SET since = now() WHERE key = %s", [FIRST.key])
        waits = begun(database, Fenced(Note(11), FIRST))
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
            while not await (await admin.execute("SELECT 1 FROM pg_locks WHERE NOT granted")).fetchone():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        database.abandon()
        with pytest.raises(DBAPIError):
            await waits
    assert await noted(database) == set()
