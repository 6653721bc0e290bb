"""Changes that are made together, by kind, come to what they come to one after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from sqlalchemy import event

from controller.fresh import FreshenFacts
from controller.records import (
    AddEvent,
    Change,
    ClaimForge,
    DropCondition,
    DropFacts,
    DropTester,
    NameForgeOwner,
    Phase,
    PutCondition,
    PutFacts,
    PutFleet,
    PutJournal,
    PutObject,
    PutSource,
    PutTester,
    Seal,
    SetStatus,
    SourceState,
    Unseal,
    Void,
)
from controller.store import Keyring, Store
from controller.store.sqlite import SqliteDatabase
from reconcilers.facts import ObjectState
from reconcilers.secret import Secret
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import (
    NOON,
    a_condition,
    a_tester,
    an_entry,
    an_event,
    an_object,
    machine_facts,
)

NAMES = ("alice", "bob")
DRAWN: tuple[Callable[[str, random.Random], Change], ...] = (
    lambda name, draw: DropTester(name),
    lambda name, draw: PutFacts(name, machine_facts(str(draw.randrange(3))), "", NOON),
    lambda name, draw: DropFacts(name, "machine"),
    lambda name, draw: PutCondition(a_condition(of=name, reason=f"Reason{draw.randrange(3)}")),
    lambda name, draw: DropCondition(name, "Ready"),
    lambda name, draw: SetStatus(name, Phase.WAITING, draw.randrange(100), "x", 1, None),
    lambda name, draw: PutObject(an_object(state=draw.choice([ObjectState.GONE, ObjectState.EXISTING]), of=name)),
    lambda name, draw: AddEvent(an_event(f"m{draw.randrange(2)}", of=name)),
    lambda name, draw: PutJournal(an_entry(f"{name}{draw.randrange(2)}", of=name, ended_at=draw.choice([NOON, None]))),
    lambda name, draw: PutTester(a_tester(name, removed_at=draw.choice([NOON, None]))),
    lambda name, draw: FreshenFacts(name, *(machine_facts(str(draw.randrange(3))) for _ in range(2)), "", NOON),
    lambda name, draw: Seal(f"{name}/token", Secret(str(draw.randrange(100))), NOON),
    lambda name, draw: Void(f"{name}/token"),
    lambda name, draw: Unseal(f"{name}/token"),
    lambda name, draw: PutFleet(str(draw.randrange(100)), "r1"),
    lambda name, draw: PutSource(SourceState("folder", str(draw.randrange(100)), NOON, True)),
    lambda name, draw: draw.choice([ClaimForge, NameForgeOwner])(draw.choice(NAMES), NOON),
)


async def told(store: Store) -> list[Any]:
    """All that changes leave behind."""
    books = [await store.books(name) for name in NAMES]
    fleet = [await store.fleet(), await store.source(), await store.forge_owner(), await store.sealed_names()]
    return [books, fleet, await store.objects(), await store.conditions(), await store.events(), await store.journal()]


@pytest.mark.parametrize("seed", range(6))
async def test_in_one_write_and_in_many_they_come_to_the_same(seed: int, keyring: Keyring, clock: ManualClock) -> None:
    """Of any two kinds, in any order."""
    draw = random.Random(seed)
    at_once, one_by_one = [await Store.open("sqlite://", keyring, clock) for _ in range(2)]
    for kinds in [*combinations(DRAWN, 2)][seed::6]:
        name = draw.choice(NAMES)
        comes = PutTester(a_tester(name, removed_at=draw.choice([NOON, None])))
        changes = [comes, *(draw.choice(kinds)(name, draw) for _ in range(8))]
        await at_once.write(*changes)
        for change in changes:
            await one_by_one.write(change)
        assert await told(at_once) == await told(one_by_one)
    await at_once.aclose()
    await one_by_one.aclose()


ORDERED: dict[str, tuple[Change, ...]] = {
    "sealed, then void": (Seal("alice/token", Secret("a"), NOON), Void("alice/token")),
    "void, then sealed": (Void("alice/token"), Seal("alice/token", Secret("a"), NOON)),
    "claimed by one, then by another": (ClaimForge("alice", NOON), ClaimForge("bob", NOON)),
    "dropped, then put": (DropTester("alice"), PutObject(an_object(state=ObjectState.GONE))),
    "seen again, then learnt": (
        PutFacts("alice", machine_facts("1"), "", NOON),
        FreshenFacts("alice", machine_facts("1"), machine_facts("2"), "", NOON),
        PutFacts("alice", machine_facts("1"), "", NOON),
    ),
}


@pytest.mark.parametrize("leaving", [None, NOON])
@pytest.mark.parametrize("name", ORDERED)
async def test_their_order_is_kept(name: str, leaving: datetime | None, keyring: Keyring, clock: ManualClock) -> None:
    at_once, one_by_one = [await Store.open("sqlite://", keyring, clock) for _ in range(2)]
    changes = (PutTester(a_tester(removed_at=leaving)), *ORDERED[name])
    await at_once.write(*changes)
    for change in changes:
        await one_by_one.write(change)
    assert await told(at_once) == await told(one_by_one)
    await at_once.aclose()
    await one_by_one.aclose()


async def test_of_writes_that_wait_for_the_same_disk_each_kind_is_a_statement(
    sqlite_with_tables: str, keyring: Keyring, clock: ManualClock
) -> None:
    store = await Store.open(sqlite_with_tables, keyring, clock)
    await store.write(*(PutTester(a_tester(name)) for name in NAMES))
    statements: list[str] = []
    assert isinstance(store._database, SqliteDatabase)
    event.listen(store._database._writer, "begin", lambda _: statements.append("BEGIN"))
    event.listen(store._database._writer, "before_cursor_execute", lambda *told: statements.append(told[2].split()[0]))

    async def step(number: int) -> None:
        name, later = NAMES[number % 2], NOON + timedelta(seconds=number)
        entry = replace(an_entry(f"e{number}", of=name), ended_at=later)
        await store.write(PutJournal(entry), AddEvent(an_event(f"m{number}", of=name)))
        await store.write(PutCondition(a_condition(of=name)), SetStatus(name, Phase.WAITING, number, "x", 1, None))

    await asyncio.gather(*(step(number) for number in range(20)))
    assert statements == ["BEGIN", "INSERT", "SELECT", "INSERT", "BEGIN", "INSERT", "UPDATE"]
    assert [(await store.books(name)).record.progress for name in NAMES] == [18, 19]  # type: ignore[union-attr]
    assert len(await store.events()) == 20
    await store.aclose()
