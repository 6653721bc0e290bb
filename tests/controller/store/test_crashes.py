"""Many writers at once, cancelled ones, killed ones: the store holds what was committed, whole, and nothing else."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from controller.records import AddEvent, Change, PutJournal, PutObject, PutTester, Seal
from controller.store import Keyring, Store
from reconcilers.secret import Secret
from tests.controller.store.conftest import OpenStore
from tests.controller.store.samples import NOON, a_tester, an_entry, an_event, an_object

CRASHING = """
import asyncio, os, signal, sys
from controller.records import AddEvent, PutObject
from controller.store import Keyring, Store
from reconcilers.clock import SystemClock
from tests.controller.store.samples import an_event, an_object

async def main():
    store = await Store.open(sys.argv[1], Keyring.generate(), SystemClock())
    await store.write(PutObject(an_object(incarnation=1)), AddEvent(an_event("first")))
    async def die(moment, changes):
        if moment == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)
    store.hooks.append(die)
    await store.write(PutObject(an_object(incarnation=2)), AddEvent(an_event("second")))

asyncio.run(main())
"""


@pytest.mark.parametrize(("moment", "kept"), [("before commit", 1), ("after commit", 2)])
async def test_a_killed_process_leaves_whole_writes(
    any_database_url: str, open_store: OpenStore, moment: str, kept: int
) -> None:
    command = [sys.executable, "-c", CRASHING, any_database_url, moment]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == -signal.SIGKILL, said
    store = await open_store()
    assert [row.incarnation for row in await store.objects()] == list(range(1, kept + 1))
    assert len(await store.events()) == kept
    await store.write(PutObject(an_object(incarnation=9)))
    assert len(await store.objects()) == kept + 1


async def test_many_writers_at_once_lose_nothing(store: Store) -> None:
    names = [f"t{n}" for n in range(12)]
    await store.write(*(PutTester(a_tester(name)) for name in names))
    before = store.commits

    async def work(name: str) -> None:
        for n in range(5):
            changes: tuple[Change, ...] = (
                PutObject(an_object(of=name, incarnation=n)),
                PutJournal(an_entry(f"{name}{n}", of=name)),
                AddEvent(an_event(f"event {n}", of=name)),
            )
            await store.write(*changes)

    await asyncio.gather(*(work(name) for name in names))
    assert len(await store.objects()) == len(await store.unfinished()) == len(await store.events(limit=1000)) == 60
    assert store.commits - before == 60


async def test_writers_of_the_same_rows_in_opposite_order_all_get_through(store: Store) -> None:
    """PostgreSQL ends such an embrace by undoing one of them; that one is tried again."""
    rows = [PutObject(an_object(of=name)) for name in ("alice", "bob")]

    async def work(changes: list[PutObject]) -> None:
        for _ in range(15):
            await store.write(*changes, AddEvent(an_event()))

    await asyncio.gather(work(rows), work(rows[::-1]), work(rows), work(rows[::-1]))
    assert store.commits == 60
    assert len(await store.objects()) == 2
    assert sum(event.count for event in await store.events()) == 60


async def test_two_stores_on_one_database_write_in_turn(open_store: OpenStore) -> None:
    stores = [await open_store(), await open_store()]

    async def work(n: int, store: Store) -> None:
        for m in range(10):
            await store.write(PutObject(an_object(incarnation=n, attempt=m)))

    await asyncio.gather(*(work(n, store) for n, store in enumerate(stores)))
    assert len(await stores[0].objects()) == 20


async def test_a_reader_does_not_wait_for_a_writer_and_sees_no_half(store: Store) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def hold(moment: str, _: object) -> None:
        if moment == "before commit":
            entered.set()
            await go_on.wait()

    store.hooks.append(hold)
    writing = asyncio.create_task(store.write(PutTester(a_tester()), PutObject(an_object())))
    await entered.wait()
    assert await store.testers() == ()
    assert await store.objects() == ()
    go_on.set()
    await writing
    assert len(await store.testers()) == len(await store.objects()) == 1


async def test_a_write_that_is_cancelled_before_its_commit_is_undone_and_holds_up_nobody(store: Store) -> None:
    entered = asyncio.Event()

    async def hang(moment: str, changes: tuple[Change, ...]) -> None:
        if moment == "before commit" and changes == (PutObject(an_object()),):
            entered.set()
            await asyncio.Event().wait()

    store.hooks.append(hang)
    stuck = asyncio.create_task(store.write(PutObject(an_object())))
    await entered.wait()
    behind = asyncio.create_task(store.write(AddEvent(an_event())))
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck
    await behind
    assert await store.objects() == ()
    assert len(await store.events()) == 1


async def test_writers_cancelled_at_any_moment_leave_whole_writes(store: Store) -> None:
    async def write(n: int) -> None:
        await store.write(PutObject(an_object(incarnation=n)), AddEvent(an_event(f"m{n}")))

    for n in range(25):
        task = asyncio.create_task(write(n))
        for _ in range(n):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    objects, events = await store.objects(), await store.events(limit=1000)
    assert {f"m{row.incarnation}" for row in objects} == {event.message for event in events}
    await write(99)
    assert (await store.objects())[-1].incarnation == 99


async def test_a_hook_that_raises_undoes_the_write(store: Store) -> None:
    async def refuse(moment: str, _: object) -> None:
        if moment == "before commit":
            raise RuntimeError("no")

    store.hooks.append(refuse)
    with pytest.raises(RuntimeError, match="no"):
        await store.write(Seal("alice/key", Secret("k"), NOON), PutObject(replace(an_object(), name="x")))
    store.hooks.clear()
    assert await store.sealed_names() == ()
    assert await store.objects() == ()


async def test_closing_waits_for_the_write_that_is_under_way(open_store: OpenStore, keyring: Keyring) -> None:
    store = await open_store()
    writing = [asyncio.create_task(store.write(PutObject(an_object(incarnation=n)))) for n in range(5)]
    await asyncio.gather(*writing)
    await store.aclose()
    await store.aclose()
    assert len(await (await open_store()).objects()) == 5
