"""Writes that wait for one another are one commit; who fails among them fails alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import SQLAlchemyError

from controller.records import Change, PutTester
from controller.store import Keyring, Store
from controller.store.address import normal
from controller.store.errors import StoreError
from controller.store.opening import database_of
from controller.store.postgres import PostgresDatabase
from controller.store.sqlite import SqliteDatabase
from controller.store.together import MOST_TOGETHER
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import a_tester

Grouping = SqliteDatabase | PostgresDatabase


@pytest.fixture
def url(any_database_url: str) -> URL:
    return normal(any_database_url)


@pytest.fixture
async def database(url: URL, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Grouping]:
    """Where nobody goes another way because this machine was busy for a moment."""
    monkeypatch.setattr("controller.store.together.HELD_UP", 600.0)
    opened = open_(url)
    await opened.write(lambda connection: connection.execute(text("create table kept (n integer primary key)")), None)
    yield opened
    await opened.write(lambda connection: connection.execute(text("drop table kept")), None)
    await opened.aclose()


def open_(url: URL) -> Grouping:
    opened = database_of(url)
    assert isinstance(opened, SqliteDatabase | PostgresDatabase)
    return opened


@pytest.fixture
def commits(database: Grouping) -> list[str]:
    found: list[str] = []
    event.listen(database._writers._engine, "commit", lambda _: found.append("commit"))
    return found


async def put(database: Grouping, number: int, *, then: Exception | None = None) -> int:
    def work(connection: Connection) -> int:
        connection.execute(text("insert into kept values (:n)"), {"n": number})
        if then is not None:
            raise then
        return number

    return await database.write(work, None)


async def under_way(database: Grouping, go_on: threading.Event) -> asyncio.Task[int]:
    """A write of 0 that has begun: who asks now goes with the next."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def work(connection: Connection) -> int:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(60)
        connection.execute(text("insert into kept values (0)"))
        return 0

    writing = asyncio.create_task(database.write(work, None))
    await begun.wait()
    return writing


async def kept(database: Grouping) -> list[int]:
    return list(await database.read(lambda connection: connection.scalars(text("select n from kept order by n")).all()))


async def test_what_waits_is_written_in_one_commit(database: Grouping, commits: list[str]) -> None:
    many = MOST_TOGETHER + 10
    assert await asyncio.gather(*(put(database, each) for each in range(many))) == list(range(many))
    assert await kept(database) == list(range(many))
    assert len(commits) <= 4


async def test_who_fails_fails_alone(database: Grouping) -> None:
    found = await asyncio.gather(
        *(put(database, each % 5, then=KeyError("no") if each == 3 else None) for each in range(6)),
        return_exceptions=True,
    )
    assert [found[each] for each in (0, 1, 2, 4)] == [0, 1, 2, 4]
    assert isinstance(found[3], KeyError)
    assert isinstance(found[5], SQLAlchemyError)  # there is a 0 already
    assert await kept(database) == [0, 1, 2, 4]


async def test_a_commit_that_fails_fails_for_all_and_is_not_tried_again(database: Grouping, commits: list[str]) -> None:
    await put(database, 100)

    def refused(_connection: Connection) -> None:
        commits.append("refused")
        raise OSError("the disk is gone")

    event.listen(database._writers._engine, "commit", refused)
    go_on = threading.Event()
    asked = [await under_way(database, go_on), *(asyncio.ensure_future(put(database, each)) for each in (1, 2, 3))]
    await asyncio.sleep(0)  # these wait
    go_on.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    event.remove(database._writers._engine, "commit", refused)
    assert all(isinstance(each, OSError) for each in found)
    assert commits.count("refused") == 2
    assert await kept(database) == [100]
    assert await put(database, 5) == 5


async def test_who_is_cancelled_before_its_turn_writes_nothing_and_later_is_seen_to_the_end(
    database: Grouping,
) -> None:
    go_on = threading.Event()
    tasks = [await under_way(database, go_on), *(asyncio.ensure_future(put(database, each)) for each in (1, 2, 3))]
    await asyncio.sleep(0)  # these wait
    tasks[0].cancel()
    tasks[2].cancel()
    await asyncio.sleep(0)
    assert not tasks[0].done()
    go_on.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found] == [asyncio.CancelledError, int, asyncio.CancelledError, int]
    assert await kept(database) == [0, 1, 3]


async def test_what_is_written_is_heard_of_though_its_writer_was_cancelled_meanwhile(
    any_database_url: str, clock: ManualClock
) -> None:
    store = await Store.open(any_database_url, Keyring.generate(), clock)
    heard: list[Change] = []
    store.listeners.append(heard.extend)
    begun, go_on = threading.Event(), threading.Event()

    def held(_: Connection) -> None:
        begun.set()
        go_on.wait(20)

    database = store._database
    assert isinstance(database, Grouping)
    event.listen(database._writers._engine, "commit", held)
    writing = asyncio.ensure_future(store.write(PutTester(a_tester("alice"))))
    await asyncio.to_thread(begun.wait, 20)
    writing.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert [type(each) for each in heard] == [PutTester]
    assert await store.names() == ("alice",)
    await store.aclose()


async def test_what_was_asked_for_is_written_before_the_database_is_let_go_of(database: Grouping, url: URL) -> None:
    other = open_(url)
    asked = [asyncio.ensure_future(put(other, each)) for each in range(3)]
    await asyncio.sleep(0)
    await other.aclose()
    assert [await each for each in asked] == [0, 1, 2]
    assert await kept(database) == [0, 1, 2]


async def test_what_was_told_not_to_be_written_never_is(database: Grouping) -> None:
    """The loop is stopped, and somebody still writes while it ends."""
    go_on = threading.Event()
    begun = await under_way(database, go_on)
    waits = asyncio.ensure_future(put(database, 1))
    await asyncio.sleep(0)
    (answering,) = database._writers._answering
    answering.cancel()
    go_on.set()
    with pytest.raises(StoreError):
        await waits
    assert await begun == 0
    assert await put(database, 2) == 2
    assert await kept(database) == [0, 2]
