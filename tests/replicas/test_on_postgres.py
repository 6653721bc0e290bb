"""What PostgreSQL itself does for replicas: takes locks from the silent, undoes a former holder's writes, passes words on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from controller.news import Kind, Topic
from controller.records import AddEvent, Change, PutTester
from controller.replicas.words import Word, Words
from controller.store import Keyring, Store
from controller.store.address import normal
from controller.store.errors import StoreError
from controller.store.fencing import Lease, NotOurs
from controller.store.line import open_line
from controller.store.locks import LOCKS, LockSession, SessionLost
from controller.store.postgres import WRITER
from reconcilers.clock import SystemClock
from tests.controller.fakes import ManualClock, until
from tests.controller.store.samples import a_tester, an_event

SHORT = timedelta(seconds=2)
LONG = timedelta(seconds=60)


async def session(url: str, lease: timedelta = LONG) -> LockSession:
    return await LockSession.open(normal(url), "a replica", lease)


async def test_the_server_takes_the_locks_of_who_is_silent(postgres_url: str) -> None:
    silent, other = await session(postgres_url), await session(postgres_url)
    assert await silent.take(LOCKS, range(10), 4) == (0, 1, 2, 3)
    assert await silent.take(LOCKS, range(4, 10), 9) == (4, 5, 6, 7, 8, 9)
    assert await other.take(LOCKS, range(10), 10) == ()
    seen = await other.beat()
    assert len(seen.members) == 2
    assert set(seen.holders) == set(range(10))
    await silent._ask("SET idle_session_timeout = 100")  # by now: a lease so short might end before all this was seen
    silent._over.set()  # its thread gives no sign any more, as if the process were stopped
    async with asyncio.timeout(30):
        while (await other.beat()).members != {seen.me}:  # noqa: ASYNC110 - the server does it
            await asyncio.sleep(0.05)
    with pytest.raises(SessionLost):
        await silent.beat()
    got = await other.take(LOCKS, range(10), 10)
    assert len(got) == 10
    await other.free(LOCKS, got[:5])
    assert set((await other.beat()).holders) == set(got[5:])
    await other.aclose()


async def test_a_loop_that_has_much_to_do_loses_nothing_and_one_that_never_turns_does(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, other = await session(postgres_url, SHORT), await session(postgres_url)
    assert await busy.take(LOCKS, [1], 1) == (1,)
    sent, began = busy.sent, time.monotonic()
    while busy.sent < sent + 2 * SHORT.total_seconds():
        assert time.monotonic() - began < 30, "its thread gives signs of life"
        time.sleep(0.01)  # noqa: ASYNC251 - that is what it is about
    assert await other.take(LOCKS, [1], 1) == ()
    assert (await busy.beat()).holders.keys() == {1}
    monkeypatch.setattr("controller.store.locks.PATIENCE", 0.1)
    async with asyncio.timeout(30):
        while not await other.take(LOCKS, [1], 1):  # noqa: ASYNC110 - the server does it
            await asyncio.sleep(0.05)
    for each in (busy, other):
        await each.aclose()


async def test_who_is_ended_by_the_server_sees_it_without_asking(postgres_url: str) -> None:
    one = await session(postgres_url)
    me = (await one.beat()).me
    assert not one.hung_up
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [me])
    await until(lambda: one.hung_up)
    with pytest.raises(SessionLost):
        await one.beat()
    assert one.hung_up
    await one.aclose()


async def test_a_server_is_young_for_as_long_as_a_former_holder_may_be_certain(postgres_url: str) -> None:
    young, old = (
        await session(postgres_url, timedelta(days=1)),
        await session(postgres_url, SHORT),
    )
    assert not (await young.beat()).young, "nobody has ever held anything"
    await young.raise_epochs([3], "us")
    assert (await young.beat()).young
    async with asyncio.timeout(30):
        while (await old.beat()).young:  # noqa: ASYNC110 - the server's clock
            await asyncio.sleep(0.1)
    for each in (young, old):
        await each.aclose()


async def test_who_is_aborted_is_told_at_once(postgres_url: str) -> None:
    one = await session(postgres_url)
    slow = asyncio.ensure_future(one._ask("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.05)
    one.abort()
    with pytest.raises(SessionLost):
        await slow
    await one.aclose()
    with pytest.raises(SessionLost):
        await one.take(LOCKS, [1], 1)


@dataclass
class Holding:
    """Questions wait here on their way to the server: `begun` when one does, until `go_on`."""

    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> Holding:
    held, asked = Holding(), LockSession._asked

    def later(session: LockSession, statement: str, given: Any) -> list[Any]:
        held.begun.set()
        held.go_on.wait(30)
        return asked(session, statement, given)

    held.go_on.set()
    monkeypatch.setattr(LockSession, "_asked", later)
    return held


async def cancelled_on_the_way(holding: Holding, asking: Awaitable[Any]) -> None:
    """Once the question is under way, or waits for one that is; then the server answers."""
    holding.go_on.clear()
    holding.begun.clear()
    task = asyncio.ensure_future(asking)
    await until(holding.begun.is_set)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    holding.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_cancelled_while_it_asks_for_locks_holds_none(postgres_url: str, holding: Holding) -> None:
    one, other = await session(postgres_url), await session(postgres_url)
    await cancelled_on_the_way(holding, one.take(LOCKS, range(10), 4))
    await one.beat()
    assert await other.take(LOCKS, range(4), 4) == (0, 1, 2, 3)
    for each in (one, other):
        await each.aclose()


async def test_what_is_given_back_is_free_also_when_who_gives_it_is_cancelled(
    postgres_url: str, holding: Holding
) -> None:
    one, other = await session(postgres_url), await session(postgres_url)
    taken = await one.take(LOCKS, range(10), 4)
    before = asyncio.ensure_future(one.beat())
    await cancelled_on_the_way(holding, one.free(LOCKS, taken))
    await before
    await one.beat()
    assert await other.take(LOCKS, taken, 4) == taken
    for each in (one, other):
        await each.aclose()


async def test_a_session_whose_opening_is_cancelled_ends(postgres_url: str, holding: Holding) -> None:
    """It would count as a replica, and a share be left for it."""
    await cancelled_on_the_way(holding, LockSession.open(normal(postgres_url), "cancelled", LONG))
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        there = "SELECT FROM pg_stat_activity WHERE application_name = 'cancelled'"
        await until(lambda: admin.execute(there).rowcount == 0)


async def test_a_pooler_that_drops_the_lease_of_a_session_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = psycopg.Connection.connect
    monkeypatch.setattr(psycopg.Connection, "connect", lambda **given: connect(**{**given, "options": ""}))
    with pytest.raises(StoreError, match=r"after 0 ms .* Let DATABASE_URL lead straight to PostgreSQL"):
        await session(postgres_url)


async def test_a_session_is_known_by_what_the_server_calls_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)  # as poolers invent one
    one = await session(postgres_url)
    await one.take(LOCKS, [1], 1)
    seen = await one.beat()
    assert seen.holders == {1: seen.me}
    assert seen.me in seen.members
    await one.aclose()


@pytest.fixture
async def shared(postgres_url: str, keyring: Keyring, clock: ManualClock) -> AsyncIterator[tuple[Store, LockSession]]:
    """A store with a fence, and a session of who takes leases."""
    store, taker = await Store.open(postgres_url, keyring, clock), await session(postgres_url)
    yield store, taker
    await store.aclose()
    await taker.aclose()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.generate()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_what_is_written_under_a_lease_that_was_taken_is_undone(shared: tuple[Store, LockSession]) -> None:
    store, taker = shared
    epochs = await taker.raise_epochs([3, 100], "us")
    assert epochs == {3: 1, 100: 1}
    store.fence = lambda changes: Lease(3, epochs[3], 1)
    await store.write(PutTester(a_tester("alice")))
    assert await taker.raise_epochs([3], "them") == {3: 2}
    commits = store.commits
    with pytest.raises(NotOurs):
        await store.write(PutTester(a_tester("bob")), AddEvent(an_event("bob")))
    assert [one.name for one in await store.testers()] == ["alice"]
    assert await store.events() == ()
    assert store.commits == commits


async def test_who_takes_a_lease_waits_for_the_write_that_is_under_way(shared: tuple[Store, LockSession]) -> None:
    store, taker = shared
    epochs = await taker.raise_epochs([3], "us")
    store.fence = lambda changes: Lease(3, epochs[3], 1)
    go_on, taking = asyncio.Event(), list[asyncio.Task[dict[int, int]]]()

    async def pause(moment: str, changes: tuple[Change, ...]) -> None:
        if not taking:
            taking.append(asyncio.ensure_future(taker.raise_epochs([3], "them")))
            await asyncio.sleep(0.2)
            assert not taking[0].done()

    store.hooks.append(pause)
    await store.write(PutTester(a_tester("alice")))
    assert await taking[0] == {3: 2}
    assert await store.tester("alice") is not None
    go_on.set()


async def test_who_is_stopped_in_the_middle_of_a_write_is_not_waited_for(postgres_url: str) -> None:
    taker = await session(postgres_url, timedelta(seconds=2))
    await taker.raise_epochs([3], "us")
    with psycopg.connect(postgres_url) as stopped:
        stopped.execute("SELECT epoch FROM leases WHERE key = 3 FOR SHARE")
        with pytest.raises(TimeoutError):
            await taker.raise_epochs([3], "them")
    assert await taker.raise_epochs([3], "them") == {3: 2}
    await taker.aclose()


async def test_who_is_cut_off_in_the_middle_of_a_statement_is_not_waited_for(postgres_url: str) -> None:
    """The server's own timer is for the time between two statements, and not for that in which one comes."""
    taker = await session(postgres_url, SHORT)
    await taker.raise_epochs([3], "us")
    with closing(psycopg.connect(postgres_url, application_name=WRITER)) as cut:
        cut.execute("SELECT epoch FROM leases WHERE key = 3 FOR SHARE")
        cut.pgconn.enter_pipeline_mode()
        cut.pgconn.send_query_params(b"SET idle_in_transaction_session_timeout = 100", None)  # all of it but its end
        cut.pgconn.send_flush_request()
        cut.pgconn.flush()
        tries = 0
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await taker.raise_epochs([3], "them") == {3: 2}
                    break
                except TimeoutError:
                    tries += 1
    assert tries, "it is given the time of a lease"
    await taker.aclose()


