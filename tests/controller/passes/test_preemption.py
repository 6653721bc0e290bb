"""A removal does not wait for what is being made: the call is cut off and unknown, and what appears late is found."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from controller.records import Change, Outcome, PutJournal, PutTester
from controller.store import Store
from reconcilers.actions import Action
from reconcilers.errors import OutcomeUnknown, OutsideError, Transient
from reconcilers.facts import ObjectState
from tests.controller.fakes import (
    FLEET,
    GRACE,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    a_tester,
    failing,
    record_of,
    rig,
)

LIMIT = timedelta(minutes=5)
SECOND = timedelta(seconds=1)
STEP = timedelta(seconds=20)  # a poll is shorter: passes that only wait need not all be run
VM = "machine-alice-1-1"


async def at_once(action: Action) -> None:
    pass


class Hanging:
    """The call that makes the machine: begun, and answered when the test says so. `made`: its effect is there before."""

    def __init__(self, one: Rig, *, made: bool = False) -> None:
        self.begun, self.end = asyncio.Event(), asyncio.Event()
        (one.outside.after if made else one.outside.before).extend([at_once, self.hold])  # the account's comes first

    async def hold(self, action: Action) -> None:
        self.begun.set()
        await self.end.wait()


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    steps = [
        FakeStep("account", outside, leaves="access", fixed_name="Alice"),
        FakeStep("machine", outside, needs=("account",), limit=LIMIT),
    ]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


async def being_made(one: Rig, *, made: bool = False) -> Hanging:
    held = Hanging(one, made=made)
    await one.engine.look("alice")
    await held.begun.wait()
    return held


async def leave(one: Rig, **spec: Any) -> None:
    await one.store.write(PutTester(record_of(a_tester("alice", **spec), generation=2, removed_at=one.clock.now())))


async def passes_for(one: Rig, span: timedelta) -> None:
    """Passes about as often as they ask for, until that time has passed or the tester is no more."""
    end = one.clock.now() + span
    while one.clock.now() < end:
        wait = await one.run_pass()
        if wait is None:
            return
        one.clock.pass_by(min(max(wait, STEP), end - one.clock.now()))


async def is_gone(one: Rig) -> bool:
    return await one.store.tester("alice") is None


async def test_access_goes_at_once_though_a_call_hangs_and_the_books_say_unknown(one: Rig) -> None:
    await being_made(one)
    await leave(one)
    assert await one.engine.look("alice") == timedelta(0)
    assert one.engine.operations.of("alice") == []
    assert await one.store.unfinished() == ()
    told = {event.message for event in await one.store.events("alice") if event.reason == "OutcomeUnknown"}
    assert told == {f"create {VM}: it is not waited for any longer: the tester leaves"}
    assert await one.rows("machine") == [(VM, ObjectState.INTENDED)]
    await one.engine.look("alice")
    assert one.outside.calls == ["create Alice", "delete Alice"]


async def test_what_appears_late_is_deleted_before_the_row_falls(one: Rig) -> None:
    await being_made(one)
    await leave(one)
    await passes_for(one, LIMIT - SECOND)
    assert not await is_gone(one)
    one.outside.things[VM] = {"value": "right", "id": "late"}
    await passes_for(one, GRACE)
    assert one.outside.calls[-1] == f"delete {VM}"
    assert one.outside.things == {}
    assert await is_gone(one)


async def test_an_effect_that_was_there_already_is_found_by_its_name(one: Rig) -> None:
    await being_made(one, made=True)
    assert set(one.outside.things) == {"Alice", VM}
    await leave(one)
    await passes_for(one, LIMIT)
    assert one.outside.things == {}
    assert await is_gone(one)


async def test_what_never_appears_is_waited_for_until_its_absence_proves_something(one: Rig) -> None:
    await being_made(one)
    one.clock.pass_by(timedelta(minutes=4))  # the call may only now have got its turn: its limit counts from the cut
    await leave(one)
    await passes_for(one, LIMIT + GRACE - SECOND)
    assert not await is_gone(one)
    wait = await one.run_pass()
    assert wait is not None
    assert FLEET.spec.timing.poll < wait < 5 * FLEET.spec.timing.poll  # and not at once, and again at once
    assert await one.condition("Machine") == ("False", "Removing")
    assert await one.condition("Stalled") == ("False", "Moving")
    await passes_for(one, 2 * GRACE)
    assert await is_gone(one)
    assert one.outside.calls == ["create Alice", "delete Alice"]


async def test_a_machine_that_is_to_be_kept_is_made_to_its_end(one: Rig) -> None:
    held = await being_made(one)
    await leave(one, machine={"keepAfterRemoval": "24h"})
    await one.engine.look("alice")
    assert one.outside.calls == ["create Alice", "delete Alice"]
    assert [operation.what for operation in one.engine.operations.of("alice")] == [f"create {VM}"]
    held.end.set()
    await passes_for(one, timedelta(hours=23))
    assert await one.rows("machine") == [(VM, ObjectState.EXISTING)]
    await passes_for(one, timedelta(hours=2))
    assert one.outside.things == {}
    assert await is_gone(one)


async def test_putting_the_file_back_finds_what_was_cut_off(one: Rig) -> None:
    await being_made(one)
    await leave(one)
    await passes_for(one, SECOND)
    one.outside.things[VM] = {"value": "right", "id": "late"}
    await one.store.write(PutTester(record_of(a_tester("alice"), generation=3)))
    await one.until_quiet()
    assert await one.rows("machine") == [(VM, ObjectState.EXISTING)]
    assert set(one.outside.things) == {"Alice", VM}


async def test_an_answer_that_is_being_written_down_when_its_call_is_cut_off_is_written_first(one: Rig) -> None:
    """Else it would be written over what the removal has done meanwhile."""
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def slow(moment: str, changes: tuple[Change, ...]) -> None:
        if any(isinstance(c, PutJournal) and (c.entry.target, c.entry.outcome) == (VM, Outcome.DONE) for c in changes):
            writing.set()
            await go_on.wait()

    one.store.hooks.append(slow)
    look = asyncio.ensure_future(one.engine.look("alice"))
    await writing.wait()
    (operation,) = one.engine.operations.of("alice")
    cutting = asyncio.ensure_future(one.engine.operations.cut_off([operation], "the tester leaves"))
    for _ in range(20):
        await asyncio.sleep(0)
    too_soon = cutting.done()
    go_on.set()
    await asyncio.gather(cutting, look)
    assert not too_soon
    assert await one.rows("machine") == [(VM, ObjectState.EXISTING)]
    assert await one.store.unfinished() == ()


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("504", system="the grid"), Transient("502", system="the grid")], ids=["unknown", "refused"]
)
async def test_how_a_call_ended_badly_is_written_down_though_it_is_cut_off_meanwhile(
    one: Rig, error: OutsideError
) -> None:
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def slow(moment: str, changes: tuple[Change, ...]) -> None:
        if any(isinstance(c, PutJournal) and c.entry.target == VM and c.entry.ended_at for c in changes):
            writing.set()
            await go_on.wait()

    one.outside.before.extend([at_once, failing(error)])
    one.store.hooks.append(slow)
    look = asyncio.ensure_future(one.engine.look("alice"))
    await writing.wait()
    (operation,) = one.engine.operations.of("alice")
    cutting = asyncio.ensure_future(one.engine.operations.cut_off([operation], "the tester leaves"))
    for _ in range(20):
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(cutting, look)
    assert await one.store.unfinished() == ()
    (entry, *_) = await one.store.journal("alice")
    assert str(error) in entry.detail


async def test_how_an_operation_ended_is_not_told_to_a_namesake(one: Rig) -> None:
    await being_made(one)
    await leave(one)
    await passes_for(one, LIMIT + 3 * GRACE)
    assert await is_gone(one)
    await one.add(a_tester("alice"), uid="an0the")
    held = await being_made(one)
    assert await one.condition("Machine") == ("False", "OperationRunning")
    held.end.set()
    await one.until_quiet()
    assert await one.condition("Machine") == ("True", "InSync")
