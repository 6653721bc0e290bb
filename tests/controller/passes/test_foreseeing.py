"""Before anything of a tester is begun it is asked whether all of it can be; who is let begin has the room meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.promises import all_promises
from controller.records import PutFacts
from controller.store import Store
from reconcilers.actions import Action
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, Rejected, Transient
from reconcilers.facts import ObjectState, OutsideObject, Promise, RoomFacts
from reconcilers.looks import TesterLooks
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, Rig, a_tester, failing, rig

LIMIT = FLEET.spec.timing.deploy_limit
ROOM = Promise("alice", "gent", "0001", 8192, 60, timedelta(0), making=True, foreseen=True)

PLACE = {"daemon": "gent", "node_sid": "0002", "memory_mb": "8192", "disk_gb": "60"}


class Machine(FakeStep):
    """Whether it can be made is known before. `refusal`: why not."""

    refusal: Exception | None = None
    asked = 0
    has_room_for_one = False

    async def foresee(self, tester: TesterView, looks: TesterLooks) -> Promise | None:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        others = [each for each in await looks.promises() if each.tester != tester.name]
        await asyncio.sleep(0.01)  # whoever else comes now has read the same
        if self.has_room_for_one and others:
            raise Blocked("full", system="compute", reason="NoCapacity")
        return replace(ROOM, tester=tester.name)


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    steps = [
        FakeStep("account", outside),
        Machine("machine", outside, needs=("account",)),
        FakeStep("gateway", outside, needs=("machine",)),
    ]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


def machine(one: Rig) -> Machine:
    assert one.engine.world is not None
    step = one.engine.world.step("machine")
    assert isinstance(step, Machine)
    return step


async def promised(one: Rig) -> tuple[Promise, ...]:
    assert one.engine.world is not None
    return await one.engine.world.looks.promised()


@pytest.mark.parametrize(
    "refusal", [Blocked("full", system="compute", reason="NoCapacity"), Rejected("no", system="x")]
)
async def test_who_is_refused_has_nothing_begun_and_is_told_which_step_it_is(one: Rig, refusal: Exception) -> None:
    machine(one).refusal = refusal
    assert await one.run_pass() is not None
    assert one.outside.calls == []
    assert (await one.condition("Machine"))[0] == "False"
    assert await one.condition("Account") == ("Unknown", "WaitsForStep")
    assert await one.condition("Gateway") == ("Unknown", "WaitsForStep")
    machine(one).refusal = None
    await one.run_pass()
    assert len(one.outside.calls) == 3


async def test_what_cannot_be_told_holds_up_nobody(one: Rig) -> None:
    machine(one).refusal = Transient("no answer", system="compute gent")
    await one.run_pass()
    assert len(one.outside.calls) == 3


async def test_who_has_begun_is_not_asked_again(one: Rig) -> None:
    await one.run_pass()
    asked = machine(one).asked
    machine(one).refusal = Blocked("full", system="compute", reason="NoCapacity")
    await one.run_pass()
    assert machine(one).asked == asked
    assert await one.condition("Gateway") == ("True", "InSync")


async def test_a_beginning_that_comes_to_nothing_keeps_no_room(one: Rig) -> None:
    """An account that cannot be made, for as long as its spec is wrong."""
    meanwhile: list[tuple[Promise, ...]] = []

    async def taken(action: Action) -> None:
        meanwhile.append(await promised(one))
        raise Rejected("taken", system="Forge")

    one.outside.before.append(taken)
    await one.run_pass()
    assert meanwhile == [(ROOM,)]
    assert await promised(one) == ()


async def test_of_two_controllers_only_one_begins_in_the_last_room(one: Rig, store: Store, clock: ManualClock) -> None:
    """Both look at once. What is promised is in the books, and given by one at a time (`Looks.placing`, fleet-wide)."""
    outside = Outside()
    two = rig(store, clock, [FakeStep("account", outside), Machine("machine", outside, needs=("account",))], outside)
    two.engine.placing = one.engine.placing
    await two.engine.adopt(FLEET)
    await two.add(a_tester("bob"))
    machine(one).has_room_for_one = machine(two).has_room_for_one = True
    await asyncio.gather(one.run_pass("alice"), two.run_pass("bob"))
    assert sorted(bool(each.outside.calls) for each in (one, two)) == [False, True]
    waits, has = ("alice", "bob") if not one.outside.calls else ("bob", "alice")
    assert await one.condition("Machine", waits) == ("False", "NoCapacity")
    assert await one.condition("Account", waits) == ("Unknown", "WaitsForStep")
    assert await one.condition("Machine", has) == ("True", "InSync")


async def test_who_waits_writes_nothing_and_keeps_nobody_else_from_choosing(one: Rig) -> None:
    machine(one).refusal = Blocked("full", system="compute", reason="NoCapacity")
    async with one.engine.placing, asyncio.timeout(30):
        await one.run_pass()
    commits = one.store.commits
    await one.run_pass()
    assert one.store.commits == commits


async def test_who_would_wait_long_for_others_to_be_given_a_place_is_told_so(
    one: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else's pass waits behind those."""
    monkeypatch.setattr("controller.passes.foreseeing.PATIENCE", 0.0)
    async with one.engine.placing, asyncio.timeout(30):
        await one.run_pass()
    assert one.outside.calls == []
    assert await one.condition("Machine") == ("False", "Throttled")
    assert await one.condition("Account") == ("Unknown", "WaitsForStep")
    await one.run_pass()
    assert len(one.outside.calls) == 3