async def test_no_transaction_stays_open_so_that_the_server_can_tidy_up(shared: tuple[Store, LockSession]) -> None:
    """Rows that are dead stay for as long as any transaction might still see them."""
    store, taker = shared
    for number in range(3):
        await asyncio.gather(store.write(AddEvent(an_event(f"{number}"))), store.events(), store.books("alice"))
    held = (await taker.beat()).me
    open_ones = text(
        "SELECT query FROM pg_stat_activity WHERE (application_name = 'tester-controller' OR pid = :held) "
        "AND pid <> pg_backend_pid() AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)"
    ).bindparams(held=held)
    assert await store._read(lambda connection: connection.execute(open_ones).all()) == []
    limit = text("SHOW idle_in_transaction_session_timeout")
    assert await store._read(lambda connection: connection.scalar(limit)) == "5s"


async def test_what_one_says_all_others_hear_also_after_the_line_was_cut(postgres_url: str) -> None:
    address, heard = normal(postgres_url), list[Word]()

    def quiet(word: Word) -> None:
        pass

    one = Words("one", lambda: open_line(address, "line of one"), quiet, SystemClock())
    two = Words("two", lambda: open_line(address, "line of two"), heard.append, SystemClock())
    running: list[Awaitable[None]] = [asyncio.ensure_future(each.run()) for each in (one, two)]
    await until(lambda: heard == [Word(changed=None)])
    many = {Topic(Kind.TESTER, f"tester-{number:05}") for number in range(1500)}
    one.say(many, ["alice"], ring=True)
    two.say(wake=["nobody hears oneself"])

    def all_of_it() -> bool:
        changed = {topic for word in heard for topic in word.changed or ()}
        return changed == many and {name for word in heard for name in word.wake} == {"alice"} and heard[-1].ring

    await until(all_of_it)
    heard.clear()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'line of %'")
    one.say(wake=["bob"])
    await until(lambda: any("bob" in word.wake for word in heard) or Word(changed=None) in heard)
    one.say({Topic(Kind.TESTER, str(number)) for number in range(3000)})
    await until(lambda: heard[-1].changed is None)
    for each in running:
        each.cancel()  # type: ignore[attr-defined]
    await asyncio.gather(*running, return_exceptions=True)
