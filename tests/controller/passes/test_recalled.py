"""What was kept of testers at rest, from its reading after a start until they are looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from controller.passes.proofs import Proofs
from controller.passes.resting import Resting
from controller.records import AddEvent, ClaimForge, PutCondition, PutTester
from controller.rests import KeptRest, PutRest
from controller.store import Store, StoreError
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import NOON, a_condition, a_tester, an_event

NAMES = ("alice", "bob", "carol")


async def kept(store: Store) -> Resting:
    for name in NAMES:
        await store.write(PutTester(a_tester(name)), PutRest(name, b"mark", "{}"))
    return Resting(store, Proofs(store))


def recalled(resting: Resting) -> set[str]:
    return {name for name in NAMES if resting.is_recalled(name)}


async def test_a_write_is_the_end_of_it(store: Store, clock: ManualClock) -> None:
    resting = await kept(store)
    await resting.recall(["alice", "bob", "nobody"])
    assert recalled(resting) == {"alice", "bob"}
    await store.write(AddEvent(an_event(of="bob")), PutRest("bob", b"other", ""))
    assert recalled(resting) == {"alice", "bob"}
    await store.write(PutCondition(a_condition(of="alice")))
    assert recalled(resting) == {"bob"}
    await resting.recall(NAMES)
    resting.discard_those(name for name in resting.names if name != "carol")
    assert recalled(resting) == {"carol"}, "whoever drops what is another's drops these as well"
    await store.write(ClaimForge("controller", NOON))
    assert recalled(resting) == set()


async def test_a_write_while_it_is_read_counts(store: Store) -> None:
    resting, asked, go_on = await kept(store), asyncio.Event(), asyncio.Event()
    read = store.rests

    async def slowly(names: Collection[str]) -> dict[str, KeptRest]:
        found = await read(names)
        asked.set()
        await go_on.wait()
        return found

    store.rests = slowly  # type: ignore[method-assign]
    reading = asyncio.ensure_future(resting.recall(NAMES))
    await asked.wait()
    assert resting.names == set(NAMES)
    await store.write(PutCondition(a_condition(of="alice")))
    resting.discard_those(["bob"])  # another replica has told of it
    go_on.set()
    await reading
    assert recalled(resting) == {"carol"}


async def test_who_cannot_be_recalled_has_a_whole_pass(store: Store) -> None:
    resting = await kept(store)

    async def refused(names: Collection[str]) -> dict[str, KeptRest]:
        raise StoreError("not now")

    store.rests = refused  # type: ignore[method-assign]
    await resting.recall(NAMES)
    assert resting.names == frozenset()
