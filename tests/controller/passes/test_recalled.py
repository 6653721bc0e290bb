"""What was kept of testers at rest, from its reading after a start until they are looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest

from controller.passes.proofs import Proofs
from controller.passes.resting import AT_ONCE, Resting
from controller.records import AddEvent, ClaimForge, PutCondition, PutTester
from controller.rests import KeptRest, PutRest
from controller.store import Store, StoreError
from tests.controller.fakes import FLEET, ManualClock, Outside, rig, until
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
    resting.begin("bob")
    assert (recalled(resting), resting.names) == ({"carol"}, {"bob", "carol"})
    await store.write(ClaimForge("controller", NOON))
    assert resting.names == frozenset()
    await resting.recall(["alice"])
    world: Any = SimpleNamespace(mark=b"another world")
    assert resting.of("alice", world, NOON) is None
    assert resting.names == frozenset(), "who is not believed once is not asked about again"


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
    await resting.recall(["carol"])

    async def refused(names: Collection[str]) -> dict[str, KeptRest]:
        raise StoreError("not now")

    store.rests = refused  # type: ignore[method-assign]
    await resting.recall(NAMES)
    assert resting.names == frozenset()


async def test_of_two_readings_of_one_row_only_the_later_counts(store: Store) -> None:
    """A shard that is lost and got back while the first one goes on: meanwhile others have written."""
    resting, read, waiting = await kept(store), store.rests, list[asyncio.Event]()

    async def slowly(names: Collection[str]) -> dict[str, KeptRest]:
        found, go_on = await read(names), asyncio.Event()
        waiting.append(go_on)
        await go_on.wait()
        return found

    store.rests = slowly  # type: ignore[method-assign]
    first = asyncio.ensure_future(resting.recall(NAMES))
    await until(lambda: len(waiting) == 1)
    resting.discard_those(NAMES)
    await store.write(PutCondition(a_condition(of="alice")))
    second = asyncio.ensure_future(resting.recall(["alice"]))
    await until(lambda: len(waiting) == 2)
    waiting[0].set()
    await first
    assert recalled(resting) == set(), "what was read before is worth nothing"
    waiting[1].set()
    await second
    assert recalled(resting) == {"alice"}


async def test_whoever_is_to_have_a_whole_pass_has_it_though_it_breaks_off(store: Store, clock: ManualClock) -> None:
    one = rig(store, clock, [], Outside())
    await kept(store)
    await one.engine.adopt(FLEET)
    await one.engine.resting.recall(NAMES)
    read = store.books

    async def refused(name: str, **_: object) -> None:
        raise StoreError("not now")

    store.books = refused  # type: ignore[assignment, method-assign]
    with pytest.raises(StoreError):
        await one.engine.look("alice")
    store.books = read  # type: ignore[method-assign]
    assert recalled(one.engine.resting) == {"bob", "carol"}, "the next try is no comparison"


async def test_rows_of_a_write_that_was_cut_off_are_written_the_next_time(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass that writes for all may be of a tester that is not ours any more."""
    one = rig(store, clock, [], Outside())
    rows, begun = [PutRest("alice", b"mark", "{}")], asyncio.Event()

    async def hangs(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(one.engine.resting, "rows", lambda: rows)
    monkeypatch.setattr(store, "write", hangs)
    writing = asyncio.ensure_future(one.engine._write_down())
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert one.engine.resting.are_left


async def test_what_cannot_be_written_is_not_tried_again_with_every_look(store: Store) -> None:
    resting = await kept(store)

    def rows(some: range) -> list[PutRest]:
        return [PutRest(f"t{number}", b"", "") for number in some]

    resting.unwritten(rows(range(AT_ONCE)))
    assert resting.are_left
    assert not resting.are_many, "the store does not take it"
    resting.unwritten(rows(range(AT_ONCE, 2 * AT_ONCE)))
    assert not resting.are_many
    resting.rows()
    assert resting.are_many, "somebody tries it once more"