async def test_while_others_wait_only_the_room_is_asked_for_again(one: Rig) -> None:
    """Nothing that another system is asked for: it may take long to answer."""
    asked: list[bool] = []

    async def foresee(tester: TesterView, looks: TesterLooks) -> None:
        asked.append(isinstance(one.engine.placing, asyncio.Lock) and one.engine.placing.locked())

    one.steps["account"].foresee = foresee  # type: ignore[method-assign]
    await one.run_pass()
    assert asked == [False]


async def test_room_is_kept_over_a_start_and_let_go_of_when_the_machine_is_known(
    one: Rig, store: Store, clock: ManualClock
) -> None:
    async def dies(action: Action) -> None:
        raise asyncio.CancelledError

    one.outside.after.append(dies)
    with pytest.raises(asyncio.CancelledError):
        await one.run_pass()
    again = rig(store, clock, list(one.steps.values()), one.outside)
    await again.engine.adopt(FLEET)
    assert await promised(again) == (ROOM,)
    await again.until_quiet()
    books = await store.books("alice")
    assert books is not None
    assert "machine" in books.facts
    assert RoomFacts.step not in books.facts


async def test_who_leaves_has_no_room(one: Rig, store: Store, clock: ManualClock) -> None:
    room = RoomFacts(daemon="gent", node_sid="0001", memory_mb=8192, disk_gb=60, until=clock.now() + LIMIT)
    await store.write(PutFacts("alice", room, "", clock.now()))
    assert await promised(one) == (ROOM,)
    await one.add(a_tester("alice"), removed_at=clock.now())
    assert await promised(one) == ()


def test_it_ends_with_the_row_that_tells_the_same_or_with_its_time(clock: ManualClock) -> None:
    now = clock.now()
    room = RoomFacts(daemon="gent", node_sid="0001", memory_mb=8192, disk_gb=60, until=now + LIMIT)
    row = OutsideObject("alice", "machine", 1, 1, "vm", ObjectState.EXISTING, PLACE, since=now)
    other = replace(row, tester="bob")
    assert all_promises([], {"alice": room}, now, LIMIT) == (ROOM,)
    assert [each.tester for each in all_promises([other], {"alice": room}, now, LIMIT)] == ["bob", "alice"]
    assert [each.foreseen for each in all_promises([row], {"alice": room}, now, LIMIT)] == [False]
    assert all_promises([], {"alice": room}, now + LIMIT, LIMIT) == ()
    assert all_promises([], {"alice": room}, now - timedelta(seconds=10), LIMIT) == (ROOM,), (
        "a replica's clock is behind"
    )
    ahead = room.model_copy(update={"until": now + timedelta(days=1)})
    assert all_promises([], {"alice": ahead}, now, LIMIT) == (), "of before the clock was set back"


async def test_room_that_was_given_before_the_clock_was_set_back_is_let_go_of(
    one: Rig, store: Store, clock: ManualClock
) -> None:
    """Something of it stands, and its machine waits for a person."""

    async def made(action: Action) -> None: ...

    one.outside.before += [made, failing(Blocked("a key is missing", system="Forge", reason="SshKeyRequired"))]
    await one.run_pass()
    assert [each.tester for each in await promised(one)] == ["alice"]
    until = clock.now() + timedelta(days=1)
    room = RoomFacts(daemon="gent", node_sid="0001", memory_mb=8192, disk_gb=60, until=until)
    await store.write(PutFacts("alice", room, "", clock.now()))
    await one.run_pass()
    books = await store.books("alice")
    assert books is not None
    assert RoomFacts.step not in books.facts
