"""One step's turn under attack: racing steps, mistakes of ours, pauses, refusals, taken names, strangers' things."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from controller.passes.turn import MOST_NAMES
from controller.records import Change, Outcome, PutJournal, PutTester
from controller.store import Store
from reconcilers.actions import Action, Effect, Step, Wait
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, NameTaken, OutcomeUnknown, Rejected, Transient
from reconcilers.facts import Facts, MachineFacts, ObjectState
from reconcilers.looks import TesterLooks
from specs.desired import DesiredTester
from tests.controller.fakes import (
    FLEET,
    GRACE,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    RotatingStep,
    Seen,
    a_tester,
    failing,
    record_of,
    rig,
)

POLL = FLEET.spec.timing.poll
CEILING = FLEET.spec.timing.backoff_ceiling
PAUSE = {"reason": "demo on Friday", "by": "mik"}


async def started(store: Store, clock: ManualClock, *steps: FakeStep) -> Rig:
    made = rig(store, clock, list(steps), steps[0].outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


async def test_who_waits_for_a_step_that_is_left_alone_does_not_wait_for_ever(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(
        store, clock, FakeStep("machine", outside), RotatingStep("sign_in_app", outside, needs=("machine",))
    )
    await one.until_quiet()
    one.steps["machine"].error = Transient("no route", system="the grid")
    wait = await one.run_pass()
    assert wait is not None
    outside.things["sign_in_app-alice-1-1"]["value"] = "wrong"

    async def the_next_try_comes_due() -> None:
        clock.pass_by(wait)

    one.steps["sign_in_app"].on_observe = the_next_try_comes_due
    async with asyncio.timeout(20):
        await one.run_pass()
    assert await one.condition("SignInApp") == ("False", "WaitsForStep")


async def test_a_mistake_of_ours_in_one_step_does_not_end_the_turns_of_others(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    gate = FakeStep("sign_in_gate", outside, fixed_name="gate")
    one = await started(store, clock, gate, FakeStep("machine", outside))
    one.steps["machine"].error = TypeError("the password is hunter2")
    await one.run_pass()
    assert outside.calls == ["create gate"]
    assert await one.condition("SignInGate") == ("True", "InSync")
    assert await one.condition("Machine") == ("False", "InternalError")
    texts = [event.message for event in await store.events("alice")] + [c.message for c in await store.conditions()]
    assert not any("hunter2" in text for text in texts)


async def test_what_a_step_needs_may_be_taken_back_while_it_looks(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    gateway = FakeStep("gateway", outside, needs=("machine",))
    gateway.wanted = lambda facts: facts.need(MachineFacts).vm_name and "right"
    one = await started(store, clock, FakeStep("machine", outside), gateway)
    await one.until_quiet()
    outside.hidden.add("machine-alice-1-1")
    clock.pass_by(timedelta(minutes=10))
    await one.run_pass()
    clock.pass_by(GRACE)
    lost = asyncio.Event()

    async def fail(action: Action) -> None:
        lost.set()
        raise Transient("busy", system="the grid")

    async def until_lost() -> None:
        await lost.wait()

    outside.before.append(fail)
    gateway.on_observe = until_lost
    async with asyncio.timeout(20):
        await one.run_pass()
    assert await one.condition("Gateway") == ("Unknown", "WaitsForStep")
    assert await one.condition("Machine") == ("False", "Transient")


async def test_in_a_pause_nothing_is_renamed_and_no_leftover_is_deleted(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside), FakeStep("gateway", outside, fixed_name="cloud"))
    outside.before.append(failing(OutcomeUnknown("cut", system="the grid")))
    await one.run_pass()
    clock.pass_by(GRACE)
    await one.until_quiet()
    (lost,) = await store.objects(states=frozenset({ObjectState.LOST}))
    await store.write(PutTester(record_of(a_tester("alice", paused=PAUSE), generation=2)))
    outside.things[lost.name] = {"value": "right", "id": "late"}
    one.steps["gateway"].fixed_name = "sky"
    outside.calls.clear()
    before = await store.objects()
    await one.run_pass()
    assert outside.calls == []
    assert await store.objects() == before


@pytest.mark.parametrize("limit", [None, timedelta(minutes=5)])
@pytest.mark.parametrize("error", [Rejected("no such image", system="grid"), Blocked("not allowed", system="grid")])
async def test_a_refused_call_is_not_repeated_because_another_step_polls(
    store: Store, clock: ManualClock, error: Exception, limit: timedelta | None
) -> None:
    outside = Outside()
    waits = FakeStep("account", outside)
    waits.wait = Wait("Starting", "it is starting", timedelta(hours=1), "Forge")
    machine = FakeStep("machine", outside, limit=limit)
    one = await started(store, clock, waits, machine)

    async def refuse(action: Action) -> None:
        outside.before.append(refuse)
        if action.target.startswith("machine"):
            raise error

    outside.before.append(refuse)
    for _ in range(6):
        await one.run_pass()
        clock.pass_by(POLL)
    tries = [entry for entry in await store.journal("alice") if entry.step == "machine"]
    assert len(tries) == 1
    assert (await one.condition("Stalled"))[0] == "True"
    record = await store.tester("alice")
    assert record is not None
    assert record.phase == "Stalled"
    outside.before.clear()
    await store.write(PutTester(record_of(a_tester("alice", allowlist=["bob"]), generation=2)))
    await one.run_pass()
    await one.run_pass()
    assert await one.condition("Machine") == ("True", "InSync")


async def test_a_refused_step_that_is_left_alone_writes_nothing(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside))
    outside.before.append(failing(Rejected("no such image", system="grid")))
    await one.run_pass()
    commits = store.commits
    clock.pass_by(POLL)
    await one.run_pass()
    assert store.commits == commits


@pytest.mark.parametrize("limit", [None, timedelta(minutes=5)])
async def test_names_are_not_tried_for_ever(store: Store, clock: ManualClock, limit: timedelta | None) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside, limit=limit))
    outside.before.extend([failing(NameTaken("held", system="the grid"))] * 100)
    for _ in range(MOST_NAMES + 2):
        wait = await one.run_pass()
    assert len(outside.before) == 100 - MOST_NAMES
    assert await one.condition("Machine") == ("False", "NameTaken")
    assert wait is not None
    assert wait > timedelta(0)
    outside.before.clear()
    clock.pass_by(timedelta(minutes=1))
    await one.until_quiet()
    assert await one.condition("Machine") == ("True", "InSync")


async def test_an_operation_that_keeps_failing_is_tried_more_and_more_seldom(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside, limit=timedelta(minutes=5)))
    outside.before.extend([failing(Transient("busy", system="the grid"))] * 6)
    waits = []
    for _ in range(5):
        await one.run_pass()  # begins, and it fails beside the pass
        wait = await one.run_pass()
        assert wait is not None
        waits.append(wait)
        clock.pass_by(wait)
    assert waits[-1] > waits[0] * 6


class Replacing(FakeStep):
    """What is of another kind is replaced, as a gateway that leads elsewhere is."""

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        if desired is not None and observed is not None and observed.fields["value"] == "elsewhere":
            return (Action("delete", observed.name, Effect.DELETE),)
        return super().plan(desired, observed, facts)


async def test_what_our_books_do_not_know_is_not_deleted(store: Store, clock: ManualClock) -> None:
    outside = Outside({"cloud": {"value": "elsewhere", "id": "of a stranger"}})
    one = await started(store, clock, Replacing("gateway", outside, fixed_name="cloud"))
    await one.run_pass()
    assert outside.calls == []
    assert await one.condition("Gateway") == ("False", "NotOurs")


async def test_what_is_ours_is_replaced_in_one_pass(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, Replacing("gateway", outside))

    async def wrong(action: Action) -> None:
        outside.things["gateway-alice-1-1"]["value"] = "elsewhere"

    outside.after.append(wrong)
    await one.run_pass()
    assert outside.calls == ["create gateway-alice-1-1", "delete gateway-alice-1-1", "create gateway-alice-2-1"]
    assert (await store.objects("gateway"))[0].identity["id"] == "1"


async def test_a_listing_that_lags_behind_a_create_is_waited_for(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside))

    async def lag(action: Action) -> None:
        outside.hidden.add("machine-alice-1-1")

    outside.after.append(lag)
    await one.run_pass()
    assert await one.condition("Machine") == ("False", "Missing")
    outside.hidden.clear()
    await one.until_quiet()
    assert outside.calls == ["create machine-alice-1-1"]


async def test_a_change_of_the_spec_is_not_told_as_drift(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    machine = FakeStep("machine", outside)
    one = await started(store, clock, machine)
    await one.until_quiet()
    machine.wanted = lambda facts: "bigger"
    await store.write(PutTester(record_of(a_tester("alice", allowlist=["bob"]), generation=2)))
    await one.run_pass()
    told = await store.events("alice")
    assert any(event.reason == "Changed" and event.message.startswith("change ") for event in told)
    assert not any(event.message.startswith("drift") for event in told)


async def test_a_leftover_that_cannot_go_is_not_hammered(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside))
    outside.before.append(failing(OutcomeUnknown("cut", system="the grid")))
    await one.run_pass()
    clock.pass_by(GRACE)
    await one.until_quiet()
    outside.things["machine-alice-1-1"] = {"value": "right", "id": "late"}
    outside.before.extend([failing(Transient("relay: 502", system="the grid"))] * 50)
    for _ in range(3):
        wait = await one.run_pass()
    assert wait is not None
    assert wait > CEILING / 2
    assert await one.condition("Machine") == ("True", "InSync")


async def test_what_was_answered_is_written_down_even_if_the_pass_is_cancelled_at_that_moment(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside))
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def slow(moment: str, changes: tuple[Change, ...]) -> None:
        if any(isinstance(c, PutJournal) and c.entry.outcome is Outcome.DONE for c in changes):
            writing.set()
            await go_on.wait()

    store.hooks.append(slow)
    task = asyncio.ensure_future(one.run_pass())
    await writing.wait()
    task.cancel()
    go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    store.hooks.clear()
    await store.write(PutTester(record_of(a_tester("alice"))))  # takes its turn after the one that was under way
    (row,) = await store.objects("machine")
    assert (row.state, row.identity) == (ObjectState.EXISTING, {"id": "1"})
    assert await store.unfinished() == ()


async def test_a_call_that_is_cut_off_is_unknown_and_its_object_is_found(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside))
    begun = asyncio.Event()

    async def hang(action: Action) -> None:
        begun.set()
        await asyncio.Event().wait()

    outside.after.append(hang)
    task = asyncio.ensure_future(one.run_pass())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (entry,) = await store.journal("alice")
    assert entry.outcome is Outcome.UNKNOWN
    clock.pass_by(POLL)
    await one.until_quiet()
    assert outside.calls == ["create machine-alice-1-1"]


async def test_what_a_clock_wrote_down_before_it_was_set_back_does_not_hold_up(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside))
    clock.pass_by(timedelta(days=2))
    one.steps["machine"].error = Transient("busy", system="the grid")
    await one.run_pass()
    one.steps["machine"].error = None
    clock.pass_by(-timedelta(days=2))
    await one.run_pass()
    assert await one.condition("Machine") == ("True", "InSync")


async def test_a_rename_makes_the_new_one_and_the_old_one_goes(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    step = FakeStep("gateway", outside, fixed_name="cloud")
    one = await started(store, clock, step)
    await one.until_quiet()
    step.fixed_name = "sky"
    record = await store.tester("alice")
    assert record is not None
    await store.write(PutTester(replace(record, generation=2)))
    await one.until_quiet()
    assert set(outside.things) == {"sky"}
    assert await one.rows("gateway") == [("cloud", ObjectState.GONE), ("sky", ObjectState.EXISTING)]


async def test_a_slow_step_is_waited_for_by_what_may_only_be_done_with_it(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(
        store, clock, FakeStep("machine", outside), RotatingStep("sign_in_app", outside, needs=("machine",))
    )
    await one.until_quiet()
    outside.things["sign_in_app-alice-1-1"]["value"] = "wrong"

    async def slow() -> None:
        async with asyncio.timeout(10):
            while "wrong" not in str(await store.facts_of_all(("sign_in_app",))):  # noqa: ASYNC110 - a row sets no event
                await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)  # by now it asks how this step's turn ends

    one.steps["machine"].on_observe = slow
    outside.calls.clear()
    await one.run_pass()
    assert outside.calls == ["rotate sign_in_app-alice-1-1"]


class Answers(FakeStep):
    """Looks as those do whose question many testers share; `silent`: nobody answers any more."""

    silent = False
    asked = 0

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen | None:
        async def ask() -> str:
            self.asked += 1
            if self.silent:
                raise Transient("no route", system="the machine")
            return "there"

        looks.oldest = (await looks.shared.read("machine", looks.newer_than, ask)).taken_at
        return await super().observe(tester, looks)


async def test_nothing_is_rotated_on_the_word_of_a_look_from_before_the_pass(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    machine = Answers("machine", outside)
    one = await started(store, clock, machine, RotatingStep("sign_in_app", outside, needs=("machine",)))
    await one.until_quiet()
    await one.run_pass()
    clock.pass_by(FLEET.spec.timing.look_age / 3)
    machine.silent = True
    outside.things["sign_in_app-alice-1-1"]["value"] = "wrong"
    outside.calls.clear()
    asked = machine.asked
    await one.run_pass()
    assert outside.calls == []
    assert machine.asked == asked + 1
    assert await one.condition("SignInApp") == ("False", "WaitsForStep")
    machine.silent = False
    clock.pass_by(POLL)
    await one.run_pass()
    assert outside.calls == ["rotate sign_in_app-alice-1-1"]


async def test_an_absence_shorter_than_the_grace_proves_nothing_however_often_it_is_seen(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = await started(store, clock, FakeStep("machine", outside))
    await one.until_quiet()
    outside.hidden.add("machine-alice-1-1")
    for _ in range(3):
        await one.run_pass()
        clock.pass_by(GRACE / 4)
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.EXISTING)]
    outside.hidden.clear()
    await one.until_quiet()
    outside.before.append(failing(OutcomeUnknown("cut", system="the grid")))
    await store.write(PutTester(record_of(a_tester("alice"), generation=2, removed_at=clock.now())))
    await one.run_pass()
    outside.hidden.add("machine-alice-1-1")
    for _ in range(3):
        await one.run_pass()
        clock.pass_by(GRACE / 4)
    assert await store.tester("alice") is not None
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.RETIRING)]


async def test_after_a_write_only_newer_looks_will_do(store: Store, clock: ManualClock) -> None:
    demanded: list[datetime | None] = []

    class Looking(FakeStep):
        async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen | None:
            demanded.append(looks.newer_than)
            clock.pass_by(timedelta(seconds=1))
            return await super().observe(tester, looks)

    outside = Outside()
    one = await started(store, clock, Looking("machine", outside))
    began = clock.now()
    await one.run_pass()
    assert demanded[0] is not None
    assert demanded[0] >= began - POLL / 2  # not in sync: as new as every poll can be
    assert demanded[1] is not None
    assert demanded[1] > began
    made = (await store.objects("machine"))[0].since
    await one.until_quiet()
    assert demanded[-1] == made  # in sync: newer than what was last done to the object


async def test_one_look_answers_all_steps_of_a_pass_however_long_it_takes(store: Store, clock: ManualClock) -> None:
    demanded: dict[str, list[datetime | None]] = {"machine": [], "gateway": []}

    class Slow(FakeStep):
        async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen | None:
            demanded[self.name].append(looks.newer_than)
            clock.pass_by(POLL)
            return await super().observe(tester, looks)

    outside = Outside()
    gateway = Slow("gateway", outside, needs=("machine",))
    gateway.wait = Wait("Slow", "it takes its time", timedelta(hours=1), "the grid")
    one = await started(store, clock, Slow("machine", outside), gateway)
    for _ in range(2):
        began = clock.now()
        demanded["gateway"].clear()
        await one.run_pass()
        assert demanded["gateway"][0] is not None
        assert began - POLL / 2 <= demanded["gateway"][0] <= began  # what this pass has seen will do, and nothing older
        clock.pass_by(POLL)


async def test_the_facts_of_what_is_deleted_are_forgotten_before_it_goes(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    one = await started(store, clock, Replacing("gateway", outside))
    await one.until_quiet()
    outside.things["gateway-alice-1-1"]["value"] = "elsewhere"
    outside.before.append(failing(Transient("busy", system="the grid")))
    await one.run_pass()
    books = await store.books("alice")
    assert books is not None
    assert "gateway" not in books.facts
