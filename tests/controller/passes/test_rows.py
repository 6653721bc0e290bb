"""Creates whose answers are lost, listings that lie, names that are taken: the books must come out right (law 2)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from controller.records import JournalEntry, Outcome, PutJournal, PutObject
from controller.store import Store
from reconcilers.actions import Action
from reconcilers.errors import NameTaken, OutcomeUnknown, Transient
from reconcilers.facts import ObjectState, OutsideObject
from tests.controller.fakes import FLEET, GRACE, FakeStep, ManualClock, Outside, Rig, a_tester, failing, rig

UNKNOWN = OutcomeUnknown("no answer within the limit", system="the grid")
SECOND = timedelta(seconds=1)


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    made = rig(store, clock, [FakeStep("machine", outside)], outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


async def test_the_intent_is_committed_before_the_call(one: Rig) -> None:
    seen: list[Any] = []

    async def look(action: Action) -> None:
        seen.extend(await one.rows("machine"))
        seen.extend(entry.outcome for entry in await one.store.unfinished())

    one.outside.before.append(look)
    await one.run_pass()
    assert seen == [("machine-alice-1-1", ObjectState.INTENDED), Outcome.BEGUN]
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.EXISTING)]
    assert await one.store.unfinished() == ()


async def test_what_a_create_returned_is_stored_with_its_end(one: Rig) -> None:
    await one.run_pass()
    (row,) = await one.store.objects("machine")
    assert row.identity == {"id": "1"}
    books = await one.store.books("alice")
    assert books is not None
    assert books.facts["machine"].model_dump()["vm_id"] == "1"


async def test_an_effect_whose_answer_was_lost_is_found_and_not_doubled(one: Rig) -> None:
    one.outside.after.append(failing(UNKNOWN))
    await one.run_pass()
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.INTENDED)]
    one.clock.pass_by(SECOND * 5)
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-1-1"]
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.EXISTING)]
    assert "FoundAfterAll" in await one.told()


async def test_until_the_deadline_absence_proves_nothing(one: Rig) -> None:
    one.outside.before.append(failing(UNKNOWN))
    await one.run_pass()
    one.clock.pass_by(GRACE - SECOND)
    await one.run_pass()
    assert one.outside.calls == []
    assert await one.condition("Machine") == ("False", "OutcomeUnknown")


async def test_after_the_deadline_the_next_attempt_has_a_new_name_and_the_old_one_is_deleted_should_it_appear(
    one: Rig,
) -> None:
    one.outside.before.append(failing(UNKNOWN))
    await one.run_pass()
    one.clock.pass_by(GRACE + SECOND)
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-1-2"]
    assert await one.rows("machine") == [
        ("machine-alice-1-1", ObjectState.LOST),
        ("machine-alice-1-2", ObjectState.EXISTING),
    ]
    one.outside.things["machine-alice-1-1"] = {"value": "right", "id": "late"}
    await one.until_quiet()
    assert set(one.outside.things) == {"machine-alice-1-2"}
    assert ("machine-alice-1-1", ObjectState.GONE) in await one.rows("machine")


async def test_a_lost_attempt_is_watched_for_a_day_only(one: Rig) -> None:
    one.outside.before.append(failing(UNKNOWN))
    await one.run_pass()
    one.clock.pass_by(GRACE + SECOND)
    await one.until_quiet()
    one.clock.pass_by(timedelta(days=1, hours=1))
    await one.until_quiet()
    assert ("machine-alice-1-1", ObjectState.GONE) in await one.rows("machine")


async def test_a_refused_create_is_tried_again_under_the_same_name(one: Rig) -> None:
    one.outside.before.append(failing(Transient("busy", system="the grid")))
    await one.run_pass()
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.GONE)]
    one.clock.pass_by(SECOND * 10)
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-1-1"]
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.EXISTING)]


async def test_a_taken_name_leads_to_the_next_attempt_at_once(one: Rig) -> None:
    one.outside.before.append(failing(NameTaken("held by a stranger", system="the grid")))
    await one.run_pass()
    assert one.outside.calls == ["create machine-alice-1-2"]


async def test_a_taken_name_that_the_spec_gives_is_the_specs_mistake(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside, fixed_name="cloud")], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    one.outside.before.append(failing(NameTaken("held by a stranger", system="the grid")))
    await one.run_pass()
    assert await one.condition("Machine") == ("False", "NameTaken")
    assert await one.condition("Stalled") == ("True", "NameTaken")


async def test_a_listing_that_omits_it_for_less_than_the_grace_changes_nothing(one: Rig) -> None:
    await one.until_quiet()
    one.outside.hidden.add("machine-alice-1-1")
    one.clock.pass_by(timedelta(minutes=10))
    await one.run_pass()
    assert await one.condition("Machine") == ("False", "Missing")
    one.outside.hidden.clear()
    one.clock.pass_by(GRACE - SECOND)
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-1-1"]
    assert await one.condition("Machine") == ("True", "InSync")


async def test_what_is_missing_for_longer_is_made_anew_and_the_old_one_is_deleted_when_it_shows_again(one: Rig) -> None:
    await one.until_quiet()
    one.outside.hidden.add("machine-alice-1-1")
    one.clock.pass_by(timedelta(minutes=10))
    await one.run_pass()
    one.clock.pass_by(GRACE)
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-1-1", "create machine-alice-2-1"]
    one.outside.hidden.clear()
    await one.until_quiet()
    assert set(one.outside.things) == {"machine-alice-2-1"}


async def test_when_too_many_are_missing_in_one_look_nothing_is_repaired(one: Rig) -> None:
    names = ["alice", "bob", "carol", "dora"]
    for name in names[1:]:
        await one.add(a_tester(name))
    for name in names:
        await one.until_quiet(name)
    one.outside.things.clear()
    one.outside.calls.clear()
    for _ in range(5):
        one.clock.pass_by(timedelta(minutes=10))
        for name in names:
            await one.run_pass(name)
    assert one.outside.calls == []
    assert await one.condition("Machine") == ("False", "TooManyLost")
    assert await one.condition("Stalled") == ("True", "TooManyLost")


async def test_an_operation_runs_beside_the_pass_and_its_end_is_in_the_books(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside, limit=timedelta(minutes=5))], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    begun, end = asyncio.Event(), asyncio.Event()

    async def take_long(action: Action) -> None:
        begun.set()
        await end.wait()

    outside.before.append(take_long)
    await one.engine.look("alice")
    await begun.wait()
    assert await one.condition("Machine") == ("False", "OperationRunning")
    await one.engine.look("alice")
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.INTENDED)]
    end.set()
    await one.run_pass()
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.EXISTING)]
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-1-1"]


async def test_an_operation_that_is_cut_off_leaves_an_unknown_that_is_looked_for(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside, limit=timedelta(minutes=5))], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    begun = asyncio.Event()

    async def take_too_long(action: Action) -> None:
        begun.set()
        await asyncio.Event().wait()

    outside.before.append(take_too_long)
    await one.engine.look("alice")
    await begun.wait()
    await one.engine.operations.aclose()  # as SIGTERM does
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.INTENDED)]
    one.clock.pass_by(timedelta(minutes=5) + GRACE + SECOND)
    await one.until_quiet()
    assert len(outside.things) == 1


async def test_a_create_that_had_to_wait_for_its_turn_is_given_the_grace_from_its_end(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside, limit=timedelta(minutes=5))], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))

    async def queued_and_then_lost(action: Action) -> None:
        clock.pass_by(timedelta(minutes=9))
        raise UNKNOWN

    outside.before.append(queued_and_then_lost)
    await one.run_pass()
    clock.pass_by(GRACE - SECOND)
    await one.run_pass()
    assert outside.calls == []
    clock.pass_by(SECOND * 10)
    await one.until_quiet()
    assert outside.calls == ["create machine-alice-1-2"]


async def test_a_create_begun_before_a_crash_may_still_have_its_effect_for_its_whole_limit(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside, limit=timedelta(minutes=5))], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    began = asyncio.Event()

    async def hang(action: Action) -> None:
        began.set()
        await asyncio.Event().wait()

    outside.before.append(hang)
    await one.engine.look("alice")
    await began.wait()
    clock.pass_by(timedelta(minutes=6))  # it waited for its turn all that time; then the process dies
    again = rig(store, clock, [FakeStep("machine", outside, limit=timedelta(minutes=5))], outside)
    await again.engine.adopt(FLEET)
    await again.engine.recover(lambda name: True)
    clock.pass_by(timedelta(minutes=4))
    await again.run_pass()
    assert outside.calls == []
    assert await again.condition("Machine") == ("False", "OutcomeUnknown")
    clock.pass_by(timedelta(minutes=4))
    await again.until_quiet()
    assert outside.calls == ["create machine-alice-1-2"]
    await one.engine.operations.aclose()


async def test_after_a_crash_the_longest_of_a_steps_calls_counts_for_its_rows(one: Rig) -> None:
    """A delete of the predecessor and a create may have been under way at once, in whatever order they were begun."""
    now, limit = one.clock.now(), timedelta(minutes=5)
    row = OutsideObject("alice", "machine", 2, 1, "second", ObjectState.INTENDED, since=now, deadline=now)
    entries = [
        JournalEntry(f"{n:032x}", "alice", "machine", verb, verb, now + timedelta(seconds=n), limit_at=now + span)
        for n, (verb, span) in enumerate([("create", limit), ("delete", timedelta(seconds=90))])
    ]
    await one.store.write(PutObject(row), *(PutJournal(entry) for entry in entries))
    one.clock.pass_by(timedelta(minutes=1))
    await one.engine.recover(lambda name: True)
    (found,) = await one.store.objects("machine")
    assert found.deadline == one.clock.now() + limit
