"""Deletes that take minutes run beside the passes: they hold up neither the door of that tester nor anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from math import floor
from typing import Any

import pytest

from controller.records import PutTester
from controller.store import Store
from reconcilers.actions import Action, Effect, Step
from reconcilers.errors import OutcomeUnknown, OutsideError, Transient
from reconcilers.facts import Facts, ObjectState, SignInGateFacts
from specs.desired import DesiredTester
from tests.controller.fakes import (
    FLEET,
    GRACE,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    Seen,
    a_tester,
    record_of,
    rig,
)

LIMIT = timedelta(minutes=5)
POLL = FLEET.spec.timing.poll
UNKNOWN = OutcomeUnknown("no answer", system="the grid")
BUSY = Transient("relay: 502", system="the grid")


class Slow(FakeStep):
    """Its deletes are operations. `calls`: what was begun, and `hang`: what has no answer yet, by target."""

    def __init__(self, name: str, outside: Outside, **more: Any) -> None:
        super().__init__(name, outside, **more)
        self.hang: dict[str, asyncio.Event] = {}
        self.fails: list[OutsideError] = []
        self.begun: list[str] = []

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        steps = super().plan(desired, observed, facts)
        return tuple(replace(s, limit=LIMIT) if isinstance(s, Action) and s.verb == "delete" else s for s in steps)

    async def apply(self, action: Action, *more: Any) -> Seen | None:
        if action.verb == "delete":
            self.begun.append(action.target)
            if action.target in self.hang:
                await self.hang[action.target].wait()
            if self.fails:
                raise self.fails.pop(0)
        return await super().apply(action, *more)


class Door(FakeStep):
    """A door that stands open is shut if it can be told to, else it is cut off; the cut may take minutes."""

    def __init__(self, outside: Outside) -> None:
        super().__init__("sign_in_gate", outside, leaves="access")
        self.makes, self.watches = False, True
        self.looks = 0
        self.open = self.deaf = False
        self.cut_ends = asyncio.Event()
        self.cut_fails: OutsideError | None = None
        self.did: list[str] = []

    async def observe(self, *_: Any) -> Seen | None:
        self.looks += 1
        return Seen("door", {"value": "open" if self.open else "shut"})

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        if not self.open:
            return ()
        if self.deaf:
            return (Action("cut", "gateway", limit=LIMIT, records=SignInGateFacts(cut=True), urgent=True),)
        return (Action("shut", "listener", urgent=True),)

    async def apply(self, action: Action, *_: Any) -> None:
        self.did.append(action.verb)
        if action.verb == "shut":
            self.open = False
            return
        await self.cut_ends.wait()
        if self.cut_fails is not None:
            raise self.cut_fails
        self.open = False

    def learn(self, observed: Seen, facts: Facts) -> SignInGateFacts:
        return facts.get(SignInGateFacts) or SignInGateFacts()


Made = Callable[..., Awaitable[Rig]]


@pytest.fixture
def made(store: Store, clock: ManualClock) -> Made:
    async def make(*names: str) -> Rig:
        outside = Outside()
        steps: list[FakeStep] = [
            Door(outside),
            Slow("machine", outside),
            Slow("gateway", outside, needs=("machine",)),
            FakeStep("sign_in_app", outside, leaves="access"),
        ]
        one = rig(store, clock, steps, outside)
        await one.engine.adopt(FLEET)
        for name in names:
            await one.add(a_tester(name))
            await one.until_quiet(name)
        outside.calls.clear()
        return one

    return make


@pytest.fixture
async def one(made: Made) -> Rig:
    return await made("alice")


def slow(one: Rig, name: str) -> Slow:
    step = one.steps[name]
    assert isinstance(step, Slow)
    return step


def door(one: Rig) -> Door:
    step = one.steps["sign_in_gate"]
    assert isinstance(step, Door)
    return step


def hang(one: Rig, *targets: str) -> list[asyncio.Event]:
    events = [asyncio.Event() for _ in targets]
    for target, event in zip(targets, events, strict=True):
        slow(one, target.partition("-")[0]).hang[target] = event
    return events


async def leave(one: Rig, name: str = "alice") -> None:
    await one.store.write(PutTester(record_of(a_tester(name), generation=2, removed_at=one.clock.now())))


async def look(one: Rig, name: str = "alice") -> timedelta | None:
    """A pass that is not waited for by what it began."""
    async with asyncio.timeout(20):
        wait = await one.engine.look(name)
    for _ in range(5):
        await asyncio.sleep(0)  # what it began gets as far as it can
    return wait


async def answered(one: Rig, name: str = "alice") -> None:
    for operation in one.engine.operations.of(name):
        assert operation.task is not None
        await operation.task


# ------------------------------------------------------------------ nobody is held up


async def test_a_delete_that_hangs_in_a_removal_holds_up_neither_the_door_nor_access_nor_anybody(made: Made) -> None:
    one = await made("alice", "bob")
    hang(one, "gateway-alice-1-1", "machine-alice-1-1")
    await leave(one)
    looks = door(one).looks
    for _ in range(3):
        await look(one)
    assert door(one).looks == looks + 3
    assert "sign_in_app-alice-1-1" not in one.outside.things
    door(one).open = True  # somebody opened it meanwhile
    await look(one)
    assert door(one).did == ["shut"]
    one.outside.things["machine-bob-1-1"]["value"] = "wrong"
    await look(one, "bob")
    assert one.outside.things["machine-bob-1-1"]["value"] == "right"
    await one.engine.operations.aclose()


async def test_a_leftover_whose_delete_hangs_does_not_hold_up_the_present_one(one: Rig) -> None:
    machine = slow(one, "machine")
    one.outside.things.pop("machine-alice-1-1")
    await one.until_quiet()
    one.clock.pass_by(GRACE)
    await one.until_quiet()
    present = "machine-alice-2-1"
    assert present in one.outside.things
    (ends,) = hang(one, "machine-alice-1-1")
    one.outside.things["machine-alice-1-1"] = {"value": "right", "id": "back again"}
    await look(one)
    assert machine.begun == []  # told, and left alone for the grace
    one.clock.pass_by(GRACE)
    looks = door(one).looks
    await look(one)
    one.outside.things[present]["value"] = "wrong"
    await look(one)
    assert door(one).looks == looks + 2
    assert one.outside.things[present]["value"] == "right"
    assert await one.condition("Machine") == ("True", "InSync")
    assert machine.begun == ["machine-alice-1-1"]  # not a second time while the first is under way
    ends.set()
    await answered(one)
    await one.until_quiet()
    assert "machine-alice-1-1" not in one.outside.things
    told = [event.message for event in await one.store.events("alice")]
    assert "delete machine-alice-1-1" in told  # and not as drift: nothing of what is wanted was wrong


# ------------------------------------------------------------------ in order


async def test_the_gateway_is_answered_for_before_the_machine_is_deleted(one: Rig) -> None:
    (ends,) = hang(one, "gateway-alice-1-1")
    await leave(one)
    for _ in range(3):
        await look(one)
        one.clock.pass_by(POLL)
    assert slow(one, "machine").begun == []
    assert await one.condition("Machine") == ("False", "OperationRunning")
    ends.set()
    await answered(one)
    await one.until_quiet()
    assert one.outside.calls == [
        "delete sign_in_app-alice-1-1",
        "delete gateway-alice-1-1",
        "delete machine-alice-1-1",
    ]
    assert await one.store.tester("alice") is None


async def test_a_gateway_that_cannot_go_does_not_keep_the_machine(one: Rig) -> None:
    slow(one, "gateway").fails = [UNKNOWN] * 100
    await leave(one)
    await one.run_pass()
    await one.run_pass()
    assert await one.condition("Gateway") == ("False", "OutcomeUnknown")
    assert slow(one, "machine").begun == ["machine-alice-1-1"]
    hang(one, "gateway-alice-1-1")
    one.outside.things["machine-alice-1-1"] = {"value": "right", "id": "it was not gone"}
    one.clock.pass_by(GRACE)
    await look(one)
    await look(one)
    assert len(slow(one, "gateway").begun) == 2
    assert len(slow(one, "machine").begun) == 2  # though the gateway's second try has no answer
    await one.engine.operations.aclose()


async def test_a_delete_that_was_answered_is_not_repeated_while_the_listing_may_lag(one: Rig) -> None:
    """Else it would be called again and again, as fast as it is answered. Each further one waits twice as long as the last."""
    called: list[datetime] = []

    async def answers_and_leaves_it_there(action: Action) -> None:
        if action.target == "machine-alice-1-1":
            called.append(one.clock.now())
        one.outside.things["machine-alice-1-1"] = {"value": "right", "id": "it was not gone"}

    one.outside.after.extend([answers_and_leaves_it_there] * 50)
    await leave(one)
    begun = one.clock.now()
    while one.clock.now() - begun < 9 * GRACE:
        wait = await one.run_pass()
        assert wait is not None, "it is still there"
        one.clock.pass_by(max(wait, POLL))
    gaps = [(later - earlier) / GRACE for earlier, later in pairwise(called)]
    assert [floor(gap) for gap in gaps] == [1, 2, 4]
    assert await one.condition("Machine") == ("False", "Removing")
    one.outside.after.clear()
    one.clock.pass_by(8 * GRACE)
    await one.until_quiet()
    assert await one.store.tester("alice") is None


async def test_what_is_deleted_is_gone_only_when_it_is_seen_to_be(one: Rig) -> None:
    slow(one, "machine").fails = [UNKNOWN]
    await leave(one)
    for _ in range(3):
        await one.run_pass()
    assert await one.store.tester("alice") is not None
    assert "machine-alice-1-1" in one.outside.things
    one.clock.pass_by(timedelta(minutes=1))
    await one.until_quiet()
    assert one.outside.things == {}
    assert await one.store.tester("alice") is None


async def test_a_row_is_not_closed_before_its_delete_is_answered_for(one: Rig) -> None:
    """Else the answer would be written over what the books say by then."""
    (ends,) = hang(one, "gateway-alice-1-1")
    await leave(one)
    await look(one)
    one.outside.things.pop("gateway-alice-1-1")
    for _ in range(3):
        await look(one)
        one.clock.pass_by(GRACE)
    assert ("gateway-alice-1-1", ObjectState.RETIRING) in await one.rows("gateway")
    ends.set()
    await answered(one)
    await one.until_quiet()
    assert await one.store.tester("alice") is None


# ------------------------------------------------------------------ failing


async def test_a_delete_that_fails_at_once_is_tried_slower_and_slower_though_its_end_wakes_the_tester(one: Rig) -> None:
    slow(one, "machine").fails = [BUSY] * 1000
    await leave(one)
    waits: list[timedelta] = []
    for _ in range(8):
        begun = len(slow(one, "machine").begun)
        for _ in range(5):  # woken again and again
            await one.run_pass()
        assert len(slow(one, "machine").begun) <= begun + 1
        wait = await one.run_pass()
        assert wait is not None
        waits.append(wait)
        one.clock.pass_by(wait)
    assert waits[-1] > 8 * waits[0]
    assert await one.condition("Machine") == ("False", "Transient")
    states = {row.step: row.state for row in await one.store.objects()}
    assert states["machine"] is ObjectState.EXISTING  # it was refused: nothing was taken away


async def test_a_replaced_object_is_followed_when_its_delete_is_answered_for_or_unknown(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()

    class Replaced(Slow):
        def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
            if observed is not None and observed.fields["value"] == "outdated":
                return (Action("delete", observed.name, Effect.DELETE, limit=LIMIT),)
            return super().plan(desired, observed, facts)

    step = Replaced("machine", outside)
    one = rig(store, clock, [step], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    await one.until_quiet()
    first, second, third = "machine-alice-1-1", "machine-alice-2-1", "machine-alice-3-1"
    outside.things[first]["value"] = "outdated"
    (ends,) = hang(one, first)
    for _ in range(3):
        await look(one)
    assert step.begun == [first]
    assert second not in outside.things  # it may need the name, or the room
    assert await one.condition("Machine") == ("False", "OperationRunning")
    ends.set()
    await answered(one)
    await one.until_quiet()
    assert set(outside.things) == {second}

    outside.things[second]["value"] = "outdated"
    step.fails = [UNKNOWN]
    await one.run_pass()
    await one.run_pass()
    assert {second, third} <= set(outside.things)
    await one.until_quiet()
    assert set(outside.things) == {third}


# ------------------------------------------------------------------ the door


async def cutting(one: Rig) -> Door:
    """The machine does not answer, its door stands open, and the call that cuts it off hangs."""
    gate = door(one)
    gate.open = gate.deaf = True
    await look(one)
    assert gate.did == ["cut"]
    return gate


async def test_that_a_door_is_cut_off_is_in_the_books_before_the_call_is_made(one: Rig) -> None:
    await cutting(one)
    books = await one.store.books("alice")
    assert books is not None
    facts = books.facts["sign_in_gate"]
    assert isinstance(facts, SignInGateFacts)
    assert facts.cut
    await one.engine.operations.aclose()


@pytest.mark.parametrize("leaving", [False, True], ids=["wanted", "leaving"])
async def test_a_door_is_shut_while_its_cutting_off_hangs_and_not_cut_twice(one: Rig, leaving: bool) -> None:
    gate = await cutting(one)
    if leaving:
        await leave(one)
    looks = gate.looks
    await look(one)
    assert (gate.looks, gate.did) == (looks + 1, ["cut"])
    gate.deaf = False  # the machine is back, and its door as open as before
    await look(one)
    assert gate.did == ["cut", "shut"]
    await one.engine.operations.aclose()


async def test_a_door_whose_cutting_off_fails_is_looked_at_and_not_cut_in_circles(one: Rig) -> None:
    gate = await cutting(one)
    gate.cut_fails = BUSY
    gate.cut_ends.set()
    await answered(one)
    looks = gate.looks
    wait = await look(one)  # as its end makes it
    assert (gate.looks, gate.did) == (looks + 1, ["cut"])
    assert await one.condition("SignInGate") == ("False", "Transient")
    assert wait is not None
    one.clock.pass_by(wait)
    await one.run_pass()
    await one.run_pass()
    assert gate.did == ["cut", "cut"]
    gate.deaf = False
    await look(one)
    assert gate.did == ["cut", "cut", "shut"]


async def test_a_cut_without_an_answer_does_not_outlive_its_tester(one: Rig) -> None:
    await cutting(one)
    await leave(one)
    slow(one, "gateway").fails = [BUSY]
    door(one).open = False  # nobody answers at the address any more
    for _ in range(20):
        wait = await look(one)
        deletes = [op.task for op in one.engine.operations.of("alice") if op.step != "sign_in_gate"]
        await asyncio.gather(*(task for task in deletes if task is not None))
        if wait is None:
            break
        one.clock.pass_by(wait)
    assert await one.store.tester("alice") is None
    assert one.engine.operations.of("alice") == []
    assert await one.store.unfinished() == ()
