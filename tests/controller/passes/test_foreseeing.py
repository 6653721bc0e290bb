"""Before anything of a tester is begun it is asked whether all of it can be; who is let begin has the room meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.passes.foreseeing import Foreseen
from controller.store import Store
from reconcilers.actions import Action
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, Rejected, Transient
from reconcilers.facts import Promise
from reconcilers.looks import TesterLooks
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, Rig, a_tester, rig

LIMIT = FLEET.spec.timing.deploy_limit
ROOM = Promise("alice", "gent", "0001", 8192, 60, timedelta(0), making=True, foreseen=True)


class Machine(FakeStep):
    """Whether it can be made is known before. `refusal`: why not."""

    refusal: Exception | None = None
    asked = 0

    async def foresee(self, tester: TesterView, looks: TesterLooks) -> Promise | None:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return ROOM


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
    machine(one).refusal = Blocked("full", system="compute", reason="NoCapacity")
    await one.run_pass()
    assert machine(one).asked == 1
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


def test_it_ends_with_the_row_that_tells_the_same_or_with_its_time(clock: ManualClock) -> None:
    room = Foreseen()
    room.keep(ROOM, clock.now() + LIMIT)
    placed = Promise("alice", "gent", "0002", 8192, 60, timedelta(0))
    other = Promise("bob", "gent", "0002", 8192, 60, timedelta(0))
    assert room.beside([other], clock.now()) == (other, ROOM)
    assert room.beside([placed], clock.now()) == (placed,)
    assert room.beside([], clock.now() + LIMIT) == ()
