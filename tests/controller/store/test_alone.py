"""One working controller to a store: who comes second is refused and told who has it, until that one has ended."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from controller.places import Places, opened_store
from controller.running import working_store
from controller.store import StoreError, alone
from controller.store.address import normal
from controller.store.alone import LOCK, LOCK_TRIED_EVERY, SIGN_OF_LIFE
from controller.store.locks import LockSession
from controller.store.working import AtWork, at_work
from reconcilers.clock import SystemClock
from tests.controller.fakes import until

CLOCK = SystemClock()
LONG = 30  # seconds; never reached

HOLDER = """
import asyncio, sys
from controller.store import alone
from reconcilers.clock import SystemClock
from tests.controller.fakes import until

async def hold():
    async with alone(sys.argv[1], SystemClock()):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


async def refused(url: str) -> str:
    """What a second one is told."""
    with pytest.raises(StoreError) as caught:
        async with alone(url, CLOCK):
            raise AssertionError("two at once")
    return str(caught.value)


async def nobody_works_on(url: str) -> None:
    """Until a server, too, has seen that who worked on it has gone."""
    async with asyncio.timeout(LONG):
        while (await at_work(url)).now:  # noqa: ASYNC110 - the server does it
            await asyncio.sleep(0.02)


async def test_who_comes_second_is_refused_until_the_first_has_ended(any_database_url: str) -> None:
    async with alone(any_database_url, CLOCK):
        told = await refused(any_database_url)
        assert "Another controller works with the store" in told
        assert f"process {os.getpid()} on " in told
        assert "Stop that one first, or give this one" in told
    await nobody_works_on(any_database_url)
    async with alone(any_database_url, CLOCK):
        pass


async def test_it_falls_with_a_process_that_is_killed(any_database_url: str) -> None:
    program = (sys.executable, "-c", HOLDER, any_database_url)
    holder = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"held\n"
        assert f"process {holder.pid} on " in await refused(any_database_url)
    finally:
        holder.kill()
        await holder.wait()
    async with asyncio.timeout(LONG):
        while True:
            try:
                async with alone(any_database_url, CLOCK):
                    return
            except StoreError:
                await asyncio.sleep(0.05)


async def test_two_state_folders_on_one_file_are_noticed_and_reading_goes_on(sqlite_url: str, tmp_path: Path) -> None:
    one, other = Places(tmp_path, tmp_path / "one", sqlite_url), Places(tmp_path, tmp_path / "other", sqlite_url)
    async with working_store(one, CLOCK) as store:
        with pytest.raises(StoreError, match="Another controller works with"):
            async with working_store(other, CLOCK):
                raise AssertionError("two at once")
        assert not other.key_file.exists(), "refused before anything is opened"
        async with opened_store(one, CLOCK) as reader:
            assert await reader.testers() == await store.testers() == ()


async def test_who_wants_a_server_for_itself_alone_and_replicas_keep_each_other_out(postgres_url: str) -> None:
    address, lease = normal(postgres_url), timedelta(seconds=5)
    session = await LockSession.open(address, "a replica", lease)
    assert "Another controller works with the store" in await refused(postgres_url)
    await session.aclose()
    await poll(lambda: sessions(postgres_url) == [])
    async with alone(postgres_url, CLOCK):
        with pytest.raises(StoreError, match=r"wants the store for itself alone.*waits until it has gone"):
            await LockSession.open(address, "a replica", lease)


async def test_stores_of_their_own_do_not_know_each_other(tmp_path: Path) -> None:
    async with (
        alone(f"sqlite:///{tmp_path}/one/controller.db", CLOCK),
        alone(f"sqlite:///{tmp_path}/other/controller.db", CLOCK),
        alone("sqlite://", CLOCK),
        alone("sqlite://", CLOCK),
    ):
        pass


def sessions(url: str) -> list[int]:
    """The server processes of those who hold the lock."""
    with psycopg.connect(url) as admin:
        rows = admin.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s", [LOCK])
        return [pid for (pid,) in rows]


async def poll(condition: object) -> None:
    async with asyncio.timeout(LONG):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - it is about another process
            await asyncio.sleep(0.02)


def cut_off(url: str) -> list[int]:
    before = sessions(url)
    with psycopg.connect(url, autocommit=True) as admin:
        for pid in before:
            admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    return before


async def test_a_broken_connection_takes_the_lock_again(postgres_url: str) -> None:
    async with alone(postgres_url, CLOCK):
        before = cut_off(postgres_url)
        await poll(lambda: sessions(postgres_url) not in ([], before))
        await refused(postgres_url)
    await poll(lambda: sessions(postgres_url) == [])


@asynccontextmanager
async def waiting_for_the_lock(url: str) -> AsyncIterator[Awaitable[object]]:
    """Somebody who gets it the moment that it is free."""
    rival = await psycopg.AsyncConnection.connect(url, autocommit=True)
    got = asyncio.ensure_future(rival.execute("SELECT pg_advisory_lock(%s)", [LOCK]))
    try:
        yield got
    finally:
        await got
        await rival.close()


async def test_who_lost_it_to_another_one_stops(postgres_url: str) -> None:
    async def lose_it() -> None:
        async with alone(postgres_url, CLOCK), waiting_for_the_lock(postgres_url):
            waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s"
            with psycopg.connect(postgres_url, autocommit=True) as admin:
                await poll(lambda: admin.execute(waits, [LOCK]).fetchone())
            cut_off(postgres_url)
            await asyncio.sleep(LONG)
            raise AssertionError("it went on")

    with pytest.raises(StoreError, match="Another controller works with"):
        await lose_it()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0, "the cancellation was ours, and is over"


async def test_a_link_to_the_database_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    database, link = tmp_path / "here/controller.db", tmp_path / "there/controller.db"
    database.touch()
    link.symlink_to(database)
    async with alone(f"sqlite:///{database}", CLOCK):
        assert "Another controller works with the store" in await refused(f"sqlite:///{link}")


async def test_who_only_reads_is_told_whether_somebody_works_on_it(any_database_url: str) -> None:
    assert not (await at_work(any_database_url)).now
    async with alone(any_database_url, CLOCK):
        assert await at_work(any_database_url) == AtWork(True)
    await nobody_works_on(any_database_url)


class Hurried(SystemClock):
    """Sleeps for an instant."""

    async def sleep(self, span: timedelta) -> None:
        assert span == SIGN_OF_LIFE
        await asyncio.sleep(0.01)


async def test_a_store_on_a_file_tells_when_somebody_worked_on_it_last(tmp_path: Path) -> None:
    url, lock = f"sqlite:///{tmp_path / 'controller.db'}", tmp_path / "controller.lock"
    assert await at_work(url) == AtWork(False)
    async with alone(url, Hurried()):
        os.utime(lock, (0, 0))
        await until(lambda: lock.stat().st_mtime > 0)
    moment = datetime.fromtimestamp(lock.stat().st_mtime, UTC)
    assert await at_work(url) == AtWork(False, moment)


async def test_a_glance_does_not_keep_anybody_from_beginning_to_work(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'controller.db'}"
    with (tmp_path / "controller.lock").open("a+") as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        asyncio.get_running_loop().call_later(LOCK_TRIED_EVERY / 2, fcntl.flock, glance, fcntl.LOCK_UN)
        async with alone(url, CLOCK):
            pass
