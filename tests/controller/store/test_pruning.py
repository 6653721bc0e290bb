"""History is bounded, of those who stay as well; and the file that held it becomes smaller."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import make_url

from controller.fresh import FreshenFacts
from controller.records import AddEvent, DropFacts, DropTester, PutFacts, PutObject, PutTester
from controller.store import Keyring, Store
from controller.store.pruning import GONE_KEPT
from reconcilers.facts import EngineAccessFacts, ObjectState
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import MINUTE, NOON, a_tester, an_event, an_object

LATER = NOON + timedelta(days=91)
BEFORE = NOON + timedelta(days=1)


async def test_of_a_step_that_was_made_anew_often_the_last_few_are_kept(store: Store) -> None:
    gone = [an_object(state=ObjectState.GONE, incarnation=number) for number in range(1, 9)]
    lately = replace(an_object("gateway", ObjectState.GONE), since=LATER)
    others = [an_object("gateway", ObjectState.LOST, incarnation=2), an_object("account", ObjectState.GONE)]
    now = an_object(incarnation=9)
    await store.write(PutTester(a_tester()), *map(PutObject, (*gone, lately, *others, now)))
    assert await store.prune(BEFORE) == len(gone) - GONE_KEPT
    left = await store.objects("machine")
    assert [row.incarnation for row in left] == [4, 5, 6, 7, 8, 9]
    left = await store.objects()
    assert all(each in left for each in (*others, lately))


async def test_who_is_no_more_is_remembered_for_as_long_as_history_is(store: Store) -> None:
    """By name and uid, however often a tester of that name comes and goes."""
    first, second = a_tester(removed_at=NOON), a_tester(uid="another", removed_at=LATER)
    for each in (first, second):
        await store.write(PutTester(each))
        assert (each.name, each.uid, True) in await store.bearers()
        await store.write(DropTester(each.name))
    assert set(await store.bearers()) == {(first.name, first.uid, False), (second.name, second.uid, False)}
    assert await store.prune(BEFORE) == 1
    assert await store.bearers() == ((second.name, second.uid, False),)


async def test_a_file_that_is_mostly_empty_is_written_anew(sqlite_with_tables: str, clock: ManualClock) -> None:
    store = await Store.open(sqlite_with_tables, Keyring.generate(), clock)
    told = [AddEvent(an_event(f"{number} " + "x" * 2000)) for number in range(1500)]
    await store.write(*told)
    assert await store.prune(BEFORE) == len(told)
    await store.write(PutTester(a_tester()))
    assert await store.tester("alice") is not None
    await store.aclose()
    with closing(sqlite3.connect(str(make_url(sqlite_with_tables).database))) as connection:
        assert connection.execute("PRAGMA page_count").fetchone()[0] < 256
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_what_was_seen_again_is_written_over_exactly_what_it_was_seen_of(store: Store) -> None:
    proven = EngineAccessFacts(tenant="alice", engines=("embedder",), proven={"embedder": NOON})
    again = proven.model_copy(update={"proven": {"embedder": NOON + MINUTE}})
    shut = proven.model_copy(update={"engines": ()})
    await store.write(PutTester(a_tester()), PutFacts("alice", proven, "", NOON))

    async def known() -> object:
        return (await store.facts_of_all(("engine_access",))).get("alice", {}).get("engine_access")

    await store.write(FreshenFacts("alice", proven, again, "gent/1", NOON))
    assert await known() == proven, "of another machine"
    await store.write(FreshenFacts("alice", proven, again, "", NOON + MINUTE))
    assert await known() == again
    await store.write(PutFacts("alice", shut, "", NOON), FreshenFacts("alice", again, again, "", NOON))
    assert await known() == shut
    await store.write(DropFacts("alice", "engine_access"), FreshenFacts("alice", shut, again, "", NOON))
    assert await known() is None
