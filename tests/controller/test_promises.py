"""Room that is given away counts from the moment at which its place was chosen, whatever becomes of the row (lesson 41)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.records import PutObject
from controller.store import Store
from reconcilers.actions import Action
from reconcilers.contract import Ports, TesterView
from reconcilers.errors import OutcomeUnknown
from reconcilers.facts import ObjectState, Promise
from reconcilers.quarantine import PLACED
from tests.controller.fakes import (
    FLEET,
    OTHER_FLEET,
    FakeStep,
    Fault,
    ManualClock,
    Outside,
    Rig,
    Seen,
    a_tester,
    failing,
    rig,
)

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LAG = FLEET.spec.timing.capacity_lag
POLL, GRACE = FLEET.spec.timing.poll, FLEET.spec.timing.listing_grace
ROOM = {"daemon": "gent", "node_sid": "0001", "memory_mb": "8192", "disk_gb": "60"}


class PlacedStep(FakeStep):
    """Says where its thing goes before it makes it, as the machine's does."""

    promised: tuple[Promise, ...] = ()

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        if action.verb == "create":
            await ports.place(ROOM)
            self.promised = await ports.promises()
        return await super().apply(action, tester, ports)


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    made = rig(store, clock, [PlacedStep("machine", outside)], outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


async def ages(one: Rig) -> list[timedelta]:
    """Of what is promised, as a look tells it."""
    assert one.engine.world is not None
    return [promise.age for promise in await one.engine.world.looks.promised()]


def taking(span: timedelta, clock: ManualClock) -> Fault:
    async def fault(action: Action) -> None:
        clock.pass_by(span)

    return fault


async def test_a_promise_is_told_to_whoever_chooses_a_place_and_says_whose_it_is(one: Rig) -> None:
    await one.run_pass()
    step = one.steps["machine"]
    assert isinstance(step, PlacedStep)
    assert step.promised == (Promise("alice", "gent", "0001", 8192, 60, timedelta(0), making=True),)
    assert one.engine.world is not None
    assert [each.making for each in await one.engine.world.looks.promised()] == [False], "it is answered"


async def test_it_grows_old_from_its_choice_on_not_from_the_end_of_the_call(one: Rig) -> None:
    one.outside.after.append(taking(LAG - SECOND, one.clock))
    await one.run_pass()
    assert await ages(one) == [LAG - SECOND]
    one.clock.pass_by(SECOND)
    assert await ages(one) == [LAG], "the readout is believed, as long as before its end"


async def test_a_call_that_waited_for_its_turn_has_only_just_taken_its_room(one: Rig) -> None:
    one.outside.before.append(taking(LAG, one.clock))
    await one.run_pass()
    assert await ages(one) == [timedelta(0)]


async def test_what_is_lost_sight_of_and_found_again_is_not_promised_anew(one: Rig) -> None:
    await one.until_quiet()
    one.clock.pass_by(HOUR)
    (name,) = one.outside.things
    one.outside.hidden.add(name)
    await one.run_pass()
    one.outside.hidden.clear()
    one.clock.pass_by(POLL)
    await one.run_pass()
    (row,) = await one.store.objects("machine")
    assert row.since == one.clock.now(), "the row itself begins anew"
    assert (await ages(one))[0] > HOUR


async def test_what_is_found_after_all_counts_from_its_choice(one: Rig) -> None:
    one.outside.after.append(failing(OutcomeUnknown("cut", system="the grid")))
    await one.run_pass()
    one.clock.pass_by(GRACE / 2)
    await one.run_pass()
    ((_, state),) = await one.rows("machine")
    assert state is ObjectState.EXISTING
    assert await ages(one) == [GRACE / 2]


async def test_a_row_that_does_not_tell_counts_from_its_last_change(one: Rig) -> None:
    await one.until_quiet()
    (row,) = await one.store.objects("machine")
    untold = {key: value for key, value in row.identity.items() if key != PLACED}
    since = one.clock.now() - 3 * SECOND
    await one.store.write(PutObject(replace(row, identity=untold, since=since)))
    assert await ages(one) == [3 * SECOND]
    await one.store.write(PutObject(replace(row, identity={"id": "1"})))
    assert await ages(one) == [], "its place was not chosen yet"


async def test_places_are_chosen_one_at_a_time_also_across_a_change_of_the_fleet(one: Rig) -> None:
    """The calls of the world before go on, and nobody may choose between another's choice and its promise."""
    assert one.engine.world is not None
    before = one.engine.world.looks.placing
    await one.engine.adopt(OTHER_FLEET)
    assert one.engine.world.looks.placing is before


async def test_a_call_that_still_waits_for_its_turn_is_told_to_be_unanswered(one: Rig) -> None:
    one.outside.after.append(failing(OutcomeUnknown("cut", system="the grid")))
    await one.run_pass()
    one.clock.pass_by(LAG)
    assert one.engine.world is not None
    assert [promise.making for promise in await one.engine.world.looks.promised()] == [True]
